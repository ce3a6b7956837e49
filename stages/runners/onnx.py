"""The runners of ONNX files."""

from pathlib import Path

from omegaconf import DictConfig

from samebox.core.files import existing
from samebox.engine.session import session_from_file
from samebox.runners.onnxruntime import OnnxRuntimeRunner
from samebox.runners.protocol import Runner
from samebox.runners.rounded import RoundedRunner


def onnx_runner(config: DictConfig, path: Path, device: str) -> Runner:
    """An ONNX file in ONNX Runtime."""
    return OnnxRuntimeRunner(existing(path, "run the stage that writes it"), device)


def rounded_runner(config: DictConfig, path: Path) -> Runner:
    """A 16-bit ONNX file in ONNX Runtime on the CPU, computed in fp32 and rounded to its type."""
    return RoundedRunner(existing(path, "run the stage precision"))


def session_runner(config: DictConfig, path: Path) -> Runner:
    """An ONNX file in ONNX Runtime, on the provider that the stage engine wrote into the file."""
    path = existing(path, "name its runtime among the engines in params.yaml, and run the stage engine")
    session = session_from_file(path, Path(config.paths.engine_cache))
    return OnnxRuntimeRunner(path, session.device, session.options)
