import builtins
import os
import subprocess

import pytest

from samebox.adopt.literal import Imported, Unread, expression, merged, names_of, parsed, short
from samebox.core.errors import SameboxError


def names(text, base=None, imported=None):
    return names_of(parsed(text, "config.py"), "config.py", base or {}, imported or (lambda *_: {}))


def test_data_is_read():
    read = names(
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


def test_a_name_is_a_copy():
    read = names("a = dict(x=dict(y=1))\nb = a\nb.update(x=2)\n")
    assert read == {"a": {"x": {"y": 1}}, "b": {"x": 2}}


def test_references_to_a_base():
    base = {"model": {"neck": {"width": 256}}, "root": "data/"}
    read = names(
        "a = _base_.model.neck\nb = {{_base_.root}}\nc = '{{ _base_.root }}'\nd = _base_.model.head\n", base
    )
    assert (read["a"], read["b"], read["c"]) == ({"width": 256}, "data/", "data/")
    assert str(read["d"]) == "_base_.model.head, which no _base_ has at config.py:4"


def test_what_is_imported_stands_for_its_name():
    imports = "from a.b import ResNet, FPN as Neck\nimport torch.nn as nn\nimport os\n"
    read = names(f"{imports}x = [ResNet, nn.ReLU]\ny = Neck\n")
    assert read["x"] == [Imported("ResNet"), Imported("ReLU")]
    assert read["y"] == Imported("FPN")


def test_bases_of_the_newer_kind():
    asked = []

    def imported(module, level):
        asked.append((module, level))
        return {"model": {"type": "A", "neck": {"width": 1}}, "other": 1}

    read = names(
        "from mmengine.config import read_base\n"
        "with read_base():\n    from ..base.net import *\n"
        "if '_base_':\n    from .net import other as mine\n"
        "model.merge(dict(neck=dict(depth=2)))\n"
        "model.update(dict(type='B'))\n",
        imported=imported,
    )
    assert asked == [("base.net", 2), ("net", 1)]
    assert read["model"] == {"type": "B", "neck": {"width": 1, "depth": 2}}
    assert (read["other"], read["mine"]) == (1, 1)


def test_a_name_that_a_base_of_the_newer_kind_does_not_have():
    with pytest.raises(SameboxError, match=r"config\.py:2: model: net has no such name"):
        names("with read_base():\n    from .net import model\n")


# Where a value stands, each is Unread
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
def test_nothing_of_a_value_is_run(text, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    ran = []
    for module, name in ((os, "system"), (subprocess, "Popen"), (builtins, "eval"), (builtins, "exec")):
        monkeypatch.setattr(module, name, lambda *given: ran.append(given))
    found = names(f"\nvalue = {text}\n")["value"]
    assert isinstance(found, Unread)
    assert found.place == "config.py:2"
    assert "\n" not in str(found)
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
def test_other_statements_are_refused(text, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        SameboxError, match=r"^config\.py:\d: .* is no assignment of data, and nothing .*$"
    ) as error:
        names(text)
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
        "a" * (1 << 21),
    ],
    ids=["brackets", "signs", "sums", "attributes", "unfinished", "null", "digits", "long"],
)
def test_what_cannot_be_parsed_ends_in_one_line(text):
    with pytest.raises(SameboxError, match=r"^config\.py[: ]") as error:
        names(text)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 300


def test_values_that_multiply_are_refused():
    doubling = "a = [1, 1]\n" + "a = [a, a]\n" * 40
    with pytest.raises(SameboxError, match=r"config\.py: more values than any config has"):
        names(doubling)
    joining = "a = [1, 1]\n" + "a = a + a\n" * 40
    with pytest.raises(SameboxError, match=r"config\.py: more values than any config has"):
        names(joining)
    text = names("a = 'ab'\n" + "a = a + a\n" * 40)["a"]
    assert isinstance(text, Unread)


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
def test_merging(child, base, expected):
    assert merged(child, base, "config.py") == expected


@pytest.mark.parametrize("held", [5, [1], None, "text"])
def test_a_mapping_does_not_inherit_from_anything_else(held):
    with pytest.raises(SameboxError, match=r"config\.py: \{'b': 1\} cannot inherit from .*_delete_=True"):
        merged({"a": {"b": 1}}, {"a": held}, "config.py")


def test_an_expression_may_be_a_list_made_of_numbers():
    assert expression("(1, 2.5, 'a')", "line 1") == [1, 2.5, "a"]
    assert expression("[[x, x * 2] for x in [1, 2]]", "line 1") == [[1, 2], [2, 4]]


@pytest.mark.parametrize(
    "text",
    ["[x for x in range(9)]", "[open(x) for x in ['ran']]", "[x for x in [1] if x]", "a = 1", "open('ran')"],
)
def test_other_expressions_are_unread(text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = expression(text, "line 1")
    assert isinstance(found, Unread) or all(isinstance(item, Unread) for item in found)
    assert not list(tmp_path.iterdir())


def test_a_message_shows_a_value_briefly():
    assert len(short([["x" * 500] * 500] * 500)) < 100
    assert short(Unread("a.py:1", "'f()', which is no data")) == "'f()', which is no data at a.py:1"
