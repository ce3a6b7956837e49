import copy
import csv
import io

import pytest

from samebox.comparing.comparison import Comparison
from samebox.comparing.gate import Gate
from samebox.core.errors import SameboxError
from samebox.reporting import markdown, text, values

REASON = "built for SM86, SM89, SM120 in 12.3 s; not run: no GPU here"
STATS = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")


def scored(ap):
    return {**dict.fromkeys(STATS, ap), "AP50": ap + 16, "per_class": {"disc": ap + 5, "cross": None}}


def measured(title, ap, batch_ap=None, **changes):
    times = {"preprocess": 1.234, "network": 123.4, "postprocess": 0.512}
    return {
        "detector": "retinanet_shapes", "runtime": title.lower(), "title": title, "dataset": "shapes",
        "status": "measured", "reason": None, "images": 200, "skipped": [],
        "score": {"1": {"bbox": scored(ap)}, "4": {"bbox": scored(ap if batch_ap is None else batch_ap)}},
        "timing": {step: {"median": ms, "p95": 2 * ms} for step, ms in times.items()},
        "images_per_second": 8.0, "peak_mb": 321.04, "device_peak_mb": None, "artifact_mb": 4.8,
        "published": None, "notes": [], "hardware": {}, "versions": {}, **changes,
    }  # fmt: skip


def not_run(title, **changes):
    nothing = dict.fromkeys(("score", "timing", "images_per_second", "peak_mb", "artifact_mb"))
    return {**measured(title, 0), **nothing, "status": "not run", "reason": REASON, **changes}


def with_masks(form):
    form = copy.deepcopy(form)
    for by_kind in form["score"].values():
        by_kind["segm"] = scored(by_kind["bbox"]["AP"] - 4)
    return form


@pytest.fixture
def comparison():
    return Comparison(
        [
            measured("PyTorch", 35.5614),
            measured("ONNX Runtime", 35.5594, notes=["simplification refused: a|b"]),
            not_run("TensorRT-RTX fp32"),
        ]
    )


def test_the_table_for_a_terminal(comparison):
    assert text.text(comparison).splitlines() == [
        "                                                     AP at    ms/image (pre /           artifact",
        "retinanet_shapes      AP   AP50   AP75        ΔAP  batch 4        net / post)  peak MB        MB",
        "PyTorch            35.56  51.56  35.56  reference    35.56  1.23 / 123 / 0.51    321.0       4.8",
        "ONNX Runtime       35.56  51.56  35.56      +0.00    35.56  1.23 / 123 / 0.51    321.0       4.8",
        "TensorRT-RTX fp32  built for SM86, SM89, SM120 in 12.3 s; not run: no GPU here",
        "  ONNX Runtime: simplification refused: a|b",
    ]


def test_a_built_artifact_that_was_not_run_has_its_size():
    comparison = Comparison([measured("PyTorch", 35), not_run("TensorRT-RTX fp32", artifact_mb=9.15)])
    line = text.text(comparison).splitlines()[-1]
    assert REASON in line
    assert line.endswith("9.2")
    assert comparison.rows[1].values["artifact_mb"] == 9.15


def test_every_value_of_a_form_that_was_not_run_is_its_reason(comparison):
    assert set(comparison.rows[2].values.values()) == {REASON}


def test_the_difference_is_to_the_reference_and_never_minus_zero(comparison):
    reference, other, _ = comparison.rows
    assert reference.values["bbox/AP_delta"] == "reference"
    assert other.values["bbox/AP_delta"] == pytest.approx(-0.002)
    assert "-0.00" not in text.text(comparison)


def test_numbers_are_rounded_as_in_the_table_without_reasons(comparison):
    found = values.numbers(comparison)
    assert list(found) == ["pytorch", "onnx runtime", "tensorrt-rtx fp32"]
    assert found["onnx runtime"] == {
        "bbox/AP": 35.56, "bbox/AP50": 51.56, "bbox/AP75": 35.56, "bbox/AP_delta": 0.0,
        "bbox/AP_batch4": 35.56, "ms_preprocess": 1.23, "ms_network": 123.0, "ms_postprocess": 0.51,
        "peak_mb": 321.0, "artifact_mb": 4.8,
    }  # fmt: skip
    assert "bbox/AP_delta" not in found["pytorch"]
    assert found["tensorrt-rtx fp32"] == {}


def test_masks_have_columns_that_fit_a_terminal():
    comparison = Comparison(
        [
            with_masks(measured("PyTorch", 38.2, detector="mask_rcnn_r50_fpn_1x_coco")),
            with_masks(
                measured(
                    "ONNX Runtime, simplified", 38, detector="mask_rcnn_r50_fpn_1x_coco", device_peak_mb=1031
                )
            ),
            not_run("TensorRT-RTX fp16", detector="mask_rcnn_r50_fpn_1x_coco"),
        ]
    )
    shown = text.text(comparison)
    assert max(map(len, shown.splitlines())) <= 120
    assert "34.20" in shown
    assert [column.heading for column in comparison.columns if column.kind == "segm"] == [
        "mask AP", "mask AP50", "mask AP75", "mask ΔAP", "mask AP at batch 4",
    ]  # fmt: skip
    assert comparison.rows[1].values["segm/AP_delta"] == pytest.approx(-0.2)
    assert comparison.rows[0].values["device_peak_mb"] == "no GPU used"
    assert list(comparison.per_class) == ["bbox", "segm"]


def with_segments(form, quality=39.4):
    form = with_masks(form)
    for by_kind in form["score"].values():
        names = [f"{name}{whose}" for whose in ("", "_things", "_stuff") for name in ("PQ", "SQ", "RQ")]
        stats = dict.fromkeys(names, quality) | {"PQ_stuff": quality - 10}
        by_kind["panoptic"] = stats | {"per_class": {"disc": quality, "sky": quality - 10}}
        by_kind["semantics"] = {"mIoU": 41.2, "per_class": {"things": 40, "sky": 42.4}}
    return form


def test_segments_have_columns_for_their_own_measures():
    forms = [with_segments(measured("PyTorch", 37.6)), with_segments(measured("ONNX Runtime", 37.6), 39.3)]
    forms[0]["published"] = {"bbox": 37.6, "segm": 34.7, "panoptic": 39.4, "semantics": 41.2}
    comparison = Comparison(forms)
    headings = {
        kind: [column.heading for column in comparison.columns if column.kind == kind]
        for kind in ("segm", "panoptic", "semantics")
    }
    assert headings == {
        "segm": ["mask AP", "mask AP50", "mask AP75", "mask ΔAP", "mask AP at batch 4"],
        "panoptic": ["PQ", "SQ", "RQ", "PQ things", "PQ stuff", "ΔPQ", "PQ at batch 4"],
        "semantics": ["mIoU", "ΔmIoU", "mIoU at batch 4"],
    }
    values = comparison.rows[1].values
    assert values["panoptic/PQ_delta"] == pytest.approx(-0.1)
    assert values["panoptic/PQ_stuff"] == pytest.approx(29.3)
    assert (values["semantics/mIoU"], values["semantics/mIoU_delta"]) == (41.2, 0)
    assert comparison.per_class["panoptic"]["sky"]["PyTorch"] == pytest.approx(29.4)
    assert comparison.notes[-2:] == [
        "published by the detector's authors: 39.4 PQ",
        "published by the detector's authors: 41.2 mIoU",
    ]
    shown = text.text(comparison)
    assert max(map(len, shown.splitlines())) <= 120
    assert "39.30" in shown
    assert "41.20" in shown


def test_a_form_without_segments_has_a_reason():
    comparison = Comparison([with_segments(measured("PyTorch", 37)), measured("ONNX Runtime", 37)])
    assert comparison.rows[1].values["panoptic/PQ"] == "gives no segments"
    assert comparison.rows[1].values["semantics/mIoU"] == "gives no class maps"


def with_further(form, points=51.7):
    form = copy.deepcopy(form)
    for by_kind in form["score"].values():
        recall = dict.fromkeys(("AR100", "AR300", "AR1000", "ARs", "ARm"), points + 20) | {"ARl": None}
        by_kind["voc"] = {"mAP": points, "per_class": {"disc": points + 1}}
        by_kind["voc07"] = {"mAP": points - 0.3, "per_class": {"disc": points}}
        by_kind["recall"] = recall | {"per_class": {}}
    return form


def test_further_measures_of_boxes_have_their_own_table():
    forms = [with_further(with_masks(measured("PyTorch", 35))), not_run("TensorRT-RTX fp32")]
    assert text.text(Comparison(forms)).splitlines()[-7:] == [
        "",
        "                              VOC",
        "                             2007",
        "retinanet_shapes   VOC mAP    mAP  AR@100  AR@300  AR@1000  ARs@1000  ARm@1000  ARl@1000",
        "                                                                                 no such",
        "PyTorch              51.70  51.40   71.70   71.70    71.70     71.70     71.70   objects",
        "TensorRT-RTX fp32  built for SM86, SM89, SM120 in 12.3 s; not run: no GPU here",
    ]


def test_further_measures_of_boxes_are_in_every_other_format():
    forms = [with_further(measured("PyTorch", 35)), with_further(measured("ONNX Runtime", 35), 40)]
    comparison = Comparison([*forms, measured("Bare", 35)])
    rows = list(csv.DictReader(io.StringIO(values.csv(comparison))))
    assert [row["voc/mAP"] for row in rows] == ["51.7", "40", "not scored"]
    assert [row["recall/ARl"] for row in rows] == ["no such objects", "no such objects", "not scored"]
    assert "| VOC mAP | VOC 2007 mAP | AR@100 |" in markdown.markdown(comparison)
    assert values.json(comparison)["per_class"]["voc"]["disc"] == {
        "PyTorch": 52.7, "ONNX Runtime": 41, "Bare": "not scored"
    }  # fmt: skip


def test_the_gate_ignores_further_measures():
    forms = [with_further(measured("PyTorch", 35)), with_further(measured("ONNX Runtime", 35), 20)]
    comparison = Comparison(forms)
    assert comparison.kinds == ["bbox"]
    Gate(0.1).check(comparison)


def test_the_gate_sees_a_drop_of_panoptic_quality():
    forms = [with_segments(measured("PyTorch", 37)), with_segments(measured("ONNX Runtime", 37), 39.2)]
    with pytest.raises(SameboxError, match=r"loses 0\.20 PQ against PyTorch"):
        Gate(0.1).check(Comparison(forms))


def test_each_unmeasured_cell_has_a_reason():
    bare = measured("ONNX Runtime", 30)
    del bare["score"]["4"]
    bare["score"]["1"]["bbox"]["AP75"] = None
    rows = Comparison([with_masks(measured("PyTorch", 35)), bare]).rows
    assert rows[1].values["bbox/AP75"] == "no such objects"
    assert rows[1].values["bbox/AP_batch4"] == "not run at batch 4"
    assert rows[1].values["segm/AP"] == rows[1].values["segm/AP_delta"] == "gives no masks"


def test_without_a_measured_reference_there_is_no_difference():
    comparison = Comparison([not_run("PyTorch"), measured("ONNX Runtime", 35)])
    assert comparison.rows[1].values["bbox/AP_delta"] == f"PyTorch: {REASON}"
    assert comparison.rows[1].values["bbox/AP"] == 35


def test_markdown(comparison):
    lines = markdown.markdown(comparison).splitlines()
    assert lines[0] == (
        "| retinanet_shapes | AP | AP50 | AP75 | ΔAP | AP at batch 4 | ms/image (pre / net / post) "
        "| peak MB | artifact MB |"
    )
    assert lines[3].startswith("| ONNX Runtime | 35.56 | 51.56 | 35.56 | +0.00 |")
    assert lines[4] == f"| TensorRT-RTX fp32 | {REASON} |" + " not run |" * 7
    assert lines[-1] == r"- ONNX Runtime: simplification refused: a\|b"


def test_csv_has_unrounded_numbers_and_a_reason_in_each_cell(comparison):
    rows = list(csv.DictReader(io.StringIO(values.csv(comparison))))
    assert float(rows[0]["bbox/AP"]) == 35.5614
    assert float(rows[1]["ms_network"]) == 123.4
    assert rows[2].pop("detector") == "retinanet_shapes"
    assert rows[2].pop("form") == "TensorRT-RTX fp32"
    assert set(rows[2].values()) == {REASON}


def test_a_hostile_name_neither_runs_in_a_terminal_nor_in_a_spreadsheet():
    comparison = Comparison([measured("=HYPERLINK(1)\x1b[31m", 35.5, notes=["\x9b31m\u202e"])])
    lines = text.text(comparison)
    assert not [character for character in lines if not character.isprintable() and character != "\n"]
    (row,) = csv.DictReader(io.StringIO(values.csv(comparison)))
    assert row["form"] == "'=HYPERLINK(1)?[31m"


def test_json(comparison):
    document = values.json(comparison)
    assert document["rows"][0]["bbox/AP50"] == 35.5614 + 16
    assert [row["measured"] for row in document["rows"]] == [True, True, False]
    assert document["per_class"]["bbox"]["disc"] == {
        "PyTorch": 35.5614 + 5,
        "ONNX Runtime": 35.5594 + 5,
        "TensorRT-RTX fp32": REASON,
    }
    assert document["per_class"]["bbox"]["cross"]["PyTorch"] == "no such objects"


def test_masks_are_in_every_format():
    masked = with_masks(measured("PyTorch", 35, published={"bbox": 38.2, "segm": 34.7}))
    comparison = Comparison([masked, measured("ONNX Runtime", 35)])
    heading, _, first, second, *_ = markdown.markdown(comparison).splitlines()
    assert "| mask AP | mask AP50 | mask AP75 | mask ΔAP | mask AP at batch 4 |" in heading
    assert "| 31.00 | 47.00 | 31.00 | reference | 31.00 |" in first
    assert second.split(" | ").count("gives no masks") == 5
    rows = list(csv.DictReader(io.StringIO(values.csv(comparison))))
    assert [row["segm/AP_batch4"] for row in rows] == ["31", "gives no masks"]
    document = values.json(comparison)
    assert document["rows"][0]["segm/AP50"] == 47
    assert document["per_class"]["segm"]["disc"] == {"PyTorch": 36, "ONNX Runtime": "not scored"}
    assert comparison.notes == [
        "published by the detector's authors: 38.2 box AP",
        "published by the detector's authors: 34.7 mask AP",
    ]


def test_notes_start_with_their_forms():
    skipped = [{"file_name": f"{name}.jpg", "reason": "torn"} for name in "abcd"]
    forms = [
        measured(title, 35, skipped=skipped, published={"bbox": 36.5})
        for title in ("PyTorch", "ONNX Runtime")
    ]
    assert Comparison(forms).notes == [
        "PyTorch, ONNX Runtime: images skipped: 4: a.jpg (torn), b.jpg (torn), c.jpg (torn) and 1 more",
        "published by the detector's authors: 36.5 box AP",
    ]


def test_forms_of_two_detectors_are_an_error():
    with pytest.raises(SameboxError, match="one detector, not of fcos, retinanet_shapes"):
        Comparison([measured("PyTorch", 35), measured("ONNX Runtime", 35, detector="fcos")])
    with pytest.raises(SameboxError, match="not of none"):
        Comparison([])


def test_a_drop_within_the_limit_passes():
    forms = [measured("PyTorch", 35.56), measured("ONNX Runtime", 35.46), not_run("TensorRT")]
    Gate(0.1).check(Comparison(forms))


def test_a_rise_passes_at_limit_zero():
    Gate(0).check(Comparison([measured("PyTorch", 35), measured("ONNX Runtime", 36)]))


def test_the_largest_drop_is_named():
    forms = [
        measured("PyTorch", 35),
        measured("ONNX Runtime", 34.8),
        measured("ONNX Runtime, simplified", 34.69),
    ]
    with pytest.raises(SameboxError) as caught:
        Gate(0.1).check(Comparison(forms))
    assert str(caught.value) == (
        "retinanet_shapes: ONNX Runtime, simplified loses 0.31 box AP against PyTorch, more than "
        "compare.max_ap_drop 0.1; look at where the forms differ in the report, or raise the limit"
    )


def test_a_form_may_have_its_own_limit():
    forms = [measured("PyTorch", 35), measured("ONNX Runtime", 34.8), measured("int8", 34.2, runtime="int8")]
    Gate(0.3, {"int8": 1.0}).check(Comparison(forms))
    with pytest.raises(SameboxError, match=r"ONNX Runtime loses 0\.20 .*max_ap_drop 0\.1"):
        Gate(0.1, {"int8": 1.0}).check(Comparison(forms))
    with pytest.raises(SameboxError, match=r"int8 loses 0\.80 .*max_ap_drop_of\.int8 0\.5"):
        Gate(0.3, {"int8": 0.5}).check(Comparison(forms))


def test_a_runtimes_limit_replaces_that_of_its_precision():
    forms = [measured("PyTorch", 35), measured("engine", 34.2, runtime="tensorrt_int8", precision="int8")]
    Gate(0.1, {"int8": 1.0}).check(Comparison(forms))
    with pytest.raises(SameboxError, match=r"engine loses 0\.80 .*max_ap_drop_of\.tensorrt_int8 0\.5"):
        Gate(0.1, {"int8": 1.0, "tensorrt_int8": 0.5}).check(Comparison(forms))


def test_the_gate_compares_each_batch_size_with_that_of_the_reference():
    forms = [measured("PyTorch", 35, batch_ap=40), measured("ONNX Runtime", 35, batch_ap=39)]
    with pytest.raises(SameboxError, match=r"loses 1\.00 box AP at batch 4"):
        Gate(0.1).check(Comparison(forms))


def test_the_gate_sees_a_drop_of_masks():
    forms = [with_masks(measured("PyTorch", 35)) for _ in range(2)]
    forms[1]["title"] = "ONNX Runtime"
    forms[1]["score"]["1"]["segm"]["AP"] -= 0.5
    with pytest.raises(SameboxError, match=r"loses 0\.50 mask AP"):
        Gate(0.1).check(Comparison(forms))


def test_the_gate_sees_a_drop_of_masks_at_another_batch_size():
    forms = [with_masks(measured("PyTorch", 35)) for _ in range(2)]
    forms[1]["title"] = "ONNX Runtime"
    forms[1]["score"]["4"]["segm"]["AP"] -= 0.5
    with pytest.raises(SameboxError, match=r"loses 0\.50 mask AP at batch 4"):
        Gate(0.1).check(Comparison(forms))


def test_a_form_without_masks_loses_no_mask_ap():
    forms = [with_masks(measured("PyTorch", 35)), measured("ONNX Runtime", 35)]
    Gate(0.1).check(Comparison(forms))


def test_the_gate_needs_a_measured_reference():
    with pytest.raises(SameboxError, match="PyTorch was not run"):
        Gate(0.1).check(Comparison([not_run("PyTorch"), measured("ONNX Runtime", 35)]))


def with_keypoints(form):
    form = copy.deepcopy(form)
    for by_kind in form["score"].values():
        by_kind["keypoints"] = scored(by_kind["bbox"]["AP"] + 10)
    return form


def test_keypoints_have_columns_that_fit_a_terminal():
    published = {"bbox": 53.6, "keypoints": 64.0}
    forms = [with_keypoints(measured("PyTorch", 53.6, published=published))]
    forms += [with_keypoints(measured("ONNX Runtime", 53.5)), not_run("TensorRT-RTX fp16")]
    comparison = Comparison(forms)
    shown = text.text(comparison)
    assert max(map(len, shown.splitlines())) <= 120
    assert "63.60" in shown
    assert "published by the detector's authors: 64.0 keypoint AP" in shown
    assert [column.heading for column in comparison.columns if column.kind == "keypoints"] == [
        "keypoint AP", "keypoint AP50", "keypoint AP75", "keypoint ΔAP", "keypoint AP at batch 4",
    ]  # fmt: skip
    assert comparison.rows[1].values["keypoints/AP_delta"] == pytest.approx(-0.1)
    bare = Comparison([forms[0], measured("ONNX Runtime", 53.5)]).rows[1]
    assert bare.values["keypoints/AP"] == "gives no keypoints"


def test_the_gate_sees_a_drop_of_keypoints():
    forms = [with_keypoints(measured("PyTorch", 53)) for _ in range(2)]
    forms[1]["title"] = "ONNX Runtime"
    forms[1]["score"]["1"]["keypoints"]["AP"] -= 0.5
    with pytest.raises(SameboxError, match=r"loses 0\.50 keypoint AP against PyTorch"):
        Gate(0.1).check(Comparison(forms))


def notes(comparison, limit):
    """The notes that the gate adds to a table."""
    return Gate(limit).comparison(comparison.forms, comparison.intervals).notes


def with_interval(low, high, kind="bbox"):
    """A form that loses 0.3 AP at batch 1, with an interval."""
    forms = [measured("PyTorch", 35), measured("ONNX Runtime", 34.7, batch_ap=35, runtime="onnx")]
    return Comparison(forms, {"onnx": {kind: (low, high)}})


def test_the_interval_is_in_every_format():
    comparison = with_interval(-0.4567, 0.0123)
    lines = text.text(comparison).splitlines()
    assert "ΔAP      ΔAP 95%" in lines[1]
    assert " -0.30  -0.46…+0.01  " in lines[3]
    assert " reference    reference " in lines[2]
    heading, _, first, second, *_ = markdown.markdown(comparison).splitlines()
    assert "| ΔAP | ΔAP 95% | AP at batch 4 |" in heading
    assert "| reference | reference |" in first
    assert "| -0.30 | -0.46…+0.01 |" in second
    row = list(csv.DictReader(io.StringIO(values.csv(comparison))))[1]
    assert (float(row["bbox/AP_delta_low"]), float(row["bbox/AP_delta_high"])) == (-0.4567, 0.0123)
    row = values.json(comparison)["rows"][1]
    assert (row["bbox/AP_delta_low"], row["bbox/AP_delta_high"]) == (-0.4567, 0.0123)


def test_a_form_and_a_kind_may_have_no_interval():
    forms = [with_segments(measured(title, 35)) for title in ("PyTorch", "ONNX Runtime", "simplified")]
    comparison = Comparison(forms, {"simplified": {"bbox": (-0.1, 0.1)}})
    headings = [column.heading for column in comparison.columns]
    assert "box ΔAP 95%" in headings
    assert not {"mask ΔAP 95%", "ΔPQ 95%", "ΔmIoU 95%"} & set(headings)
    assert comparison.rows[1].values["bbox/AP_delta_low"] == "no interval"
    assert comparison.rows[2].values["bbox/AP_delta_low"] == -0.1


def test_times_have_their_own_table_if_one_would_be_too_wide():
    name = "mask_rcnn_r50_fpn_1x_coco"
    forms = [measured("PyTorch", 38.2, detector=name)]
    forms += [measured("ONNX Runtime, simplified", 27.1, detector=name, device_peak_mb=1031, runtime="onnx")]
    shown = text.text(Comparison(forms, {"onnx": {"bbox": (-13.55, -10.85)}}))
    assert max(map(len, shown.splitlines())) <= 120
    assert "-13.55…-10.85" in shown
    assert shown.count("PyTorch ") == 2
    assert shown.index("ΔAP") < shown.index("peak MB")


def test_a_loss_fails_the_gate_if_the_whole_interval_is_beyond_the_limit():
    with pytest.raises(SameboxError) as caught:
        Gate(0.1).check(with_interval(-0.5, -0.11))
    assert str(caught.value) == (
        "retinanet_shapes: ONNX Runtime loses 0.30 box AP (ΔAP -0.50…-0.11 in 95% of resamples) against "
        "PyTorch, more than compare.max_ap_drop 0.1; look at where the forms differ in the report, or raise "
        "the limit"
    )
    for high in (-0.1, 0.2):
        comparison = with_interval(-0.5, high)
        Gate(0.1).check(comparison)
        assert notes(comparison, 0.1) == [
            f"ONNX Runtime: loses 0.30 box AP (ΔAP -0.50…{high:+.2f} in 95% of resamples), more than "
            "compare.max_ap_drop 0.1, which may be chance: the interval reaches within the limit"
        ]
    assert notes(with_interval(-0.5, -0.11), 0.1) == []
    assert notes(with_interval(-0.5, 0.2), 0.3) == []


def test_the_interval_at_another_batch_is_shifted_by_the_difference():
    forms = [measured("PyTorch", 35), measured("ONNX Runtime", 35, batch_ap=34.7, runtime="onnx")]
    comparison = Comparison(forms, {"onnx": {"bbox": (-0.25, 0.25)}})
    Gate(0.1).check(comparison)
    assert notes(comparison, 0.1) == [
        "ONNX Runtime: loses 0.30 box AP at batch 4 (ΔAP -0.55…-0.05 in 95% of resamples), more than "
        "compare.max_ap_drop 0.1, which may be chance: the interval reaches within the limit"
    ]
    with pytest.raises(SameboxError, match=r"loses 0\.30 box AP at batch 4 \(ΔAP -0\.40…-0\.20 in 95%"):
        Gate(0.1).check(Comparison(forms, {"onnx": {"bbox": (-0.1, 0.1)}}))


def test_each_kind_has_its_own_interval():
    forms = [with_masks(measured("PyTorch", 35)), with_masks(measured("ONNX Runtime", 35))]
    wide = {"ONNX Runtime": {"bbox": (-9, 9)}}
    forms[1]["score"]["1"]["segm"]["AP"] -= 0.5
    with pytest.raises(SameboxError, match=r"loses 0\.50 mask AP against"):
        Gate(0.1).check(Comparison(forms, wide))


def test_a_failed_check_of_invariance_is_named():
    check = {"check": "padding grown", "passed": True, "reason": None}
    forms = [measured("PyTorch", 35, invariance=[check]), measured("ONNX Runtime", 35, invariance=None)]
    Gate().check(Comparison([*forms, not_run("TensorRT")]))
    failed = {"check": "mixed batch", "passed": False, "reason": "75% of the detections agree"}
    forms += [measured("simplified", 35, invariance=[check, failed])]
    with pytest.raises(SameboxError) as caught:
        Gate().check(Comparison(forms))
    assert str(caught.value) == (
        "retinanet_shapes: simplified fails a check of invariance, mixed batch: 75% of the detections agree; "
        "see `invariance` in its metrics.json, or leave it out of `runtimes`"
    )
