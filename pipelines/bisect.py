"""Show in which modules two forms of a detector differ, by their outputs on images of the data set.

Usage: samebox bisect [detector=NAME] [from=FORM] [to=FORM] [KEY=VALUE …]

Examples:
    samebox bisect detector=retinanet_shapes from=torch to=simplified
    samebox bisect detector=retinanet_shapes to=int8 precision.method=entropy bisect.images=4
    samebox bisect detector=retinanet_shapes from=model.onnx to=other.onnx out=difference.json
"""

from pathlib import Path

from omegaconf import DictConfig

from pipelines import commands
from pipelines.chain import precision_folder, with_checkpoint, with_simplified
from samebox.coco.dataset import dataset_of
from samebox.comparing.attribution import attribution, attribution_text
from samebox.comparing.module_values import Form, OnnxForm, TorchForm
from samebox.core.errors import SameboxError
from samebox.core.files import existing, write_json
from samebox.core.text import print_text
from samebox.precision.convert import PRECISIONS
from stages.compose import artifact, plain
from stages.networks import load_network

FILES = ("onnx", "simplified", *PRECISIONS)


def run(config: DictConfig) -> None:
    """Compare the modules of the two forms, after the steps that the forms need, and write the figures."""
    check(config)
    images = image_paths(config)
    config = with_forms(config)
    form = OnnxForm(onnx_path(config, config.to))
    result = attribution(reference_form(config, form), form, images, config.bisect.tolerance)
    write_json(config.out, result.as_dict())
    print_text(f"{config.detector.name}: {config['from']} → {config.to}")
    print_text(f"{attribution_text(result)}all figures: {config.out}")


def check(config: DictConfig) -> None:
    """Raise SameboxError for a form whose modules cannot be read, and for a number of images below 1."""
    for key, more in (("from", ("torch",)), ("to", ())):
        name, known = str(config[key]), (*more, *FILES)
        if name not in known and not name.endswith(".onnx"):
            raise SameboxError(
                f"{key}: {name!r} is none of {', '.join(known)}, nor an ONNX file; the modules of an engine "
                "cannot be read: name the file that it is built from"
            )
    if config.bisect.images < 1:
        raise SameboxError(f"bisect.images: {config.bisect.images}: give a number from 1 up")


def with_forms(config: DictConfig) -> DictConfig:
    """`config` with the paths of the steps that the forms need, after these steps; a path needs none."""
    names = {config["from"], config.to}
    if names.intersection(FILES):
        return with_simplified(config)
    return with_checkpoint(config) if "torch" in names else config


def image_paths(config: DictConfig) -> list[Path]:
    """The first images of the data set."""
    dataset = dataset_of(plain(config.dataset))
    return [dataset.path(record) for record in dataset.images[: config.bisect.images]]


def reference_form(config: DictConfig, form: OnnxForm) -> Form:
    """The form `from`; PyTorch's module outputs have the names that they have in `form`."""
    if config["from"] != "torch":
        return OnnxForm(onnx_path(config, config["from"]))
    loaded = load_network(config, artifact(config, config.paths.torch, config.paths.checkpoint_file))
    return TorchForm(loaded.network, loaded.spec, form.modules)


def onnx_path(config: DictConfig, name: str) -> Path:
    """The ONNX file of a form, or at a path."""
    if name not in FILES:
        return existing(name)
    folder = precision_folder(config, name) if name in PRECISIONS else config.paths[name]
    return artifact(config, folder, config.paths.onnx_file)


if __name__ == "__main__":
    commands.bisect()
