"""What the library may import: it serves whoever does without Hydra, DVC and MLflow."""

import ast
from pathlib import Path

import pytest

LIBRARY = Path(__file__).parents[1] / "samebox"
MODULES = sorted(LIBRARY.rglob("*.py"))
TOOLS = {"hydra", "omegaconf", "dvc", "mlflow"}


def imported(path):
    """The top-level names that a module imports, anywhere in it."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            names.add(str(node.module).partition(".")[0])
    return names


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(LIBRARY)))
def test_a_module_knows_nothing_of_the_pipeline(path):
    allowed = {"mlflow"} if path == LIBRARY / "tracking.py" else set()
    assert not imported(path) & (TOOLS | {"stages", "pipelines"}) - allowed


def test_tracking_alone_is_mlflows():
    assert [path.name for path in MODULES if "mlflow" in imported(path)] == ["tracking.py"]
