"""Simplify the ONNX file with onnxsim; if that fails, write the exported graph."""

from omegaconf import DictConfig

from samebox.core.files import write_json
from samebox.core.text import print_text
from samebox.graph.simplify import simplify_onnx
from stages.compose import artifact, main


def run(config: DictConfig) -> None:
    """Simplify, compare with the exported graph, and write the report beside the file."""
    target = artifact(config, config.paths.simplified, config.paths.onnx_file)
    report = simplify_onnx(
        artifact(config, config.paths.onnx, config.paths.onnx_file),
        target,
        config.simplify.shapes,
        seconds=config.simplify.seconds,
        memory_mb=config.simplify.memory_mb,
    )
    write_json(target.with_name(config.paths.simplify_file), report.as_dict())
    if report.reason:
        print_text(f"{target}: not simplified: {report.reason}")


if __name__ == "__main__":
    main("simplify", run)
