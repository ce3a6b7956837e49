import builtins
import os
import subprocess
import time

import pytest

from samebox.adopt.configs.literal import parse, read_assignments, read_expression
from samebox.adopt.configs.merge import merge
from samebox.adopt.configs.values import ImportedName, UnreadValue, short_repr
from samebox.core.errors import SameboxError


def assignments(text, base=None, import_config=lambda module, level: {}):
    return read_assignments(parse(text, "config.py"), "config.py", base or {}, import_config)


def test_plain_data_is_read():
    read = assignments(
        "a = dict(x=1, y=[2., -3], z=('t', None, True))\n"
        "b = {'k': a, 0: a['y'][1]}\n"
        "c = dict(**a, w=a)\n"
        "d = [*a['y'], 2 ** -1, 7 // 2, 1.0 / 4] + [5]\n"
        "e = 'data/' + 'coco'\n"
        "f: int = 4 * 2 - 1\n"
        "g = dict(dict(n=0), m=not True)\n"
        "'a docstring'\n"
    )
    assert read["a"] == {"x": 1, "y": [2.0, -3], "z": ["t", None, True]}
    assert read["b"] == {"k": read["a"], 0: -3}
    assert read["c"] == read["a"] | {"w": read["a"]}
    assert read["d"] == [2.0, -3, 0.5, 3, 0.25, 5]
    assert (read["e"], read["f"]) == ("data/coco", 7)
    assert read["g"] == {"n": 0, "m": False}


def test_a_name_is_read_as_a_copy():
    read = assignments("a = dict(x=dict(y=1))\nb = a\nb.update(x=2)\n")
    assert read == {"a": {"x": {"y": 1}}, "b": {"x": 2}}


def test_references_to_a_base():
    base = {"model": {"neck": {"width": 256}}, "root": "data/"}
    read = assignments(
        "a = _base_.model.neck\nb = {{_base_.root}}\nc = '{{ _base_.root }}'\nd = _base_.model.head\n", base
    )
    assert (read["a"], read["b"], read["c"]) == ({"width": 256}, "data/", "data/")
    assert str(read["d"]) == "_base_.model.head (not in a _base_ file, config.py:4)"


def test_an_imported_name_is_kept_as_a_name():
    imports = "from a.b import ResNet, FPN as Neck\nimport torch.nn as nn\nimport os\n"
    read = assignments(f"{imports}x = [ResNet, nn.ReLU]\ny = Neck\n")
    assert read["x"] == [ImportedName("ResNet"), ImportedName("ReLU")]
    assert read["y"] == ImportedName("FPN")


def test_imported_bases():
    imported = []

    def import_config(module, level):
        imported.append((module, level))
        return {"model": {"type": "A", "neck": {"width": 1}}, "other": 1}

    read = assignments(
        "from mmengine.config import read_base\n"
        "with read_base():\n    from ..base.net import *\n"
        "if '_base_':\n    from .net import other as mine\n"
        "model.merge(dict(neck=dict(depth=2)))\n"
        "model.update(dict(type='B'))\n",
        import_config=import_config,
    )
    assert imported == [("base.net", 2), ("net", 1)]
    assert read["model"] == {"type": "B", "neck": {"width": 1, "depth": 2}}
    assert (read["other"], read["mine"]) == (1, 1)


def test_a_name_that_an_imported_base_does_not_have():
    with pytest.raises(SameboxError, match=r"config\.py:2: net has no name model"):
        assignments("with read_base():\n    from .net import model\n")


# Each is read as an UnreadValue
HOSTILE_VALUES = [
    "__import__('os').system('touch ran')",
    "open('ran', 'w')",
    "(lambda: open('ran', 'w'))()",
    "lambda x: x",
    "[open(str(i), 'w') for i in range(3)]",
    "{i: i for i in range(9)}",
    "f'{open(1)}'",
    "eval('1')",
    "exec('1')",
    "().__class__.__bases__[0].__subclasses__()",
    "os.system('touch ran')",
    "'a'.join(['b'])",
    "[1] * 10 ** 9",
    "'a' * 10 ** 9",
    "9 ** 9 ** 9",
    "9 ** 9 ** 9 ** 9 ** 9",
    "2.0 ** 9999",
    "(-8) ** 0.5",
    "10 ** 400 * 10 ** 400",
    "1 / 0",
    "1 if True else 2",
    "x if (x := 1) else 2",
    "a and b",
    "1 < 2",
    "{1, 2}",
    "b'bytes'",
    "...",
    "1j",
    "unknown",
    "[1][7]",
    "dict(1)",
    "dict([('a', 1)])",
    "{open: 1}",
    "[*unknown]",
    "dict(**unknown)",
    "'%s' % 1",
    "(yield)",
]


@pytest.mark.parametrize("text", HOSTILE_VALUES)
def test_values_are_not_run(text, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    ran = []
    for module, name in ((os, "system"), (subprocess, "Popen"), (builtins, "eval"), (builtins, "exec")):
        monkeypatch.setattr(module, name, lambda *given: ran.append(given))
    value = assignments(f"\nvalue = {text}\n")["value"]
    assert isinstance(value, UnreadValue)
    assert value.place == "config.py:2"
    assert "\n" not in str(value)
    assert not ran
    assert not list(tmp_path.iterdir())


HOSTILE_STATEMENTS = [
    "exec('import os')",
    "import_module('os')",
    "print(1)",
    "for i in range(9): pass",
    "while True: pass",
    "def f(): pass",
    "class A: pass",
    "with open('ran', 'w'): pass",
    "if True: a = 1",
    "try:\n    a = 1\nfinally:\n    pass",
    "a, b = 1, 2",
    "a = dict()\na['b'] = 1",
    "a = dict()\na.b = 1",
    "a = dict()\na.pop('b')",
    "a = dict()\na.update([1])",
    "a += 1",
    "del a",
    "raise SystemExit",
    "from .other import *",
    "with read_base():\n    import os",
    "with read_base():\n    a = 1",
    "assert False",
    "global a",
]


@pytest.mark.parametrize("text", HOSTILE_STATEMENTS)
def test_other_statements_are_an_error(text, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        SameboxError, match=r"^config\.py:\d: .* does not assign plain data, and configs are not run; .*$"
    ) as error:
        assignments(text)
    assert "\n" not in str(error.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "text",
    [
        "a = " + "[" * 10_000 + "]" * 10_000,
        "a = " + "-" * 100_000 + "1",
        "a = " + "1+" * 100_000 + "1",
        "a = " + "b" + ".b" * 100_000,
        "a = dict(\n",
        "a = 1\0",
        "a = " + "9" * 5000,
        "a = 0x" + "f" * 8000,
        "a = f(0x" + "f" * 8000 + ")",
        "a.b = [0x" + "f" * 8000 + "]",
        "a" * (1 << 21),
    ],
    ids=[
        "brackets",
        "signs",
        "sums",
        "attributes",
        "unfinished",
        "null",
        "digits",
        "hexadecimal",
        "a call",
        "a statement",
        "long",
    ],
)
def test_text_that_cannot_be_parsed_is_an_error_of_one_line(text):
    with pytest.raises(SameboxError, match=r"^config\.py[: ]") as error:
        assignments(text)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 300


def test_a_text_that_is_copied_again_and_again_counts_as_several_values():
    with pytest.raises(SameboxError, match=r"config\.py: more than 200000 values"):
        assignments("a = '" + "x" * 500_000 + "'\n" + "b = a\n" * 100)


def test_expressions_within_each_other_are_not_written_out_at_each_level():
    inner = "f(" + "0," * 100_000 + ")"
    began = time.process_time()
    assert isinstance(assignments("a = " + "dict(**" * 60 + inner + ")" * 60)["a"], UnreadValue)
    assert time.process_time() - began < 10  # 40 s if they are


def test_too_many_values():
    doubling = "a = [1, 1]\n" + "a = [a, a]\n" * 40
    with pytest.raises(SameboxError, match=r"config\.py: more than 200000 values"):
        assignments(doubling)
    joining = "a = [1, 1]\n" + "a = a + a\n" * 40
    with pytest.raises(SameboxError, match=r"config\.py: more than 200000 values"):
        assignments(joining)
    text = assignments("a = 'ab'\n" + "a = a + a\n" * 40)["a"]
    assert isinstance(text, UnreadValue)


@pytest.mark.parametrize(
    ("child", "base", "expected"),
    [
        ({"a": {"b": 1}}, {"a": {"c": 2}, "d": 3}, {"a": {"b": 1, "c": 2}, "d": 3}),
        ({"a": {"_delete_": True, "b": 1}}, {"a": {"c": 2}}, {"a": {"b": 1}}),
        ({"a": {"_delete_": True, "b": 1}}, {}, {"a": {"b": 1}}),
        ({"a": {"b": {"_delete_": True, "c": 1}}}, {}, {"a": {"b": {"c": 1}}}),
        ({"a": [1]}, {"a": [2, 3]}, {"a": [1]}),
        ({"a": None}, {"a": {"b": 1}}, {"a": None}),
        ({"a": {"_delete_": True, "b": 1}}, {"a": 5}, {"a": {"b": 1}}),
        ({"a": {"1": {"b": 2}}}, {"a": [{"b": 0}, {"b": 1, "c": 3}]}, {"a": [{"b": 0}, {"b": 2, "c": 3}]}),
    ],
)
def test_merge(child, base, expected):
    assert merge(child, base, "config.py") == expected


@pytest.mark.parametrize("base", [5, [1], None, "text"])
def test_a_mapping_cannot_inherit_from_another_type(base):
    with pytest.raises(SameboxError, match=r"config\.py: \{'b': 1\} cannot inherit from .*_delete_=True"):
        merge({"a": {"b": 1}}, {"a": base}, "config.py")


def test_an_expression_may_be_a_comprehension_over_a_list():
    assert read_expression("(1, 2.5, 'a')", "line 1") == [1, 2.5, "a"]
    assert read_expression("[[x, x * 2] for x in [1, 2]]", "line 1") == [[1, 2], [2, 4]]


@pytest.mark.parametrize(
    "text",
    ["[x for x in range(9)]", "[open(x) for x in ['ran']]", "[x for x in [1] if x]", "a = 1", "open('ran')"],
)
def test_other_expressions_are_unread(text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    value = read_expression(text, "line 1")
    assert isinstance(value, UnreadValue) or all(isinstance(item, UnreadValue) for item in value)
    assert not list(tmp_path.iterdir())


def test_short_repr():
    assert len(short_repr([["x" * 500] * 500] * 500)) <= 80
    assert short_repr(UnreadValue("a.py:1", "'f()'")) == "'f()' (not plain data, a.py:1)"
