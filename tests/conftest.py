import os
import tempfile
from pathlib import Path

import pytest

from samebox.record.preprocess import read_image
from stages.compose import compose
from stages.networks import load_network

ROOT = Path(__file__).parents[1]


def pytest_configure(config):
    """Create the folder that the processes of pytest-xdist share, in the first of them."""
    if "SAMEBOX_TESTS_SHARED" not in os.environ:
        shared = tempfile.TemporaryDirectory(prefix="samebox-tests-")
        os.environ["SAMEBOX_TESTS_SHARED"] = shared.name
        config.add_cleanup(shared.cleanup)


@pytest.hookimpl(wrapper=True)  # runs before xdist reads the marks
def pytest_collection_modifyitems(items):
    """Run the tests of a file in one process, because they share slow fixtures.

    Every reference case is a group of its own.
    """
    for item in items:
        case = item.callspec.params.get("case", ("",)) if hasattr(item, "callspec") else ("",)
        item.add_marker(pytest.mark.xdist_group(f"{item.path.name} {case[0]}"))
    return (yield)


@pytest.fixture(scope="session")
def shapes():
    """The demo's trained RetinaNet, with its record."""
    return load_network(
        compose("export", ["detector=retinanet_shapes"]), ROOT / "demo/checkpoints/retinanet_shapes.pth"
    )


@pytest.fixture(scope="session")
def demo_images():
    """Eight images of the demo, of different sizes."""
    return [read_image(path) for path in sorted((ROOT / "demo/shapes/val").glob("*.jpg"))[:8]]
