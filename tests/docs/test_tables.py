"""The tables in the README and in docs/ that follow from the code."""

import re
import runpy

import pytest
from doc_pages import PAGES, ROOT, named

TABLES = runpy.run_path(str(ROOT / "docs/tables.py"))


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_tables_are_up_to_date(page):
    text = page.read_text()
    assert TABLES["rewritten"](text) == text, "a table is out of date: run python docs/tables.py"


def test_every_table_is_on_a_page():
    text = "".join(page.read_text() for page in PAGES)
    assert set(re.findall(r"<!-- begin:(\w+)", text)) == set(TABLES["TABLES"])
    blocks = TABLES["BLOCK"].findall(text)
    assert (
        len(re.findall("^<!-- begin:", text, re.M)) == len(re.findall("^<!-- end", text, re.M)) == len(blocks)
    )


def test_a_table_is_made_again():
    stale = "a\n<!-- begin:datasets -->\nstale row\n<!-- end -->\nb\n"
    found = TABLES["rewritten"](stale)
    assert "| `shapes` | The demo" in found
    assert "stale row" not in found
    assert found.startswith("a\n<!-- begin:datasets -->\n")
    assert found.endswith("<!-- end -->\nb\n")


def test_keys_have_the_comments_beside_and_above_them(tmp_path):
    path = tmp_path / "some.yaml"
    path.write_text(
        "# @package engine\n"
        "targets: [SM86, SM89] # compute capabilities\n"
        "# scratch memory\n# of a layer\n"
        "workspace_mb: 4096\n"
        "profile: # least, usual, largest\n"
        "  batch: [1, 1, 4] # images\n"
        "  height: null\n"
        "limits: # of some forms\n"
        "  int8: 1.0\n"
        "  fp16: 0.2\n"
    )
    assert list(TABLES["key_rows"](path)) == [
        ("`engine.targets`", "`[SM86, SM89]`", "compute capabilities"),
        ("`engine.workspace_mb`", "`4096`", "scratch memory of a layer"),
        ("`engine.profile`", "", "least, usual, largest"),
        ("`engine.profile.batch`", "`[1, 1, 4]`", "images"),
        ("`engine.profile.height`", "`null`", ""),
        ("`engine.limits`", "`{int8: 1.0, fp16: 0.2}`", "of some forms"),
    ]
