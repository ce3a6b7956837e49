import base64
import copy
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pytest
from report_forms import differences

from samebox.coco.dataset import CocoDataset
from samebox.coco.evaluated import EvaluatedForm
from samebox.coco.panoptic import PanopticSet
from samebox.coco.results import encode_masks
from samebox.core.errors import SameboxError
from samebox.reporting.overview import summary
from samebox.reporting.page import page
from samebox.reporting.section import Section
from samebox.scoring.average_precision import coco_scores

SHAPES = Path(__file__).parents[2] / "demo/shapes"
REASON = "built for SM86 in 12.3 s; not run: no GPU here"
CROSS_SITE = "<script>alert('x')</script>"


@pytest.fixture(scope="module")
def dataset():
    return CocoDataset(SHAPES / "val", SHAPES / "annotations/instances_val.json")


def measured(dataset, title, results, kinds=("bbox",), **changes):
    ids = [record.id for record in dataset.images]
    found = {kind: coco_scores(dataset.ground_truth, results, ids, kind) for kind in kinds}
    steps = ("preprocess", "network", "postprocess")
    metrics = {
        "detector": "retinanet_shapes", "model": "RetinaNet", "runtime": title, "title": title,
        "dataset": "shapes", "after": None,
        "status": "measured", "reason": None, "images": 200, "skipped": [],
        "score": {"1": {kind: {**one.stats, "per_class": one.per_class} for kind, one in found.items()}},
        "timing": {step: {"median": 1.5, "p95": 2.5} for step in steps}, "images_per_second": 40.0,
        "peak_mb": 321.0, "device_peak_mb": None, "artifact_mb": 4.8, "published": None, "notes": [],
        "hardware": {"cpu": "some CPU"}, "versions": {"torch": "2.9"}, **changes,
    }  # fmt: skip
    return EvaluatedForm(metrics, {kind: one.precision for kind, one in found.items()}, results)


def not_run(form, title="TensorRT-RTX fp32"):
    nothing = dict.fromkeys(("score", "timing", "images_per_second", "peak_mb", "artifact_mb"))
    change = {"runtime": title, "title": title, "status": "not run", "reason": REASON}
    return EvaluatedForm({**form.metrics, **nothing, **change})


@pytest.fixture(scope="module")
def results(dataset):
    return [
        {key: entry[key] for key in ("image_id", "category_id", "bbox")} | {"score": 0.8}
        for entry in dataset.ground_truth.dataset["annotations"]
        if not entry["iscrowd"]
    ]


@pytest.fixture(scope="module")
def forms(dataset, results):
    """PyTorch, a form that agrees, a form with shifted boxes in one image, and a form that was not run."""
    shifted = copy.deepcopy(results)
    for result in shifted:
        if result["image_id"] == 20000042:
            result["bbox"][0] += result["bbox"][2]
    pytorch = measured(dataset, "PyTorch", results)
    note = f"simplification refused: {CROSS_SITE}"
    return [
        pytorch,
        measured(dataset, "ONNX Runtime", results, notes=[note], versions={"torch": "2.9", "onnx": "1.19"}),
        measured(dataset, "ONNX Runtime, simplified", shifted),
        not_run(pytorch),
    ]


@pytest.fixture(scope="module")
def html(dataset, forms):
    commands = ["dvc repro", f"echo {CROSS_SITE}"]
    return page([Section(forms, dataset, commands, differences(forms))], images=2)


class Outline(HTMLParser):
    """The elements of a page; fails if one is not closed."""

    VOID = ("meta", "img", "br")

    def __init__(self, html):
        super().__init__()
        self.open, self.attributes, self.cells = [], [], []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.attributes.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)
        if tag in ("td", "th"):
            self.cells.append("")
        if tag == "svg" and "td" in self.open:
            self.cells[-1] += "a picture"

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if {"td", "th"} & set(self.open):
            self.cells[-1] += data.strip()


def pictures(html):
    return re.findall(r'base64,([^"]+)"', html)


def test_every_element_is_closed_and_ids_are_unique(html):
    outline = Outline(html)
    assert outline.open == []
    ids = [attributes["id"] for _, attributes in outline.attributes if "id" in attributes]
    assert "detector-1" in ids
    assert len(ids) == len(set(ids))
    assert {"section", "table", "svg", "img", "pre"} <= {tag for tag, _ in outline.attributes}


def test_nothing_is_loaded_from_elsewhere(html):
    sources = [
        value
        for tag, attributes in Outline(html).attributes
        for name, value in attributes.items()
        if name in ("src", "href", "xlink:href") and tag != "svg"
    ]
    assert sources
    assert all(source.startswith(("#", "data:image/jpeg;base64,")) for source in sources)
    assert not re.search(r"@import|<link|<script|url\((?!#)", html)


def test_text_is_escaped(html):
    assert CROSS_SITE not in html
    assert html.count("&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;") == 2


@pytest.mark.parametrize(
    "name", [CROSS_SITE, "\x1b[31m\ud800\u202e\x07", "$\\frac$", '" onload="x', "]]>--><b>"]
)
def test_a_hostile_name_is_text_everywhere(dataset, results, name):
    def written(name):
        names = {"detector": name, "model": name, "dataset": name, "notes": [name], "versions": {name: name}}
        forms = [measured(dataset, title, results) for title in (name, f"{name} 2")]
        for form in forms:
            form.metrics.update(names)
        return page([Section(forms, dataset, [name])], name, images=1)

    hostile, harmless = Outline(written(name)), Outline(written("name"))
    tags = [[tag for tag, _ in outline.attributes if tag != "use"] for outline in (hostile, harmless)]
    assert tags[0] == tags[1]
    assert not any(key.startswith("on") for _, attributes in hostile.attributes for key in attributes)
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\ud800-\udfff\u202a-\u202e]", written(name))


def test_the_tables_show_scores_and_the_reason_across_the_row(html):
    outline = Outline(html)
    assert outline.cells.count("100.00") >= 6
    assert REASON in outline.cells
    for spanned in ("4", "7"):  # in the tables of steps and scores, and of time and memory
        assert ("td", {"class": "reason", "colspan": spanned}) in outline.attributes
    assert "" not in outline.cells


def test_equal_input_gives_an_equal_page(dataset, forms, html):
    commands = ["dvc repro", f"echo {CROSS_SITE}"]
    assert page([Section(forms, dataset, commands, differences(forms))], images=2) == html


def test_the_image_that_differs_is_first_beside_the_form_that_differs(html, dataset):
    names = re.findall(r'alt="(\S+) with \d+ detections by ([^"]+)"', html)
    assert names[:2] == [
        ("000020000042.jpg", "PyTorch"),
        ("000020000042.jpg", "ONNX Runtime, simplified"),
    ]
    objects = {name: len(annotations) for name, annotations in dataset.ground_truth.imgToAnns.items()}
    most = max(objects.values())
    second = next(record for record in dataset.images if record.file_name == names[2][0])
    assert objects[second.id] == most


def test_the_table_of_changes_counts_detections(html, results, dataset):
    cells = Outline(html).cells
    shifted = sum(result["image_id"] == 20000042 for result in results)
    row = cells[cells.index("0 / 0 / 0 / 0") + 2 :]
    assert row[0] == "ONNX Runtime, simplified"
    assert row[1:6] == [str(len(results) - shifted), "0", "0", *[f"{shifted}(up to 0.80)"] * 2]


def test_the_first_images_are_the_worst_of_each_form(dataset, results):
    def form(title, lost):
        """`lost`: the number of missing detections by image id."""
        missing = dict(lost)
        kept = []
        for result in results:
            if missing.get(result["image_id"], 0):
                missing[result["image_id"]] -= 1
            else:
                kept.append(result)
        return replace(plain, metrics={**plain.metrics, "title": title, "runtime": title}, results=kept)

    plain = measured(dataset, "PyTorch", results)
    worse = form("int8", {20000025: 4, 20000038: 3, 20000030: 2})
    better = form("fp16", {20000030: 1, 20000039: 1})
    forms = [plain, worse, better]
    shown = page([Section(forms, dataset, [], differences(forms))], images=4)
    names = re.findall(r'alt="(\S+)\.jpg with \d+ detections by ([^"]+)"', shown)[1::2]
    assert names == [
        ("000020000025", "int8"), ("000020000030", "fp16"),
        ("000020000038", "int8"), ("000020000039", "fp16"),
    ]  # fmt: skip


def test_pictures_are_jpegs_with_drawn_boxes(html):
    first, second, *others = pictures(html)
    assert len(others) == 2
    decoded = [
        cv2.imdecode(np.frombuffer(base64.b64decode(data), np.uint8), cv2.IMREAD_COLOR)
        for data in (first, second)
    ]
    assert max(decoded[0].shape) == 560
    assert (decoded[0] != decoded[1]).any()


def test_skipped_images_are_not_shown(dataset, results):
    skipped = [{"file_name": "000020000042.jpg", "reason": "torn"}]
    without = [result for result in results if result["image_id"] != 20000042]
    forms = [measured(dataset, "PyTorch", results), measured(dataset, "ONNX", without, skipped=skipped)]
    shown = page([Section(forms, dataset, [])], images=1)
    assert 'alt="000020000042.jpg' not in shown
    assert "images skipped: 1: 000020000042.jpg (torn)" in shown


def test_the_environment_names_the_forms_of_values_that_differ(html):
    cells = Outline(html).cells
    assert cells[cells.index("cpu") + 1] == "some CPU"
    assert cells[cells.index("onnx") + 1] == "1.19 (ONNX Runtime)"


def test_several_detectors_are_linked_from_the_top(dataset, forms):
    other = [
        EvaluatedForm({**form.metrics, "detector": "fcos_shapes"}, form.curves, form.results)
        for form in forms
    ]
    both = page([Section(forms, dataset, []), Section(other, dataset, [])], images=0)
    assert '<a href="#detector-2">fcos_shapes</a>' in both
    assert both.count("<section ") == 2
    assert pictures(both) == []


def test_a_page_without_a_measured_form(dataset, forms):
    shown = page([Section([not_run(forms[0], "PyTorch")], dataset, [])])
    assert REASON in shown
    assert "0 of 1 forms measured" in shown
    assert "<img" not in shown


@pytest.fixture(scope="module")
def masked(dataset, results):
    """The results with the true masks."""
    codes = {
        (entry["image_id"], *entry["bbox"]): entry["segmentation"]
        for entry in dataset.ground_truth.dataset["annotations"]
    }
    return [{**result, "segmentation": codes[(result["image_id"], *result["bbox"])]} for result in results]


def test_masks_are_drawn_if_the_results_have_them(dataset, results, masked):
    plain, drawn = (
        page([Section([measured(dataset, "PyTorch", found)], dataset, [])], images=1)
        for found in (results, masked)
    )
    assert pictures(plain) != pictures(drawn)


def test_segments_are_drawn_and_scored_if_a_form_has_them(dataset, results):
    segments = PanopticSet(SHAPES / "annotations/panoptic_val.json", SHAPES / "panoptic_val")
    plain = measured(dataset, "PyTorch", results)
    form = copy.deepcopy(plain)
    whole = {f"{name}{whose}": 39.25 for whose in ("", "_things", "_stuff") for name in ("PQ", "SQ", "RQ")}
    form.metrics["score"]["1"] |= {
        "panoptic": whole | {"per_class": {"sky": 33.75}},
        "semantics": {"mIoU": 41.5, "per_class": {"things": 43.25}},
    }
    form = replace(form, panoptic=segments)
    bare, shown = (page([Section([one], dataset, [])], images=1) for one in (plain, form))
    assert pictures(bare) != pictures(shown)
    for text in (">PQ things<", ">mIoU<", "39.25", "33.75", "43.25", "PQ of each class", "IoU of each class"):
        assert text in shown
        assert text not in bare


def test_the_page_shows_the_loss_of_a_form_whose_masks_differ(dataset, results, masked):
    """One mask of an image becomes empty."""
    changed = copy.deepcopy(masked)
    emptied = next(result for result in changed if result["image_id"] == 20000042)
    emptied["segmentation"] = encode_masks(np.zeros((1, *emptied["segmentation"]["size"]), bool))[0]
    kinds = ("bbox", "segm")
    forms = [
        measured(dataset, title, found, kinds) for title, found in (("PyTorch", masked), ("ONNX", changed))
    ]
    forms.append(measured(dataset, "boxes alone", results))
    section = Section(forms, dataset, [], differences(forms))
    shown = page([section], images=1)
    cells = Outline(shown).cells
    assert {"box AP", "mask AP", "made from"} <= set(cells)
    assert "gives no masks" in cells
    assert 'alt="000020000042.jpg with' in shown
    count = sum(result["image_id"] == 20000042 for result in masked)
    assert f"000020000042.jpg: {count} matched, 1 moved, 0 rescored, 0 lost, 0 new" in shown
    assert "Box precision over recall" in shown
    assert "Mask precision over recall" in shown
    assert "Mask AP of each class" in shown
    loss = -section.comparison.rows[1].values["segm/AP_delta"]
    assert loss > 0.01
    assert f"The largest loss against PyTorch (100.00 mask AP) is {loss:.2f}, by ONNX." in shown


def test_a_missing_image_is_named(forms, tmp_path):
    dataset = CocoDataset(tmp_path, SHAPES / "annotations/instances_val.json")
    with pytest.raises(SameboxError, match=r"\d+\.jpg: no such file"):
        page([Section(forms, dataset, [])])


def test_the_summary_names_the_largest_loss(dataset, forms):
    comparison = Section(forms, dataset, []).comparison
    loss = -comparison.rows[2].values["bbox/AP_delta"]
    assert loss > 0.1
    assert summary(comparison) == (
        "3 of 4 forms measured on 200 images of shapes. The largest loss against PyTorch (100.00 box AP) is "
        f"{loss:.2f}, by ONNX Runtime, simplified."
    )
    assert summary(Section(forms[:2], dataset, []).comparison).endswith(
        "No form loses AP against PyTorch (100.00 box AP)."
    )
