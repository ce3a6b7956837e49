"""The runtimes, those included that are derived from an engine and a precision."""

import ast
from pathlib import Path

import pytest
import yaml
from hydra.utils import instantiate

from samebox.core.errors import SameboxError
from stages.compose import compose
from stages.runtimes import runtimes
from stages.search import choices

ROOT = Path(__file__).parents[2]
PRECISIONS = list(choices("precision"))
ENGINES = [name for name, config in runtimes().items() if "flavour" in config and "precision" not in config]


def runtime(name):
    return compose("evaluate", [f"runtime={name}"]).runtime


@pytest.mark.parametrize("name", runtimes())
def test_a_runtime_runs_what_its_folder_holds(name):
    config = runtime(name)
    assert config.name == Path(config.folder).name == name
    assert callable(instantiate(config.runner))


@pytest.mark.parametrize("name", runtimes())
def test_every_form_but_the_reference_is_made_from_another(name):
    config = runtime(name)
    assert (config.get("after") in runtimes()) == (name != "torch")
    if "source" in config:
        assert Path(config.source).name == config.after


def test_every_precision_has_a_runtime_and_one_of_each_engine():
    assert len(ENGINES) > 3
    for precision in PRECISIONS:
        for name in (precision, *(f"{engine}_{precision}" for engine in ENGINES)):
            assert runtime(name).precision == precision


def test_an_engine_in_a_precision_needs_no_file():
    assert not {f"{engine}_{precision}" for engine in ENGINES for precision in PRECISIONS} & set(
        choices("runtime")
    )


@pytest.mark.parametrize("engine", ENGINES)
def test_an_engine_in_a_precision_differs_by_its_names_and_notes(engine):
    base, derived = runtime(engine), runtime(f"{engine}_int8")
    assert base.title.endswith(" fp32")
    assert derived.title == base.title.replace("fp32", "int8")
    names = {"name", "title", "folder", "source", "after", "precision", "notes", "notes_of"}
    assert {key for key in (*base, *derived) if base.get(key) != derived.get(key)} <= names


def test_a_note_may_belong_to_one_precision():
    kernels = "CUDA's provider has no int8 convolution: quantised values are multiplied by fp32 kernels"
    tf32 = "TensorRT may round products of fp32 numbers to TF32: its provider has no option against it"
    notes = {
        name: list(runtime(name).get("notes", ())) for name in runtimes() if name.startswith("onnxruntime_")
    }
    assert {name: own for name, own in notes.items() if own} == {
        "onnxruntime_cuda_int8": [kernels],
        "onnxruntime_tensorrt": [tf32],
        "onnxruntime_tensorrt_int8": [tf32],
    }


def test_an_unknown_runtime_ends_in_a_line_that_lists_all():
    with pytest.raises(SameboxError, match="Could not find 'runtime/tensorrt_fp8'") as error:
        runtime("tensorrt_fp8")
    assert all(f" {name}" in str(error.value) for name in runtimes())


def words(path):
    """The literals of a module, or the keys and values of a YAML file."""
    if path.suffix == ".py":
        return {
            node.value for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Constant)
        }
    return set(leaves(yaml.safe_load(path.read_text())))


def leaves(node):
    if isinstance(node, dict):
        yield from node
        node = list(node.values())
    if isinstance(node, list):
        for value in node:
            yield from leaves(value)
    else:
        yield node


# bf16 and onnxruntime_cuda are no default of any config
@pytest.mark.parametrize("name", ["bf16", "onnxruntime_cuda"])
def test_a_precision_or_a_runtime_is_named_in_five_files_at_most(name):
    folders = [ROOT / folder for folder in ("conf", "pipelines", "samebox", "stages")]
    files = [path for folder in folders for suffix in ("py", "yaml") for path in folder.rglob(f"*.{suffix}")]
    naming = [str(path.relative_to(ROOT)) for path in [*files, ROOT / "dvc.yaml"] if name in words(path)]
    assert len(naming) <= 5, naming
