"""The page in headless Chromium."""

import pytest
from browser import CHROMIUM, Browser
from demo_forms import whole_set
from report_forms import all_forms, differences, evaluated

from samebox.reporting.page import page
from samebox.reporting.section import Section

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """The page of two detectors; the first has every part that a detector can have."""
    dataset = whole_set()
    results = [
        {key: entry[key] for key in ("image_id", "category_id", "bbox")} | {"score": 0.8}
        for entry in dataset.ground_truth.dataset["annotations"]
    ]
    forms = [evaluated(form, results[index:]) for index, form in enumerate(all_forms())]
    commands = ["make demo", "dvc repro compare@" + 12 * "a_long_name_"]
    rich = Section(forms, dataset, commands, differences(forms), {"int8": {"bbox": (-2.75, -1.5)}})
    other = [
        evaluated(form, results) for form in all_forms(detector="retinanet_shapes", model="RetinaNet")[:3]
    ]
    html = page([rich, Section(other, dataset, [])], images=2)
    file = tmp_path_factory.mktemp("page") / "index.html"
    file.write_text(html)
    return file


@pytest.fixture(scope="module")
def browser():
    with Browser() as opened:
        yield opened


@pytest.mark.parametrize(("width", "scheme"), [(360, "light"), (360, "dark"), (768, "light"), (1280, "dark")])
def test_the_page_opens_without_messages_and_scrolls_only_vertically(browser, path, width, scheme):
    browser.open(path, width, scheme=scheme)
    assert browser.messages == []
    assert browser.value("document.documentElement.clientWidth") == width
    assert browser.value("document.documentElement.scrollWidth") == width
    tables = "[...document.querySelectorAll('table')]"
    assert browser.value(f"{tables}.length") > 10
    # a table wider than the page scrolls in its own box, also by keyboard
    assert browser.value(f"{tables}.every(one => one.closest('.scroll').tabIndex === 0)")
    sides = "[...document.images].map(one => Math.max(one.naturalWidth, one.naturalHeight))"
    assert browser.value(sides) == [560] * 8
    dark = browser.value("getComputedStyle(document.body).backgroundColor") == "rgb(20, 24, 28)"
    assert dark == (scheme == "dark")


def test_a_bar_starts_where_that_of_the_preceding_form_ends(browser, path):
    browser.open(path, 1280)
    bars = browser.value("""
        [...document.querySelectorAll('#detector-1 td.bar svg[role=img]')].slice(0, 5).map(one =>
            [...one.querySelectorAll('rect, .mark, .zero')].map(part => part.getBoundingClientRect()).map(
                box => [box.left, box.right]))""")
    (zero, _, _), _, _, (_, int8, int8_mark), (_, engine, engine_mark) = bars
    assert int8[1] == pytest.approx(zero[0], abs=1)  # starts at no loss
    assert int8[0] == pytest.approx(sum(int8_mark) / 2, abs=1)
    assert engine[1] == pytest.approx(int8[0], abs=1)
    assert engine[0] == pytest.approx(sum(engine_mark) / 2, abs=1)
    assert (int8[1] - int8[0]) / (engine[1] - engine[0]) == pytest.approx(4, rel=0.02)  # 2.0 and 0.5 points


def test_failures_of_a_page_are_messages(browser, tmp_path):
    file = tmp_path / "broken.html"
    file.write_text("<script>missing()</script><img src='absent.png'>")
    browser.open(file, 360)
    methods = {message["method"] for message in browser.messages}
    assert {"Runtime.exceptionThrown", "Network.loadingFailed"} <= methods
