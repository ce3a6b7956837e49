"""Convert a config of another framework to conf/detector/NAME.yaml.

Usage: samebox adopt [CONFIG.py or CONFIG.yaml] CHECKPOINT [name=NAME] [overwrite=true]

CONFIG is a config of MMDetection 2 or 3, or a YAML file of detectron2 or maskrcnn-benchmark. It is read as
data: nothing in it is run. Without it, the config that MMDetection wrote into the checkpoint is used.

Examples:
    samebox adopt retinanet.pth
    samebox adopt configs/retinanet_r50_fpn.py retinanet.pth name=mine
    samebox adopt e2e_mask_rcnn_R_50_FPN_1x.yaml model_final.pth name=mine overwrite=true

Options:
    name=NAME          the detector's name (that of CONFIG, else of CHECKPOINT)
    overwrite=true     replace an existing file (false)
"""

import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hydra
import yaml
from omegaconf import DictConfig, OmegaConf

from pipelines import commands
from samebox.adopt import detectron2, maskrcnn_benchmark, mmdetection
from samebox.adopt.configs.python_files import embedded_config, python_config
from samebox.adopt.configs.yaml_files import yaml_config
from samebox.adopt.delta import delta
from samebox.adopt.result import AdoptedConfig
from samebox.checkpoints.unpickle import Checkpoint, read_checkpoint
from samebox.core.errors import SameboxError
from samebox.core.files import existing, sha256, write_text
from samebox.core.text import print_text
from stages import compose, search
from stages.networks import load_network

USAGE = "usage: samebox adopt [CONFIG.py or CONFIG.yaml] CHECKPOINT [name=NAME] [overwrite=true]"


@dataclass(frozen=True)
class Request:
    """The arguments of the command. Without `config`, the checkpoint holds it."""

    config: Path | None
    checkpoint: Path
    name: str
    overwrite: bool = False

    @classmethod
    def from_arguments(cls, arguments: Sequence[str]) -> "Request":
        """Raises SameboxError for arguments that differ from USAGE."""
        parts = [argument.partition("=") for argument in arguments]
        options = {key: value for key, equals, value in parts if equals and key in ("name", "overwrite")}
        paths = [Path("".join(part)) for part in parts if part[0] not in options]
        for path in paths:
            if "=" in path.name and not path.exists():
                raise SameboxError(f"{path}: no such option, and no such file; {USAGE}")
        if len(paths) not in (1, 2):
            raise SameboxError(f"{len(paths)} paths given; {USAGE}")
        if options.get("overwrite", "false") not in ("true", "false"):
            raise SameboxError(f"overwrite: {options['overwrite']!r} is not true or false")
        name = options.get("name", config_name(paths[0]))
        if not re.fullmatch(r"\w[\w.-]*", name):
            raise SameboxError(f"name: {name!r}: use only letters, digits, dots and dashes")
        config = paths[0] if len(paths) == 2 else None
        return cls(config, paths[-1], name, options.get("overwrite") == "true")


def config_name(path: Path) -> str:
    """The name of a config about the file: its stem, with _ in place of other characters."""
    return re.sub(r"[^\w.-]", "_", path.stem)


def run(request: Request) -> None:
    """Write conf/detector/NAME.yaml from the config, and check it against the checkpoint before."""
    target = search.OWN / "detector" / f"{request.name}.yaml"
    if target.exists() and not request.overwrite:
        raise SameboxError(f"{target}: exists; give another name=NAME, or overwrite=true")
    checkpoint = read_checkpoint(existing(request.checkpoint))
    source, adopted = read(request, checkpoint)
    text = detector_text(request, checkpoint, source, adopted, dataset_of(checkpoint, source, adopted))
    write_text(target, text)
    print_text(
        "\n".join([*adopted.remarks, f"{target}: {adopted.family}; run it with detector={request.name}"])
    )


def read(request: Request, checkpoint: Checkpoint) -> tuple[str, AdoptedConfig]:
    """The name of the source config, and what was adopted from it. Raises SameboxError if there is none."""
    config = request.config
    if config is None:
        if (text := embedded_text(checkpoint)) is None:
            raise SameboxError(f"{checkpoint.path}: holds no config; name its file as well: {USAGE}")
        source = f"the config in {checkpoint.path.name}"
        return source, mmdetection.adopt(embedded_config(text, source), source)
    if config.suffix == ".py":
        return config.name, mmdetection.adopt(python_config(config), str(config))
    if config.suffix in (".yaml", ".yml"):
        return config.name, read_yaml(config)
    raise SameboxError(f"{config}: neither .py nor .yaml; {USAGE}")


def embedded_text(checkpoint: Checkpoint) -> str | None:
    """The config that MMDetection wrote into the checkpoint; None if there is none."""
    text = checkpoint.meta.get("cfg", checkpoint.meta.get("config"))
    return text if isinstance(text, str) else None


def read_yaml(path: Path) -> AdoptedConfig:
    """What was adopted from a YAML config. Keys that only one framework has tell which framework it is of."""
    config = yaml_config(path)
    model = config.get("MODEL")
    if not isinstance(model, dict):
        raise SameboxError(f"{path}: has no section MODEL; name a config of detectron2 or maskrcnn-benchmark")
    parts = {name: part if isinstance(part, dict) else {} for name, part in model.items()}
    benchmark = "CONV_BODY" in parts.get("BACKBONE", {}) or "USE_FPN" in parts.get("RPN", {})
    return (maskrcnn_benchmark if benchmark else detectron2).adopt(config, str(path))


def detector_text(
    request: Request, checkpoint: Checkpoint, source: str, adopted: AdoptedConfig, dataset: str
) -> str:
    """The text of the detector's config. Raises SameboxError if the checkpoint does not fit its network."""
    record = detector(request, checkpoint, source, adopted, dataset)
    check_fits(record, adopted.family, dataset, request.checkpoint)
    defaults = [
        f"/family/{adopted.family}@_here_",
        f"override /dataset@_global_.dataset: {dataset}",
        "_self_",
    ]
    lines = [f"# Adopted from {source}", "defaults:", *(f"  - {line}" for line in defaults)]
    body = yaml.dump(record, Dumper=_Dumper, sort_keys=False, default_flow_style=None, allow_unicode=True)
    return "\n".join([*lines, body])


def detector(
    request: Request, checkpoint: Checkpoint, source: str, adopted: AdoptedConfig, dataset: str
) -> dict[str, Any]:
    """The detector's record, and its keys that differ from its family.

    Raises SameboxError if the number of classes and the number of their names differ.
    """
    names = checkpoint.class_names or adopted.class_names
    if names and adopted.num_classes != len(names):
        raise SameboxError(
            f"{source}: num_classes is {adopted.num_classes}, but {len(names)} classes are named by "
            f"{checkpoint.path}; name the config that this checkpoint was trained with"
        )
    record: dict[str, Any] = {
        "name": request.name,
        "source": str(request.checkpoint),
        "sha256": sha256(request.checkpoint),
        "licence": "unknown",
        "published": {},
    }
    if names and not checkpoint.class_names:
        record["class_names"] = list(names)
    family = family_config(adopted.family)
    raw: Any = OmegaConf.to_container(family)
    resolved = compose.plain(OmegaConf.create({"detector": family, "dataset": dataset_config(dataset)}))
    return record | delta(adopted.values, raw, resolved["detector"])


def family_config(name: str) -> DictConfig:
    """A choice of conf/family, by itself; keys can be added to it."""
    with hydra.initialize_config_dir(str(search.CONF), version_base="1.3"):
        family = hydra.compose(f"family/{name}").family
    OmegaConf.set_struct(family, False)
    return family


def dataset_config(name: str) -> DictConfig:
    """A choice of conf/dataset."""
    return compose.compose("download", [f"dataset={name}"]).dataset


def dataset_of(checkpoint: Checkpoint, source: str, adopted: AdoptedConfig) -> str:
    """The choice of conf/dataset with the detector's classes; with as many, if the classes have no names.

    Test sets, which have no annotations, do not count. Raises SameboxError if there is none.
    """
    names = checkpoint.class_names or adopted.class_names
    stuff_difference = {}
    for choice in search.choices("dataset"):
        dataset = dataset_config(choice)
        if dataset.get("test"):
            continue
        class_names = tuple(dataset.class_names)
        if class_names == names or (names is None and len(class_names) == adopted.num_classes):
            stuff = len(dataset.get("stuff_class_names", ()))
            stuff_difference[choice] = abs(stuff - adopted.num_stuff_classes)
    if not stuff_difference:
        classes = f"these {len(names)} classes" if names else f"{adopted.num_classes} classes without names"
        raise SameboxError(
            f"{source}: no data set of conf/dataset has {classes}; add one with its class_names"
        )
    return min(stuff_difference, key=stuff_difference.__getitem__)


def check_fits(record: dict[str, Any], family: str, dataset: str, checkpoint: Path) -> None:
    """Raise SameboxError if the checkpoint does not fit the network of the record."""
    config = compose.compose("export", [f"dataset={dataset}"])
    config.detector = OmegaConf.merge(family_config(family), record)
    load_network(config, checkpoint)


class _Dumper(yaml.SafeDumper):
    """Writes a value that occurs twice in full both times, without an alias."""

    def ignore_aliases(self, data: Any) -> bool:
        """True for every value."""
        return True


def main() -> None:
    """Adopt the config that the command line names."""
    run(Request.from_arguments(sys.argv[1:]))


if __name__ == "__main__":
    commands.adopt()
