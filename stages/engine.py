"""An ONNX file to an engine, or to a session of ONNX Runtime on a GPU."""

from pathlib import Path

from omegaconf import DictConfig

from samebox.engine import NotHere, Profile, engine_from_onnx
from samebox.files import write_text
from samebox.graphs import metadata, onnx_model
from samebox.preprocess import Preprocess
from samebox.session import SESSIONS, session_from_onnx
from samebox.spec import Spec
from stages.compose import artifact, main


def run(config: DictConfig) -> None:
    """Build for the targets and the profile of `engine`; where it cannot be built here, leave the reason."""
    source = artifact(config, config.runtime.source, config.paths.onnx_file)
    target = artifact(config, config.runtime.folder, config.runtime.file)
    flavour = config.runtime.flavour
    shapes = profile(config, Spec.from_metadata(metadata(onnx_model(source)), str(source)).preprocess)
    limits = {"workspace_mb": config.engine.workspace_mb, "tf32": config.engine.tf32}
    if flavour in SESSIONS:
        session_from_onnx(source, target, SESSIONS[flavour], shapes, **limits)
        return
    try:
        engine_from_onnx(
            source,
            target,
            shapes,
            flavour=flavour,
            # the full TensorRT builds for the GPU here and takes no targets
            targets=config.engine.targets if flavour == "tensorrt_rtx" else (),
            **limits,
            version_compatible=config.engine.version_compatible,
            hardware_compatibility=config.engine.hardware_compatibility,
            cache=Path(config.paths.engine_cache),
        )
    except NotHere as reason:
        write_text(target.with_name(config.paths.not_built_file), f"not built: {reason}\n")


# What an image measures that no rule resizes: those of COCO, none of which is larger
UNRESIZED = (480, 640)


def profile(config: DictConfig, rule: Preprocess) -> Profile:
    """The profile in `engine.profile`, heights and widths by the resize rule where it names none."""
    asked, (heights, widths) = config.engine.profile, canvas_ranges(rule)
    return Profile(asked.batch, asked.height or heights, asked.width or widths)


def canvas_ranges(rule: Preprocess) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
    """(least, usual, largest) height and width of the canvases that the rule leads to.

    An image may be upright, so both sides reach the larger limit; usual is the lying one.
    """
    if rule.canvas:
        height, width = rule.canvas
        return (height, height, height), (width, width, width)
    sides = rule.resize.scale if rule.resize else UNRESIZED
    least, short, long = (rule.rounded(side) for side in (1, *sorted(sides)))
    return (least, short, long), (least, long, long)


if __name__ == "__main__":
    main("engine", run)
