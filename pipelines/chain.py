"""Run all steps in one process, and compare the forms in a table and a report.

A step whose inputs have not changed is not run again.

Usage: samebox chain [detector=NAME] [runtimes=[FORM,…]] [KEY=VALUE …]

Examples:
    samebox chain detector=retinanet_shapes
    samebox chain detector=mask_rcnn_shapes 'runtimes=[torch,simplified,fp16,int8]' precision.count=8
    samebox chain detector=retinanet_shapes export.opset=20 'evaluate.batches=[1]'
"""

import hashlib
import json
import shlex
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

import stages.download
import stages.engine
import stages.evaluate
import stages.export
import stages.precision
import stages.simplify
from pipelines import commands
from samebox.coco.dataset import dataset_of
from samebox.coco.evaluated import EvaluatedForm, read_evaluated
from samebox.comparing.other_canvases import checked_against_reference
from samebox.core.environment import hardware
from samebox.core.errors import NotHere, SameboxError
from samebox.core.files import existing, sha256
from samebox.core.progress import progress
from samebox.core.text import print_text
from samebox.core.versions import versions
from samebox.reporting import text
from samebox.reporting.files import write_report, write_table
from samebox.reporting.section import Section
from samebox.runners.protocol import Runner
from samebox.tracking.detector_runs import track_detector
from stages.compared import compared
from stages.compose import artifact, plain
from stages.runtimes import runtimes
from stages.search import choices
from stages.sections import gate
from stages.track import content_hash, flat_config, tags

# Of a runtime: where its files lie, for which their hashes stand
PLACES = ("folder", "source")


def run(config: DictConfig, command: str = "chain") -> None:
    """Evaluate the forms, record them in MLflow, write the table and the report, and apply the gate.

    `command` is the name in `samebox` of what was called; the report shows it with its arguments.
    """
    forms = list(chain(config, config.runtimes))
    comparisons, dataset = compared(config, forms), dataset_of(plain(config.dataset))
    line = f"samebox {command} {shlex.join(sys.argv[1:])}"
    part = Section(forms, dataset, [line], comparisons.differences, comparisons.intervals, gate(config))
    comparison = part.comparison
    values = dict(flat_config(plain(config)))
    track_detector(
        comparison,
        forms,
        store=f"sqlite:///{config.paths.store}",
        key=content_hash(values, comparison),
        config=values,
        tags=tags(),
        models={},
    )
    folder = Path(config.out)
    write_table(folder, comparison)
    write_report(folder, [part], config.detector.name, config.compare.images, config.compare.score)
    print_text(f"{text.text(comparison)}report: {folder / 'index.html'}")
    gate(config).check(comparison)


def chain(config: DictConfig, runtimes: Sequence[str]) -> Iterator[EvaluatedForm]:
    """Run the steps that the forms need; yield each form, evaluated. The first is the reference."""
    check_runtimes(runtimes)
    config = simplified(config) if any(map(of_onnx, runtimes)) else fetched(config)
    yield from checked_against_reference(form(config, runtime) for runtime in runtimes)


def of_onnx(runtime: str) -> bool:
    """Whether a runtime runs what is made of the ONNX file, and not the checkpoint."""
    return runtimes()[runtime]["folder"] != "${paths.torch}"


def fetched(config: DictConfig) -> DictConfig:
    """`config` with the path of the checkpoint, after the download of it and of the data set."""
    check_demo(config)
    config = config.copy()
    asked = {name: config.detector[name] for name in ("name", "source", "sha256")}
    asked["archives"] = plain(config.dataset.archives)
    config.paths.torch = once(config, "torch", asked, stages.download.run)
    return config


def check_demo(config: DictConfig) -> None:
    """Raise SameboxError if the detector or the data set is the demo's, which only the repository has."""
    for path in map(str, (config.detector.source, config.dataset.annotations)):
        if path.startswith("demo/"):
            existing(path, "demo/ is in samebox's repository: run there, or give detector= and dataset=")


def simplified(config: DictConfig) -> DictConfig:
    """`config` with the paths of the steps up to the simplified file, which are done."""
    config = fetched(config)
    paths = config.paths
    checkpoint = content(config, paths.torch, paths.checkpoint_file)
    asked = {name: plain(config[name]) for name in ("detector", "dataset", "export")}
    paths.onnx = once(config, "onnx", asked | checkpoint, stages.export.run)
    made = content(config, paths.onnx, paths.onnx_file) | {"simplify": plain(config.simplify)}
    paths.simplified = once(config, "simplified", made, stages.simplify.run)
    return config


def check_runtimes(names: Sequence[str]) -> None:
    """Raise SameboxError unless there is a name, and each is that of a runtime."""
    known = runtimes()
    if not names or any(name not in known for name in names):
        raise SameboxError(f"runtimes: {list(names)}: name one or more of {', '.join(known)}")


def ready(config: DictConfig, runtime: str) -> DictConfig:
    """`config` for one form, its precision made and its engine built where it has them."""
    config = config.copy()
    OmegaConf.update(config, "runtime", runtimes()[runtime], force_add=True)
    if "precision" in config.runtime:
        # an engine is built from the file in the precision; a form without an engine runs it
        key = "source" if "flavour" in config.runtime else "folder"
        config.runtime[key] = precise(config, config.runtime.precision)
    if "flavour" in config.runtime:
        source = content(config, config.runtime.source, config.paths.onnx_file)
        inputs = source | {"engine": plain(config.engine), "runtime": runtime, "hardware": hardware()}
        config.runtime.folder = once(config, runtime, inputs, stages.engine.run, "runtime.folder")
    return config


def opened(config: DictConfig) -> Runner:
    """The form `runtime`, entered, with every step before that it needs.

    Raises SameboxError where this machine cannot run it.
    """
    name = config.runtime.name
    config = ready(simplified(config) if of_onnx(name) else fetched(config), name)
    path = artifact(config, config.runtime.folder, config.runtime.file)
    try:
        return instantiate(config.runtime.runner)(config, path).__enter__()
    except NotHere as error:
        raise SameboxError(f"{config.runtime.title}: {error}; name another form with runtime=") from None


def form(config: DictConfig, runtime: str) -> EvaluatedForm:
    """One form, evaluated."""
    config = ready(config, runtime)
    inputs = {
        "detector": plain(config.detector),
        "dataset": plain(config.dataset),
        "evaluate": plain(config.evaluate),
        "export": {name: config.export[name] for name in ("shape", "masked_norm", "postprocess")},
        "runtime": {name: value for name, value in plain(config.runtime).items() if name not in PLACES},
        "hardware": hardware(),
    } | content(config, config.runtime.folder, made(config))
    folder = once(config, "evaluated", inputs, stages.evaluate.run)
    return read_evaluated(Path(folder) / config.detector.name / runtime)


def precise(config: DictConfig, precision: str) -> str:
    """The folder of the simplified file in `precision`."""
    config = config.copy()
    OmegaConf.update(config, "precision", OmegaConf.load(choices("precision")[precision]), force_add=True)
    asked = {name: plain(config[name]) for name in ("precision", "dataset")}
    inputs = asked | content(config, config.paths.simplified, config.paths.onnx_file)
    return once(config, precision, inputs, stages.precision.run, "precision.folder")


def made(config: DictConfig) -> str:
    """The file of a form, or the one that says why an engine was not built here."""
    built = artifact(config, config.runtime.folder, config.runtime.file).exists()
    return config.runtime.file if built else config.paths.not_built_file


def content(config: DictConfig, folder: str, file: str) -> dict[str, str]:
    """The hash of an artifact, which stands for it among the inputs of the next step."""
    return {file: sha256(artifact(config, folder, file))}


def once(
    config: DictConfig,
    step: str,
    inputs: Mapping[str, Any],
    stage: Callable[[DictConfig], None],
    output: str | None = None,
) -> str:
    """The folder in which `stage` left `step` for these inputs, run now unless it was before.

    `output` is the key of the folder that the stage writes to, by default the step's in `paths`. Another
    process that wants the same waits for it. A killed run leaves nothing under the final name.
    """
    digest = hashlib.sha256(json.dumps([step, inputs, versions()], sort_keys=True).encode()).hexdigest()[:16]
    folder = Path(config.work) / step / digest
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_suffix(".lock")):
        if not folder.exists():
            aside = folder.with_suffix(".part")
            shutil.rmtree(aside, ignore_errors=True)
            moved = config.copy()
            OmegaConf.update(moved, output or f"paths.{step}", str(aside))
            with progress(f"{config.detector.name}, {step}"):
                stage(moved)
            aside.rename(folder)
    return str(folder)


if __name__ == "__main__":
    commands.chain()
