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
from pipelines.chain import fetched, precise, simplified
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
    """Make both forms, unless they were made before, compare them, and tell what differs."""
    check(config)
    images = pictures(config)
    config = made(config)
    form = OnnxForm(file(config, config.to))
    result = attribution(reference(config, form), form, images, config.bisect.tolerance)
    write_json(config.out, result.as_dict())
    print_text(f"{config.detector.name}: {config['from']} → {config.to}")
    print_text(f"{attribution_text(result)}all figures: {config.out}")


def check(config: DictConfig) -> None:
    """Raise SameboxError unless `from` and `to` name forms that can be looked into, and there is an image."""
    for key, more in (("from", ("torch",)), ("to", ())):
        named, known = str(config[key]), (*more, *FILES)
        if named not in known and not named.endswith(".onnx"):
            raise SameboxError(
                f"{key}: {named!r} is none of {', '.join(known)}, nor an ONNX file; of an engine, which "
                "cannot be looked into, take the file that it is built from"
            )
    if config.bisect.images < 1:
        raise SameboxError(f"bisect.images: {config.bisect.images}: give a number from 1 up")


def made(config: DictConfig) -> DictConfig:
    """`config` with the paths of the steps that the forms need, which are done. Files need none."""
    asked = {config["from"], config.to}
    if asked.intersection(FILES):
        return simplified(config)
    return fetched(config) if "torch" in asked else config


def pictures(config: DictConfig) -> list[Path]:
    """The first images of the data set."""
    dataset = dataset_of(plain(config.dataset))
    return [dataset.path(record) for record in dataset.images[: config.bisect.images]]


def reference(config: DictConfig, form: OnnxForm) -> Form:
    """The form `from`, its modules' outputs called as `form` calls them."""
    if config["from"] != "torch":
        return OnnxForm(file(config, config["from"]))
    loaded = load_network(config, artifact(config, config.paths.torch, config.paths.checkpoint_file))
    return TorchForm(loaded.network, loaded.spec, form.modules)


def file(config: DictConfig, name: str) -> Path:
    """The ONNX file that `name` is the form or the path of."""
    if name not in FILES:
        return existing(name)
    folder = precise(config, name) if name in PRECISIONS else config.paths[name]
    return artifact(config, folder, config.paths.onnx_file)


if __name__ == "__main__":
    commands.bisect()
