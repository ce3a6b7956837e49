"""What the pages point at exists: links, headings, files, modules and names of the code."""

import importlib
import re
from functools import cache

import pytest
from doc_pages import OTHERS, PAGES, ROOT, code_blocks, named, prose

ALL = [*PAGES, *OTHERS]
PYPROJECT = (ROOT / "pyproject.toml").read_text()  # has the groups of entry points
# Folders that commands make, or that are a user's own
MADE = ("artifacts/", "data/", "drawn/", "pictures/", "checkpoints/", "bbox/", "results/")


@cache
def anchors(path):
    """The headings of a page as GitHub links to them."""
    headings = re.findall(
        r"^#+ (.+)$", re.sub(r"^```.*?^```$", "", path.read_text(), flags=re.M | re.S), re.M
    )
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", ALL, ids=named)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if re.match(r"https?://", target):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), target
        assert not anchor or anchor in anchors(file), target


@pytest.mark.parametrize("page", ALL, ids=named)
def test_paths_and_names_exist(page):
    for text in re.findall(r"`([^`\n]+)`", prose(page)):
        placeholder = re.search(r"[A-Z]{4,}", text)
        if re.fullmatch(r"[\w.-]+(/[\w.-]+)+/?", text) and not (text.startswith(MADE) or placeholder):
            roots = (ROOT, page.parent, ROOT / "samebox")
            assert any((root / text).exists() for root in roots), text
        elif re.fullmatch(r"(samebox|stages|pipelines|benchmarks)(\.\w+)+", text):
            assert f'"{text}"' in PYPROJECT or resolves(text), text


def resolves(name):
    """Whether a dotted name is a module, or something in one."""
    module, _, attribute = name.rpartition(".")
    try:
        importlib.import_module(name)
    except ModuleNotFoundError:
        return bool(module) and hasattr(importlib.import_module(module), attribute)
    return True


@pytest.mark.parametrize("page", ALL, ids=named)
def test_every_block_states_its_language(page):
    fences = re.findall(r"^```(\w*)$", page.read_text(), re.M)
    assert len(fences) % 2 == 0
    assert set(fences[::2]) <= {"sh", "python", "yaml", "text", "json"}
    assert set(fences[1::2]) <= {""}
    assert all(code_blocks(page, language) for language in set(fences[::2]))


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150


def test_every_page_is_linked_from_the_readme():
    text = (ROOT / "README.md").read_text()
    for page in PAGES[1:]:
        assert f"(docs/{page.name})" in text, page.name


def test_a_decision_takes_ten_lines_at_most():
    text = (ROOT / "docs/decisions.md").read_text()
    decisions = re.findall(r"^### (.+?)\n\n(.+?)(?=\n\n##|\Z)", text, re.M | re.S)
    assert len(decisions) == text.count("\n### ") > 40
    assert {title: body for title, body in decisions if len(body.strip().splitlines()) > 10} == {}
