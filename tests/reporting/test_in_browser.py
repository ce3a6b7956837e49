"""The page in headless Chromium."""

import pytest
from browser import CHROMIUM, Browser
from demo_forms import whole_set
from report_forms import all_forms, differences, evaluated

from samebox.reporting.page import page
from samebox.reporting.section import Section

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """The page of two detectors, one of which has every part that a detector may have."""
    dataset = whole_set()
    found = [
        {key: entry[key] for key in ("image_id", "category_id", "bbox")} | {"score": 0.8}
        for entry in dataset.ground_truth.dataset["annotations"]
    ]
    forms = [evaluated(form, found[index:]) for index, form in enumerate(all_forms())]
    commands = ["make demo", "dvc repro compare@" + 12 * "a_long_name_"]
    rich = Section(forms, dataset, commands, differences(forms), {"int8": {"bbox": (-2.75, -1.5)}})
    other = [evaluated(form, found) for form in all_forms(detector="retinanet_shapes", model="RetinaNet")[:3]]
    html = page([rich, Section(other, dataset, [])], images=2)
    file = tmp_path_factory.mktemp("page") / "index.html"
    file.write_text(html)
    return file


@pytest.fixture(scope="module")
def browser():
    with Browser() as found:
        yield found


@pytest.mark.parametrize(("width", "scheme"), [(360, "light"), (360, "dark"), (768, "light"), (1280, "dark")])
def test_the_page_opens_without_complaint_and_scrolls_down_alone(browser, path, width, scheme):
    browser.open(path, width, scheme=scheme)
    assert browser.messages == []
    assert browser.value("document.documentElement.clientWidth") == width
    assert browser.value("document.documentElement.scrollWidth") == width
    tables = "[...document.querySelectorAll('table')]"
    assert browser.value(f"{tables}.length") > 10
    # a table that is wider than the page scrolls in a box of its own, with the keyboard too
    assert browser.value(f"{tables}.every(one => one.closest('.scroll').tabIndex === 0)")
    sides = "[...document.images].map(one => Math.max(one.naturalWidth, one.naturalHeight))"
    assert browser.value(sides) == [560] * 8
    dark = browser.value("getComputedStyle(document.body).backgroundColor") == "rgb(20, 24, 28)"
    assert dark == (scheme == "dark")


def test_bars_start_where_the_form_before_ended(browser, path):
    browser.open(path, 1280)
    bars = browser.value("""
        [...document.querySelectorAll('#detector-1 td.bar svg[role=img]')].slice(0, 5).map(one =>
            [...one.querySelectorAll('rect, .mark, .zero')].map(part => part.getBoundingClientRect()).map(
                box => [box.left, box.right]))""")
    (zero, _, _), _, _, (_, int8, int8_mark), (_, engine, engine_mark) = bars
    assert int8[1] == pytest.approx(zero[0], abs=1)  # from no loss
    assert int8[0] == pytest.approx(sum(int8_mark) / 2, abs=1)
    assert engine[1] == pytest.approx(int8[0], abs=1)
    assert engine[0] == pytest.approx(sum(engine_mark) / 2, abs=1)
    assert (int8[1] - int8[0]) / (engine[1] - engine[0]) == pytest.approx(4, rel=0.02)  # 2.0 and 0.5 points


def test_a_script_that_fails_would_be_seen(browser, tmp_path):
    file = tmp_path / "broken.html"
    file.write_text("<script>missing()</script><img src='absent.png'>")
    browser.open(file, 360)
    methods = {message["method"] for message in browser.messages}
    assert {"Runtime.exceptionThrown", "Network.loadingFailed"} <= methods
