"""The wheel of the package, and environments in which it is installed, for tests away from the repository."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import demo_forms

SOURCES = ("samebox", "stages", "pipelines", "conf", "pyproject.toml", "setup.py", "README.md", "LICENSE")


def wheel() -> Path:
    """The wheel, built once from a copy of the sources, without the network."""

    def make(record: Path) -> None:
        source = record.with_name("wheel_sources")
        source.mkdir()
        for name in SOURCES:
            path = demo_forms.ROOT / name
            copy = shutil.copytree if path.is_dir() else shutil.copy
            copy(path, source / name)
        folder = source / "dist"
        pip("wheel", "--no-deps", "--no-index", "--no-build-isolation", "--wheel-dir", folder, source)
        (path,) = folder.glob("*.whl")
        record.write_text(str(path))

    return Path(demo_forms.once("wheel.txt", make).read_text())


def environment(folder: Path) -> Path:
    """The interpreter of a new environment in `folder` that has the wheel and nothing that it requires."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    python = folder / "bin" / "python"
    pip("--python", python, "install", "--no-deps", "--no-index", wheel())
    return python


def site_packages(python: Path) -> Path:
    """The folder of packages of an environment."""
    (site,) = python.parents[1].glob("lib/python*/site-packages")
    return site


def pip(*arguments) -> None:
    """Run pip of this environment."""
    subprocess.run(
        [sys.executable, "-m", "pip", *map(str, arguments), "--quiet"], check=True, capture_output=True
    )


def run(folder: Path, *command, **options) -> subprocess.CompletedProcess[str]:
    """The finished process, run in `folder` without the variables that add to Python's path."""
    variables = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    return subprocess.run(
        [str(part) for part in command],
        cwd=folder,
        env=variables,
        capture_output=True,
        text=True,
        check=False,
        **options,
    )
