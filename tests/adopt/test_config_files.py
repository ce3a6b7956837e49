import os

import pytest

from samebox.adopt.configs.python_files import embedded_config, python_config
from samebox.adopt.configs.yaml_files import yaml_config
from samebox.core.errors import SameboxError


def write_files(folder, **files):
    """Write the texts of files by their names without suffix; returns the path of the first file."""
    paths = []
    for name, text in files.items():
        path = folder / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        paths.append(path)
    return paths[0]


def test_bases_are_merged(tmp_path):
    own = "model = dict(depth=101)\nscale = _base_.scale\nn = {{_base_.n}}\n"
    files = {
        "net/own": f"_base_ = ['../model.py', './data.py']\n{own}",
        "model": "_base_ = 'base/root.py'\nmodel = dict(type='A', depth=50)\n",
        "base/root": "model = dict(width=8)\nn = 4\n",
        "net/data": "scale = (3, 2)\n",
    }
    path = write_files(tmp_path, **files)
    model = {"type": "A", "depth": 101, "width": 8}
    assert python_config(path) == {"model": model, "scale": [3, 2], "n": 4}


def test_bases_that_are_imported_are_merged(tmp_path):
    imports = "from .._base_.model import *\n    from .data import scale"
    files = {
        "net/own": f"with read_base():\n    {imports}\nmodel.update(dict(depth=101))\n",
        "_base_/model": "from mmdet.models import ResNet\nmodel = dict(type=ResNet, depth=50)\n",
        "net/data": "scale = (3, 2)\nother = 1\n",
    }
    path = write_files(tmp_path, **files)
    config = python_config(path)
    assert config["model"]["depth"] == 101
    assert config["model"]["type"].name == "ResNet"
    assert config["scale"] == [3, 2]
    assert "other" not in config


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (
            {"a": "_base_ = 'b.py'\n", "b": "_base_ = './a.py'\n"},
            r"a\.py: is based on itself through b\.py",
        ),
        ({"a": "_base_ = 'a.py'\n"}, r"a\.py: is based on itself"),
        ({"a": "with read_base():\n    from .a import *\n"}, r"a\.py: is based on itself"),
        (
            {"a": "_base_ = 'b.py'\n"},
            r"b\.py: no such file; a\.py is based on it: copy the framework's folder",
        ),
        (
            {"a": "_base_ = ['b.py', 'c.py']\n", "b": "x = 1\n", "c": "x = 2\n"},
            r"two _base_ files assign x",
        ),
        ({"a": "_base_ = 5\n"}, r"_base_ is 5; give the paths of files"),
        ({"a": "_base_ = open('b')\n"}, r"_base_ is .*open.*\(not plain data, .*a\.py:1\); give the paths"),
        ({"a": "_base_ = 'mmdet::net.py'\n"}, r"the base 'mmdet::net\.py' is not a local file"),
        ({"a": "with read_base():\n    from .........x import *\n"}, r"x\.py: no such file"),
        (
            {"a": "with read_base():\n    from mmdet.x import *\n"},
            r"imports mmdet\.x, which is not a local file",
        ),
        ({"a": "_base_ = 'b.py'\nm = dict(x=1)\n", "b": "m = 2\n"}, r"\{'x': 1\} cannot inherit from 2"),
    ],
)
def test_bases_that_cannot_be_read(tmp_path, files, message):
    with pytest.raises(SameboxError, match=message) as error:
        python_config(write_files(tmp_path, **files))
    assert "\n" not in str(error.value)


def test_too_long_a_chain_of_bases(tmp_path):
    files = {f"a{i}": f"_base_ = 'a{i + 1}.py'\n" for i in range(40)}
    with pytest.raises(SameboxError, match=r"more than 20 files based on one another"):
        python_config(write_files(tmp_path, **files))


def test_too_many_bases(tmp_path):
    files = {f"a{i}": f"_base_ = ['a{i + 1}.py', './a{i + 1}.py']\n" for i in range(15)}
    with pytest.raises(SameboxError, match=r"more than 200 files based on one another"):
        python_config(write_files(tmp_path, **files, a15="pass\n"))


@pytest.mark.parametrize("content", [b"\x80\x04\xff\xfe", b"\0" * (2 << 20)])
def test_a_file_that_is_not_text(tmp_path, content):
    path = tmp_path / "a.py"
    path.write_bytes(content)
    with pytest.raises(SameboxError, match=r"a\.py: not a (text|config) file"):
        python_config(path)


def test_a_folder_is_not_a_config(tmp_path):
    with pytest.raises(SameboxError, match="not a config file of at most 1 MiB"):
        python_config(tmp_path)


def test_the_config_stored_in_a_checkpoint():
    assert embedded_config("model = dict(type='A')\n", "it") == {"model": {"type": "A"}}


def test_an_old_checkpoint_stores_the_texts_of_several_files():
    text = (
        "/home/me/configs/_base_/model.py\nmodel = dict(type='A', depth=50)\nn = 2\n\n"
        "/home/me/configs/own.py\n_base_ = '_base_/model.py'\nmodel = dict(depth=101)\nm = _base_.n\n"
    )
    config = embedded_config(text, "it")
    assert config["model"] == {"type": "A", "depth": 101}
    assert config["m"] == 2


def test_a_config_stored_in_a_checkpoint_cannot_import_others():
    with pytest.raises(SameboxError, match=r"it: imports \.\.x, which is not stored in it"):
        embedded_config("with read_base():\n    from ..x import *\n", "it")


def test_yaml_bases_are_merged(tmp_path):
    (tmp_path / "base.yaml").write_text("MODEL: {A: {X: 1, Y: [1, 2]}}\nSIZES: (4, 8)\n")
    (tmp_path / "own.yaml").write_text("_BASE_: base.yaml\nMODEL: {A: {Y: [3]}}\n")
    config = yaml_config(tmp_path / "own.yaml")
    assert config == {"MODEL": {"A": {"X": 1, "Y": [3]}}, "SIZES": [4, 8]}


def test_a_yaml_alias_is_read_as_a_copy(tmp_path):
    (tmp_path / "a.yaml").write_text("A: &one [1, 2]\nB: *one\n")
    assert yaml_config(tmp_path / "a.yaml") == {"A": [1, 2], "B": [1, 2]}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("A: !!python/object/apply:os.system ['touch ran']\n", r"a\.yaml:1: not a YAML config"),
        ("A: !!python/object/new:open ['ran', w]\n", r"a\.yaml:1: not a YAML config"),
        ("A: !!python/name:os.system\n", r"a\.yaml:1: not a YAML config"),
        ("A: !!python/object/apply:eval ['(']\n", r"a\.yaml:1: not a YAML config \(a call\)"),
        ("A: !!python/object/apply:eval {a: 1}\n", r"a\.yaml:1: not a YAML config \(a call\)"),
        ("a: &a {x: 1}\nb:\n  <<: *a\n", r"a\.yaml:3: not a YAML config \(a merge key\)"),
        ("a: &a [*a]\n", r"a\.yaml:1: not a YAML config"),
        ("a: [1\n", r"a\.yaml:2: not a YAML config"),
        ("a: 1\n---\nb: 2\n", r"a\.yaml:\d: not a YAML config"),
        ("- 1\n", r"a\.yaml: not a mapping of sections"),
        ("", r"a\.yaml: not a mapping of sections"),
        ("_BASE_: a.yaml\n", r"a\.yaml: is based on itself"),
        ("_BASE_: [a.yaml]\n", r"a\.yaml: _BASE_ is \['a\.yaml'\]"),
        ("[" * 5000, r"a\.yaml:\d+: not a YAML config"),
    ],
)
def test_yaml_that_is_not_a_config(tmp_path, monkeypatch, text, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.yaml").write_text(text)
    with pytest.raises(SameboxError, match=message) as error:
        yaml_config(tmp_path / "a.yaml")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "ran").exists()


def test_too_many_yaml_values(tmp_path):
    rows = "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 12))
    (tmp_path / "a.yaml").write_text("a0: &a0 [1]\n" + rows)
    with pytest.raises(SameboxError, match="more than 200000 values"):
        yaml_config(tmp_path / "a.yaml")


def test_an_expression_for_eval_is_read_as_data(tmp_path):
    text = 'A: !!python/object/apply:eval ["[[x, x * 2**(1.0/2)] for x in [1, 2]]"]\n'
    text += "B: !!python/object/apply:eval [\"open('ran', 'w')\"]\n"
    (tmp_path / "a.yaml").write_text(text)
    config = yaml_config(tmp_path / "a.yaml")
    assert config["A"] == [[1, 2**0.5], [2, 2 * 2**0.5]]
    assert str(config["B"]).endswith("a.yaml:2:1)")


@pytest.mark.parametrize("suffix", ["py", "yaml"])
@pytest.mark.parametrize("base", ["a\\0b", "a" * 5000, "a/" * 3000, "loop", "fifo", "."])
def test_a_base_that_is_no_file_is_an_error_of_one_line(tmp_path, suffix, base):
    (tmp_path / "loop").symlink_to("loop")
    os.mkfifo(tmp_path / "fifo")
    path = tmp_path / f"own.{suffix}"
    path.write_text(f"_base_ = '{base}'\n" if suffix == "py" else f'_BASE_: "{base}"\n')
    with pytest.raises(SameboxError, match=r"cannot be read|no such file|not a config file") as error:
        (python_config if suffix == "py" else yaml_config)(path)
    assert str(error.value).isprintable()
    assert len(str(error.value)) < 7000


def test_all_files_of_a_config_share_one_budget(tmp_path):
    doubling = "x{0} = [1, 1]\n" + "x{0} = [x{0}, x{0}]\n" * 13
    bases = {f"b{index}": doubling.format(index) for index in range(20)}
    own = f"_base_ = {[f'b{index}.py' for index in range(20)]}\n"
    with pytest.raises(SameboxError, match="more than 200000 values"):
        python_config(write_files(tmp_path, own=own, **bases))
    texts = [f"b{index}.py\n{doubling.format(index)}" for index in range(20)]
    with pytest.raises(SameboxError, match="it: more than 200000 values"):
        embedded_config("".join(texts), "it")
    with pytest.raises(SameboxError, match="it: with its base files more than 1048576 characters"):
        embedded_config("x = 1\n" * 200_000, "it")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("A: 0x" + "f" * 8000, "a number of over 64 bits"),
        ("A: 0x" + "f" * 20, "a number of over 64 bits"),
        ("A: 1" + ":59" * 5000, "a number of over 64 bits"),
        ("0x" + "f" * 20 + ": 1", "a number of over 64 bits"),
        ("A: 1" + "0" * 400 + ".0", "a number of over 64 bits"),
        ("A: !!bool x", "not a YAML config"),
        ("A: !!timestamp x", "not a YAML config"),
        ("A: \x07", "not a YAML config"),
        ("A: &a '(" + "1," * 10_000 + ")'\nB: [" + "*a, " * 50 + "]", "more than 2"),
        ("A: [" + "'()', " * 50_000 + "]", "more than 262144 characters"),
        ("A: " + "[" * 5000 + "]" * 5000, "not a YAML config"),
    ],
    ids=[
        "hex",
        "20 digits",
        "base 60",
        "key",
        "float",
        "bool",
        "time",
        "bell",
        "alias",
        "long",
        "deep",
    ],
)
def test_yaml_that_would_take_long_or_break_the_parser(tmp_path, text, message):
    (tmp_path / "a.yaml").write_text(text)
    with pytest.raises(SameboxError, match=message) as error:
        yaml_config(tmp_path / "a.yaml")
    assert str(error.value).isprintable()


@pytest.mark.parametrize("key", ["9" * 5000, "²"])
def test_an_index_that_is_no_number_of_a_list(tmp_path, key):
    files = {"a": f"_base_ = 'b.py'\nm = {{'{key}': 1}}\n", "b": "m = [1]\n"}
    with pytest.raises(SameboxError, match="cannot inherit from"):
        python_config(write_files(tmp_path, **files))
