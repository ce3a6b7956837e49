"""Build an engine from an ONNX file, or a session of ONNX Runtime on a GPU."""

from pathlib import Path

from omegaconf import DictConfig

from samebox.core.errors import NotHere
from samebox.core.files import write_text
from samebox.engine.build import engine_from_onnx
from samebox.engine.profile import Profile, canvas_ranges
from samebox.engine.session import SESSION_DEVICES, session_from_onnx
from samebox.graph.reading import metadata, onnx_model
from samebox.record.preprocess import Preprocess
from samebox.record.spec import Spec
from stages.compose import artifact, main


def run(config: DictConfig) -> None:
    """Build for `engine.targets` and `engine.profile`, or write why this machine cannot build it."""
    source = artifact(config, config.runtime.source, config.paths.onnx_file)
    target = artifact(config, config.runtime.folder, config.runtime.file)
    flavour = config.runtime.flavour
    shapes = profile(config, Spec.from_metadata(metadata(onnx_model(source)), str(source)).preprocess)
    limits = {"workspace_mb": config.engine.workspace_mb, "tf32": config.engine.tf32}
    if flavour in SESSION_DEVICES:
        session_from_onnx(source, target, SESSION_DEVICES[flavour], shapes, **limits)
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


def profile(config: DictConfig, rule: Preprocess) -> Profile:
    """The profile in `engine.profile`; null heights and widths follow from the resize rule."""
    ranges, (heights, widths) = config.engine.profile, canvas_ranges(rule)
    return Profile(ranges.batch, ranges.height or heights, ranges.width or widths)


if __name__ == "__main__":
    main("engine", run)
