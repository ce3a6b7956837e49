import pytest

from samebox.adopt.bases import embedded_config, python_config, yaml_config
from samebox.core.errors import SameboxError


def written(folder, **files):
    """Files by name without suffix; the path of the first."""
    paths = []
    for name, text in files.items():
        path = folder / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        paths.append(path)
    return paths[0]


def test_bases_are_followed_and_merged(tmp_path):
    own = "model = dict(depth=101)\nscale = _base_.scale\nn = {{_base_.n}}\n"
    files = {
        "net/own": f"_base_ = ['../model.py', './data.py']\n{own}",
        "model": "_base_ = 'base/root.py'\nmodel = dict(type='A', depth=50)\n",
        "base/root": "model = dict(width=8)\nn = 4\n",
        "net/data": "scale = (3, 2)\n",
    }
    path = written(tmp_path, **files)
    model = {"type": "A", "depth": 101, "width": 8}
    assert python_config(path) == {"model": model, "scale": [3, 2], "n": 4}


def test_newer_configs_import_their_bases(tmp_path):
    imports = "from .._base_.model import *\n    from .data import scale"
    files = {
        "net/own": f"with read_base():\n    {imports}\nmodel.update(dict(depth=101))\n",
        "_base_/model": "from mmdet.models import ResNet\nmodel = dict(type=ResNet, depth=50)\n",
        "net/data": "scale = (3, 2)\nother = 1\n",
    }
    path = written(tmp_path, **files)
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
            r"a\.py: is based on itself, by way of b\.py",
        ),
        ({"a": "_base_ = 'a.py'\n"}, r"a\.py: is based on itself"),
        ({"a": "with read_base():\n    from .a import *\n"}, r"a\.py: is based on itself"),
        (
            {"a": "_base_ = 'b.py'\n"},
            r"b\.py: no such file; a\.py is based on it: fetch the framework's folder",
        ),
        (
            {"a": "_base_ = ['b.py', 'c.py']\n", "b": "x = 1\n", "c": "x = 2\n"},
            r"two of its _base_ files give x",
        ),
        ({"a": "_base_ = 5\n"}, r"_base_ is 5; give the paths of files"),
        ({"a": "_base_ = open('b')\n"}, r"_base_ is .*open.* at .*a\.py:1; give the paths"),
        ({"a": "_base_ = 'mmdet::net.py'\n"}, r"_base_ names 'mmdet::net\.py', which is no file"),
        ({"a": "with read_base():\n    from .........x import *\n"}, r"x\.py: no such file"),
        (
            {"a": "with read_base():\n    from mmdet.x import *\n"},
            r"imports mmdet\.x, which is no file",
        ),
        ({"a": "_base_ = 'b.py'\nm = dict(x=1)\n", "b": "m = 2\n"}, r"\{'x': 1\} cannot inherit from 2"),
    ],
)
def test_what_cannot_be_followed(tmp_path, files, message):
    with pytest.raises(SameboxError, match=message) as error:
        python_config(written(tmp_path, **files))
    assert "\n" not in str(error.value)


def test_a_long_row_of_bases(tmp_path):
    files = {f"a{i}": f"_base_ = 'a{i + 1}.py'\n" for i in range(40)}
    with pytest.raises(SameboxError, match=r"based on more than 20 files in a row"):
        python_config(written(tmp_path, **files))


def test_bases_that_multiply(tmp_path):
    files = {f"a{i}": f"_base_ = ['a{i + 1}.py', './a{i + 1}.py']\n" for i in range(15)}
    with pytest.raises(SameboxError, match=r"more than 200 files refer to one another"):
        python_config(written(tmp_path, **files, a15="pass\n"))


@pytest.mark.parametrize("content", [b"\x80\x04\xff\xfe", b"\0" * (2 << 20)])
def test_no_text(tmp_path, content):
    path = tmp_path / "a.py"
    path.write_bytes(content)
    with pytest.raises(SameboxError, match=r"a\.py: no (text|config)"):
        python_config(path)


def test_a_folder_is_no_config(tmp_path):
    with pytest.raises(SameboxError, match="no config, which is a file"):
        python_config(tmp_path)


def test_the_text_in_a_checkpoint():
    assert embedded_config("model = dict(type='A')\n", "it") == {"model": {"type": "A"}}


def test_the_text_of_an_old_checkpoint_is_that_of_several_files():
    text = (
        "/home/me/configs/_base_/model.py\nmodel = dict(type='A', depth=50)\nn = 2\n\n"
        "/home/me/configs/own.py\n_base_ = '_base_/model.py'\nmodel = dict(depth=101)\nm = _base_.n\n"
    )
    config = embedded_config(text, "it")
    assert config["model"] == {"type": "A", "depth": 101}
    assert config["m"] == 2


def test_the_text_in_a_checkpoint_cannot_import():
    with pytest.raises(SameboxError, match=r"it: imports \.\.x, which it does not hold"):
        embedded_config("with read_base():\n    from ..x import *\n", "it")


def test_yaml_bases_are_merged(tmp_path):
    (tmp_path / "base.yaml").write_text("MODEL: {A: {X: 1, Y: [1, 2]}}\nSIZES: (4, 8)\n")
    (tmp_path / "own.yaml").write_text("_BASE_: base.yaml\nMODEL: {A: {Y: [3]}}\n")
    config = yaml_config(tmp_path / "own.yaml")
    assert config == {"MODEL": {"A": {"X": 1, "Y": [3]}}, "SIZES": [4, 8]}


def test_yaml_that_refers_to_a_list_twice(tmp_path):
    (tmp_path / "a.yaml").write_text("A: &one [1, 2]\nB: *one\n")
    assert yaml_config(tmp_path / "a.yaml") == {"A": [1, 2], "B": [1, 2]}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("A: !!python/object/apply:os.system ['touch ran']\n", r"a\.yaml:1: not a config's YAML"),
        ("A: !!python/object/new:open ['ran', w]\n", r"a\.yaml:1: not a config's YAML"),
        ("A: !!python/name:os.system\n", r"a\.yaml:1: not a config's YAML"),
        ("A: !!python/object/apply:eval ['(']\n", r"a\.yaml:1: not a config's YAML \(a call\)"),
        ("A: !!python/object/apply:eval {a: 1}\n", r"a\.yaml:1: not a config's YAML \(a call\)"),
        ("a: &a {x: 1}\nb:\n  <<: *a\n", r"a\.yaml:3: not a config's YAML \(a merge key\)"),
        ("a: &a [*a]\n", r"a\.yaml:1: not a config's YAML"),
        ("a: [1\n", r"a\.yaml:2: not a config's YAML"),
        ("a: 1\n---\nb: 2\n", r"a\.yaml:\d: not a config's YAML"),
        ("- 1\n", r"a\.yaml: no mapping of sections"),
        ("", r"a\.yaml: no mapping of sections"),
        ("_BASE_: a.yaml\n", r"a\.yaml: is based on itself"),
        ("_BASE_: [a.yaml]\n", r"a\.yaml: _BASE_ is \['a\.yaml'\]"),
        ("[" * 5000, r"a\.yaml:\d+: not a config's YAML"),
    ],
)
def test_yaml_that_is_no_config(tmp_path, monkeypatch, text, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.yaml").write_text(text)
    with pytest.raises(SameboxError, match=message) as error:
        yaml_config(tmp_path / "a.yaml")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "ran").exists()


def test_yaml_values_that_multiply(tmp_path):
    rows = "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 12))
    (tmp_path / "a.yaml").write_text("a0: &a0 [1]\n" + rows)
    with pytest.raises(SameboxError, match="more values than any config has"):
        yaml_config(tmp_path / "a.yaml")


def test_what_yaml_would_have_evaluated_is_read_as_data(tmp_path):
    text = 'A: !!python/object/apply:eval ["[[x, x * 2**(1.0/2)] for x in [1, 2]]"]\n'
    text += "B: !!python/object/apply:eval [\"open('ran', 'w')\"]\n"
    (tmp_path / "a.yaml").write_text(text)
    config = yaml_config(tmp_path / "a.yaml")
    assert config["A"] == [[1, 2**0.5], [2, 2 * 2**0.5]]
    assert str(config["B"]).endswith("a.yaml:2:1")
