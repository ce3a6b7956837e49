"""The simplified ONNX file in another precision."""

from pathlib import Path

from omegaconf import DictConfig

from samebox.core.errors import SameboxError
from samebox.core.files import write_json
from samebox.media.folders import images_in
from samebox.precision.convert import convert_precision
from samebox.precision.quantized import Calibration
from samebox.precision.rule import PrecisionRule
from stages.compose import artifact, main, plain


def run(config: DictConfig) -> None:
    """Convert by `precision`, read back what came of it, and leave that beside the file."""
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
    print(f"{target}: {report}")


def rule(config: DictConfig) -> PrecisionRule:
    """What `precision` lets leave fp32."""
    asked = config.precision
    return PrecisionRule(plain(asked.products), plain(asked.between), [*asked.keep, *asked.unbuilt])


def images(folder: Path, count: int) -> list[Path]:
    """`count` of the images in `folder`, evenly spread over them by name; all where there are fewer.

    Raises SameboxError where the folder is absent, and for a count below 1.
    """
    if count < 1:
        raise SameboxError(f"precision.count: {count}: give a number from 1 up")
    found = images_in(folder)
    return [found[index * len(found) // count] for index in range(count)] if len(found) > count else found


if __name__ == "__main__":
    main("precision", run)
