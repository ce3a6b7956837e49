"""The help of every command and every stage."""

import sys
from contextlib import redirect_stdout
from functools import cache
from io import StringIO

import pytest

import pipelines.commands
from stages import comments, search
from stages.compose import main

# command, the primary config whose keys it takes
COMMANDS = {
    "adopt": None,
    "benchmark": None,
    "bisect": "bisect",
    "chain": "chain",
    "compare": "difference",
    "export": "export_file",
    "recall": "recall",
    "report": "report",
    "submit": "submit",
    "sweep": "sweep",
}


@cache
def help_of(command):
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(StringIO()) as printed:
        patch.setattr(sys, "argv", ["samebox", "--help"])
        patch.setenv("COLUMNS", "100")
        getattr(pipelines.commands, command)()
    return printed.getvalue()


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_of_a_command_has_usage_and_three_examples(command):
    lines = help_of(command).splitlines()
    assert any(line.startswith(f"Usage: samebox {command} ") for line in lines)
    start = lines.index("Examples:") + 1
    examples = lines[start : start + 3]
    assert all(f"{example} ".startswith(f"    samebox {command} ") for example in examples)
    assert [*lines, ""][start + 3] == ""
    assert max(map(len, lines[: start + 3])) <= 110


@pytest.mark.parametrize("command", [name for name, config in COMMANDS.items() if config])
def test_the_help_lists_keys_with_default_and_meaning(command):
    shown = help_of(command)
    assert "\n  paths.artifacts=artifacts" in shown
    assert "\n  defaults" not in shown
    assert "\n  hydra" not in shown


def test_keys_of_the_command_come_first_and_defaults_are_those_of_the_command():
    shown = help_of("recall")
    assert "  export.postprocess=false          proposals are head outputs" in shown
    assert "\n  runtime=torch\n      bf16, fp16, int8, onnx" in shown
    keys = [line.split("=")[0].strip() for line in help_of("bisect").splitlines()]
    assert keys.index("from") < keys.index("export.opset") < keys.index("paths.artifacts")


def test_a_value_that_must_be_given_is_shown_as_such():
    shown = help_of("export")
    assert "  checkpoint=???                    the file, or its http(s) address" in shown


def test_a_stage_prints_its_docstring_and_keys(monkeypatch, capsys):
    import stages.simplify

    monkeypatch.setattr(sys, "argv", ["simplify", "-h"])
    main("simplify", stages.simplify.run)
    shown = capsys.readouterr().out
    assert shown.startswith(stages.simplify.__doc__.splitlines()[0])
    assert "  simplify.seconds=600  " in shown


def test_a_comment_belongs_to_the_key_behind_which_or_above_which_it_stands(tmp_path):
    file = tmp_path / "some.yaml"
    file.write_text(
        "# @package step\n"
        "a: 1 # of a\n"
        "b: 'x # y'\n"
        "\n"
        "# above, of c,\n"
        "# on two lines\n"
        "c: [1,\n"
        "  2] # and behind it\n"
        "section: # of the section\n"
        "  # of d\n"
        "  d:\n"
        "    - one # of an item\n"
        "  flow: {e: 1} # of flow\n"
        "plain:\n"
        "  f: null\n"
    )
    assert comments.comments(file) == {
        "a": "of a",
        "b": "",
        "c": "above, of c, on two lines and behind it",
        "section": "of the section",
        "section.d": "of d",
        "section.flow": "of flow",
        "plain.f": "",
    }


def test_a_user_own_config_hides_the_one_that_samebox_brings(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    own = tmp_path / "conf/dataset/shapes.yaml"
    own.parent.mkdir(parents=True)
    own.write_text("name: mine\n")
    assert search.choices("dataset")["shapes"] == own
    assert search.choices("dataset")["coco_val2017"] == search.CONF / "dataset/coco_val2017.yaml"
