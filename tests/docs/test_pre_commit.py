"""The hooks of pre-commit run what `make lint` runs."""

import re

import yaml
from doc_pages import ROOT


def without_paths(command):
    """A linter's command without what says which files it looks at."""
    return re.sub(r" --force-exclude| \.$|^\.venv/bin/", "", command)


def test_hooks_run_the_linters_of_make_lint():
    recipe = (ROOT / "Makefile").read_text().partition("\nlint:")[2].partition("\n\n")[0]
    linters = [line.strip() for line in recipe.splitlines()[1:]]
    (repository,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert repository["repo"] == "local"
    assert [without_paths(hook["entry"]) for hook in repository["hooks"]] == list(map(without_paths, linters))
    assert all(hook["language"] == "system" for hook in repository["hooks"])
