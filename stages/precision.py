"""Convert the simplified ONNX file to another precision."""

from pathlib import Path

from omegaconf import DictConfig

from samebox.core.errors import SameboxError
from samebox.core.files import write_json
from samebox.core.text import print_text
from samebox.media.folders import images_in
from samebox.precision.convert import convert_precision
from samebox.precision.quantized import Calibration
from samebox.precision.rule import PrecisionRule
from stages.compose import artifact, main, plain


def run(config: DictConfig) -> None:
    """Write the file in the precision, and beside it a report of what its nodes compute in."""
    target = artifact(config, config.precision.folder, config.paths.onnx_file)
    report = convert_precision(
        artifact(config, config.paths.simplified, config.paths.onnx_file),
        target,
        config.precision.name,
        rule(config),
        images(Path(config.precision.images or config.dataset.images), config.precision.count),
        overflow=config.precision.overflow,
        calibration=Calibration(config.precision.method, config.precision.percentile),
        opset=config.precision.opset,
    )
    write_json(target.with_name(config.paths.precision_file), report.as_dict())
    print_text(f"{target}: {report}")


def rule(config: DictConfig) -> PrecisionRule:
    """The nodes that may leave fp32, by the keys of `precision`."""
    settings = config.precision
    return PrecisionRule(
        plain(settings.products), plain(settings.between), [*settings.keep, *settings.unbuilt]
    )


def images(folder: Path, count: int) -> list[Path]:
    """`count` of the images in `folder`, evenly spread over their names; all if there are fewer.

    Raises SameboxError if the folder is absent, or for a count below 1.
    """
    if count < 1:
        raise SameboxError(f"precision.count: {count}: give a number from 1 up")
    paths = images_in(folder)
    return [paths[index * len(paths) // count] for index in range(count)] if len(paths) > count else paths


if __name__ == "__main__":
    main("precision", run)
