"""The command `samebox`: runs the commands that are registered as entry points.

The group `samebox.commands` in pyproject.toml maps a command to a function without arguments, which reads
`sys.argv` and whose docstring is the command's summary. So `samebox` need not import the pipeline.
"""

import os
import sys
from collections.abc import Callable
from difflib import get_close_matches
from importlib.metadata import EntryPoint, entry_points, version
from typing import Any

from samebox.core.text import printable

GROUP = "samebox.commands"
USAGE = "usage: samebox [--version] [--help] COMMAND …"


def main() -> None:
    """Run the command that the command line names; exit with 1 and one line on stderr after a mistake."""
    try:
        code = _run(*(sys.argv[1:] or ["--help"]))
        sys.stdout.flush()
    except BrokenPipeError:  # the reader, such as head, has closed the pipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python reports it again at exit
        code = 1
    sys.exit(code)


def _run(name: str, *arguments: str) -> int | None:
    if name in ("-h", "--help"):
        print(overview())
        return 0
    if name == "--version":
        print(f"samebox {version('samebox')}")
        return 0
    command = _entry(name)
    sys.argv = [f"samebox {name}", *arguments]
    return _installed(command, lambda: command.load()())


def predict() -> int:
    """Draw detections on images and videos, and write them as COCO results."""
    from samebox.predict import main  # imports OpenCV, which `samebox --help` does not need

    return main()


def overview() -> str:
    """The usage, and all commands with their summaries."""
    commands = _commands()
    width = max(map(len, commands))
    summaries = (f"  {name:{width}}  {_summary(command)}" for name, command in sorted(commands.items()))
    return "\n".join(
        [
            USAGE,
            "",
            "Evaluate a trained object detector in every form, from its checkpoint to its engine.",
            "",
            "commands:",
            *summaries,
            "",
            "`samebox COMMAND --help` shows usage, examples and keys of a command.",
        ]
    )


def _commands() -> dict[str, EntryPoint]:
    return {command.name: command for command in entry_points(group=GROUP)}


def _summary(command: EntryPoint) -> str:
    """The first line of the docstring of the command's function."""
    return _installed(command, command.load).__doc__.splitlines()[0]


def _entry(name: str) -> EntryPoint:
    """The command called `name`. Exits with the closest match if there is none."""
    commands = _commands()
    if name not in commands:
        close = get_close_matches(name, commands, 1)
        hint = f"did you mean {close[0]}? " if close else ""
        sys.exit(
            f"error: {printable(name)}: no such command; {hint}the commands are {', '.join(sorted(commands))}"
        )
    return commands[name]


def _installed(command: EntryPoint, call: Callable[[], Any]) -> Any:
    """The result of `call`. Exits with the missing extra if it imports a package that is not installed."""
    try:
        return call()
    except ModuleNotFoundError as error:
        package = str(error.name).partition(".")[0]
        if package == command.module.partition(".")[0]:
            raise
        sys.exit(
            f"error: samebox {command.name}: {package} is not installed; run pip install 'samebox[pipeline]'"
        )
