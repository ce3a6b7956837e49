"""The command `samebox`, in processes of its own where its imports count."""

import os
import subprocess
import sys
from importlib.metadata import EntryPoint, version

import pytest

from samebox import cli

COMMANDS = [
    *("adopt", "benchmark", "bisect", "chain", "compare", "export"),
    *("predict", "recall", "report", "submit", "sweep"),
]


def run(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["samebox", *arguments])
    with pytest.raises(SystemExit) as end:
        cli.main()
    return end.value.code


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"]])
def test_the_overview_lists_every_command_with_a_summary(arguments, monkeypatch, capsys):
    run(monkeypatch, *arguments)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "usage: samebox [--version] [--help] COMMAND …"
    listed = dict(line.split(maxsplit=1) for line in lines if line.startswith("  "))
    assert list(listed) == COMMANDS
    assert all(summary.endswith(".") for summary in listed.values())


def test_the_version_is_that_of_the_package(monkeypatch, capsys):
    run(monkeypatch, "--version")
    assert capsys.readouterr().out == f"samebox {version('samebox')}\n"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "exprot",
            "error: exprot: no such command; did you mean export? the commands are adopt, ",
        ),
        ("xyz", "error: xyz: no such command; the commands are adopt, benchmark, bisect, chain, compare, "),
    ],
)
def test_an_unknown_command_is_answered_with_the_closest_one_and_all(name, message, monkeypatch):
    line = run(monkeypatch, name)
    assert line.startswith(message)
    assert "\n" not in line


def entry_point(monkeypatch, tmp_path, source):
    """A command `own` that is defined by `source`."""
    (tmp_path / "own_package.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "own_package", raising=False)
    entry = EntryPoint("own", "own_package:command", cli.GROUP)
    monkeypatch.setattr(cli, "entry_points", lambda group: [entry])


def test_a_command_reads_its_own_arguments_and_gives_the_exit_code(monkeypatch, tmp_path, capsys):
    entry_point(monkeypatch, tmp_path, "import sys\ndef command():\n    print(sys.argv)\n    return 3\n")
    assert run(monkeypatch, "own", "a=b", "--flag") == 3
    assert capsys.readouterr().out == "['samebox own', 'a=b', '--flag']\n"


@pytest.mark.parametrize(
    "source",
    ["import absent_package.part\n", "def command():\n    import absent_package\n"],
    ids=["imported with its module", "imported when it runs"],
)
def test_a_package_that_is_not_installed_is_named_with_the_extra(source, monkeypatch, tmp_path):
    entry_point(monkeypatch, tmp_path, source)
    assert run(monkeypatch, "own") == (
        "error: samebox own: absent_package is not installed; run pip install 'samebox[pipeline]'"
    )


def test_a_missing_module_of_the_command_itself_is_a_defect(monkeypatch, tmp_path):
    entry_point(monkeypatch, tmp_path, "import own_package.part\n")
    monkeypatch.setattr(sys, "argv", ["samebox", "own"])
    with pytest.raises(ModuleNotFoundError, match=r"own_package\.part"):
        cli.main()


def modules_after(*arguments):
    """The output of `python -m samebox`, and which of the large packages it imported."""
    code = (
        "import runpy, sys; sys.argv[1:] = sys.argv[2:]\n"
        "try:\n    runpy.run_module('samebox', run_name='__main__')\n"
        "finally:\n    print(*sorted({'torch', 'hydra', 'onnxruntime', 'dvc'} & set(sys.modules)))\n"
    )
    command = [sys.executable, "-c", code, "samebox", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    *output, imported = done.stdout.splitlines()
    return output, imported


def test_the_overview_imports_no_large_package():
    assert modules_after("--help")[1] == ""


@pytest.mark.parametrize("command", ["adopt", "export", "predict"])
def test_the_help_of_a_command_does_not_import_pytorch(command):
    output, imported = modules_after(command, "--help")
    assert output[0]
    assert imported in ("", "hydra")


def test_a_closed_pipe_ends_the_command_without_a_traceback():
    command = [sys.executable, "-m", "samebox", "--help"]
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True, check=False, timeout=60)
    os.close(write)
    assert (done.returncode, done.stderr) == (1, "")
