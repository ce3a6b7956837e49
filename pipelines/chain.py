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

# The keys of a runtime that are paths. They are no inputs of a step: the hashes of the files are
PATH_KEYS = ("folder", "source")


def run(config: DictConfig, command: str = "chain") -> None:
    """Evaluate the forms, record them in MLflow, write the table and the report, and apply the gate.

    The report shows the command line, `samebox COMMAND` with its arguments.
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
    config = with_simplified(config) if any(map(needs_onnx, runtimes)) else with_checkpoint(config)
    yield from checked_against_reference(evaluated_form(config, runtime) for runtime in runtimes)


def needs_onnx(runtime: str) -> bool:
    """True if a runtime runs the ONNX file, or what is made from it; false for the checkpoint."""
    return runtimes()[runtime]["folder"] != "${paths.torch}"


def with_checkpoint(config: DictConfig) -> DictConfig:
    """`config` with the path of the checkpoint, after the download of the checkpoint and the data set."""
    check_demo(config)
    config = config.copy()
    inputs = {name: config.detector[name] for name in ("name", "source", "sha256")}
    inputs["archives"] = plain(config.dataset.archives)
    config.paths.torch = run_once(config, "torch", inputs, stages.download.run)
    return config


def check_demo(config: DictConfig) -> None:
    """Raise SameboxError if the detector or the data set is the demo's, which only the repository has."""
    for path in map(str, (config.detector.source, config.dataset.annotations)):
        if path.startswith("demo/"):
            existing(path, "demo/ is in samebox's repository: run there, or give detector= and dataset=")


def with_simplified(config: DictConfig) -> DictConfig:
    """`config` with the paths of the checkpoint, the ONNX file and the simplified file, after these steps."""
    config = with_checkpoint(config)
    paths = config.paths
    inputs = {name: plain(config[name]) for name in ("detector", "dataset", "export")}
    inputs |= file_hash(config, paths.torch, paths.checkpoint_file)
    paths.onnx = run_once(config, "onnx", inputs, stages.export.run)
    inputs = file_hash(config, paths.onnx, paths.onnx_file) | {"simplify": plain(config.simplify)}
    paths.simplified = run_once(config, "simplified", inputs, stages.simplify.run)
    return config


def check_runtimes(names: Sequence[str]) -> None:
    """Raise SameboxError for an empty list, and for a name that is not that of a runtime."""
    known = runtimes()
    if not names or any(name not in known for name in names):
        raise SameboxError(f"runtimes: {list(names)}: name one or more of {', '.join(known)}")


def with_form(config: DictConfig, runtime: str) -> DictConfig:
    """`config` for one form, after the conversion to its precision and the build of its engine, if any."""
    config = config.copy()
    OmegaConf.update(config, "runtime", runtimes()[runtime], force_add=True)
    if "precision" in config.runtime:
        # an engine is built from the file in the precision; a form without an engine runs it
        key = "source" if "flavour" in config.runtime else "folder"
        config.runtime[key] = precision_folder(config, config.runtime.precision)
    if "flavour" in config.runtime:
        source = file_hash(config, config.runtime.source, config.paths.onnx_file)
        inputs = source | {"engine": plain(config.engine), "runtime": runtime, "hardware": hardware()}
        config.runtime.folder = run_once(config, runtime, inputs, stages.engine.run, "runtime.folder")
    return config


def open_runner(config: DictConfig) -> Runner:
    """The opened runner of the form `config.runtime`, after the steps that the form needs.

    Raises SameboxError if this machine cannot run it.
    """
    name = config.runtime.name
    config = with_form(with_simplified(config) if needs_onnx(name) else with_checkpoint(config), name)
    path = artifact(config, config.runtime.folder, config.runtime.file)
    try:
        return instantiate(config.runtime.runner)(config, path).__enter__()
    except NotHere as error:
        raise SameboxError(f"{config.runtime.title}: {error}; name another form with runtime=") from None


def evaluated_form(config: DictConfig, runtime: str) -> EvaluatedForm:
    """One form, after the steps that it needs and its evaluation."""
    config = with_form(config, runtime)
    inputs = {
        "detector": plain(config.detector),
        "dataset": plain(config.dataset),
        "evaluate": plain(config.evaluate),
        "export": {name: config.export[name] for name in ("shape", "masked_norm", "postprocess")},
        "runtime": {name: value for name, value in plain(config.runtime).items() if name not in PATH_KEYS},
        "hardware": hardware(),
    } | file_hash(config, config.runtime.folder, form_file(config))
    folder = run_once(config, "evaluated", inputs, stages.evaluate.run)
    return read_evaluated(Path(folder) / config.detector.name / runtime)


def precision_folder(config: DictConfig, precision: str) -> str:
    """The folder of the simplified file in `precision`, after the conversion."""
    config = config.copy()
    OmegaConf.update(config, "precision", OmegaConf.load(choices("precision")[precision]), force_add=True)
    inputs = {name: plain(config[name]) for name in ("precision", "dataset")}
    inputs |= file_hash(config, config.paths.simplified, config.paths.onnx_file)
    return run_once(config, precision, inputs, stages.precision.run, "precision.folder")


def form_file(config: DictConfig) -> str:
    """The name of a form's file; for an engine that was not built, of the file that states the reason."""
    built = artifact(config, config.runtime.folder, config.runtime.file).exists()
    return config.runtime.file if built else config.paths.not_built_file


def file_hash(config: DictConfig, folder: str, file: str) -> dict[str, str]:
    """The name and the hash of an artifact, as an input of the next step."""
    return {file: sha256(artifact(config, folder, file))}


def run_once(
    config: DictConfig,
    step: str,
    inputs: Mapping[str, Any],
    stage: Callable[[DictConfig], None],
    output: str | None = None,
) -> str:
    """The folder of the step's output for these inputs; `stage` is run if the folder does not exist.

    `output` is the key of the folder that the stage writes to, by default the step's in `paths`. A process
    that needs the same output waits. A run that is killed leaves no folder of the final name.
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
