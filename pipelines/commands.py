"""The commands of `samebox` that compose configs; each imports its module only when it runs.

So `samebox --help` and the help of a command need not wait for PyTorch. The text of the help is the docstring
of the module, followed by the keys of its config.
"""

import sys
from importlib import import_module


def adopt() -> None:
    """Convert a config of another framework to conf/detector/NAME.yaml."""
    _run_main("pipelines.adopt")


def benchmark() -> None:
    """Compare the forms of a checkpoint on a data set in COCO's format."""
    _run_main("pipelines.benchmark")


def bisect() -> None:
    """Show in which modules two forms of a detector differ."""
    _run("pipelines.bisect", "bisect")


def chain() -> None:
    """Run all steps in one process, and compare the forms in a table and a report."""
    _run("pipelines.chain", "chain")


def compare() -> None:
    """Compare two forms of a detector, detection by detection."""
    _run("pipelines.difference", "difference")


def export() -> None:
    """Export one checkpoint to one ONNX file."""
    _run("pipelines.export", "export_file")


def recall() -> None:
    """Measure the recall of the proposals of an R-CNN."""
    _run("pipelines.recall", "recall")


def report() -> None:
    """Write one report about all detectors that `dvc repro` evaluated."""
    _run("stages.report", "report")


def submit() -> None:
    """Write the detections in the formats of evaluation servers."""
    _run("pipelines.submit", "submit")


def sweep() -> None:
    """Run the chain for every combination of values."""
    _run_main("pipelines.sweep", "sweep")


def _run(module: str, config: str) -> None:
    """Print the help of `module`, or run it with conf/`config`.yaml composed."""
    from stages import compose  # imports Hydra

    if not _help(module, config):
        compose.main(config, import_module(module).run)


def _run_main(module: str, config: str | None = None) -> None:
    """Print the help of `module`, or call its `main`, which reads the command line itself."""
    from stages import compose  # imports Hydra

    if not _help(module, config):
        compose.guarded(import_module(module).main)


def _help(module: str, config: str | None) -> bool:
    """Print the help of `module` if the command line asks for it; True if it does."""
    from stages import usage  # imports Hydra

    if requested := usage.requested(sys.argv[1:]):
        print(usage.text(usage.docstring(module), config))
    return requested
