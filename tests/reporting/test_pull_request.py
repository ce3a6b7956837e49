"""The Markdown report, parsed as by GitHub."""

import re

import pytest
from markdown_it import MarkdownIt
from report_forms import FAILED, NOT_RUN, all_forms, differences, evaluated

from samebox.reporting.page import pull_request
from samebox.reporting.section import Section


@pytest.fixture(scope="module")
def markdown():
    forms = all_forms()
    forms[1] = {**forms[1], "title": "ONNX | Runtime"}
    found = [evaluated(form) for form in forms]
    intervals = {"int8": {"bbox": (-2.75, -1.5)}}
    return pull_request([Section(found, None, ["make demo"], differences(found), intervals)])


@pytest.fixture(scope="module")
def tables(markdown):
    """The cells of each table, by row."""
    html = MarkdownIt("commonmark").enable("table").render(markdown)
    found = re.findall(r"<table>.*?</table>", html, re.S)
    rows = [re.findall(r"<tr>.*?</tr>", table, re.S) for table in found]
    return [[re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, re.S) for row in table] for table in rows]


def test_every_table_is_valid(markdown, tables):
    lines = [line.startswith("|") for line in markdown.splitlines()]
    beginnings = sum(line and not before for before, line in zip([False, *lines], lines, strict=False))
    assert len(tables) == beginnings == 8
    assert (
        sum(len(table) for table in tables) == sum(lines) - beginnings
    )  # without the lines under the headings
    for table in tables:
        assert len({len(row) for row in table}) == 1


def test_the_first_table_has_all_detectors(tables):
    heading, box, mask = tables[0]
    assert heading[:5] == ["Model", "Config", "Metric", "PyTorch", "ONNX | Runtime"]
    assert heading[-1] == "published"
    assert box[:4] == ["Mask R-CNN", "<code>mask_rcnn_shapes</code>", "box AP", "50.00"]
    assert (box[8], mask[8]) == (NOT_RUN, "–")
    assert (box[-1], mask[-1]) == ("50.18", "not published")


def test_steps_have_bars_and_intervals(tables):
    rows = {row[0]: row[1:] for row in tables[1]}
    assert rows["ONNX Runtime int8"] == [
        "ONNX Runtime, simplified", "-2.00", "███████", "-2.00", "-2.75 to -1.50"
    ]  # fmt: skip
    assert rows["TensorRT-RTX int8"] == ["ONNX Runtime int8", "-0.50", "██", "-2.50", "none"]
    assert rows["TensorRT-RTX fp32"][1:] == [NOT_RUN, "", "not run", "not run"]
    assert "95 % interval" not in tables[2][0]  # masks have no interval


def test_checks_commands_and_environment_are_listed(markdown, tables):
    failed = "<strong>failed</strong>: one | image differs"
    assert ["ONNX Runtime fp16, rounded", "padding grown", failed] in [row[:3] for row in tables[6]]
    assert ["gpus", "none"] in tables[7]
    assert ["driver", "none"] in tables[7]
    assert "```sh\nmake demo\n```" in markdown


HOSTILE = [
    "<img src=x onerror=alert(1)>", "[text](https://example.org)", "![image](x)", "https://example.org",
    "www.example.org", "a@example.org", "@octocat", "`code`", "``` fence", "*em* __strong__ ~~gone~~",
    "$x^2$", "| cell |", "<!-- hidden", "</details>", "&lt;b&gt;", "# heading", "1. item", "- item",
    "> quote", "\\", "[link]: x", "\x1b[31mred\x07", "\ud800", "\u202egnp.exe", "one\ntwo\n\n# three",
    "auto <https://x.org>",
]  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_name_is_text_everywhere(name):
    report = pull_request([section_of(name)], name)
    assert not [character for character in report if not character.isprintable() and character != "\n"]
    reader = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
    harmless = render_tags(reader.render(pull_request([section_of("name")], "name")))
    assert render_tags(reader.render(report)) == harmless
    for active in ("://e", "www.e", "@o", "@e"):
        assert active not in report.replace(f"echo {name}", "").replace(f"`{name}`", "")


def section_of(name):
    """A section in which everything is called `name`."""
    forms = all_forms(detector=name, model=name, dataset=name, notes=[name], versions={name: name})
    forms = [{**form, "title": f"{name}{index}"} for index, form in enumerate(forms)]
    forms[3]["invariance"] = [{**FAILED, "check": name, "reason": name}]
    forms[5]["reason"] = name
    found = [evaluated(form) for form in forms]
    return Section(found, None, [f"echo {name}"], differences(found))


def render_tags(html):
    """The elements of a page, in order."""
    return re.findall(r"</?[a-z]+[0-9]?|<!--", html)
