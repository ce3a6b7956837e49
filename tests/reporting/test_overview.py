from report_forms import NOT_RUN, TITLES, all_forms, metrics, not_run

from samebox.comparing.comparison import Comparison
from samebox.reporting.overview import Cell, overview


def test_a_detector_has_a_line_for_each_measure_and_a_cell_for_each_form():
    table = overview([Comparison(all_forms())])
    assert table.forms == list(TITLES.values())
    (entry,) = table.entries
    assert (entry.model, entry.config) == ("Mask R-CNN", "mask_rcnn_shapes")
    box, mask = entry.lines
    assert (box.metric, mask.metric) == ("box AP", "mask AP")
    assert [cell.text for cell in box.cells[:5]] == ["50.00", "50.00", "50.00", "49.95", "48.00"]
    assert (box.published, mask.published) == ("50.18", "not published")


def test_the_reason_of_a_form_not_run_spans_its_lines():
    (entry,) = overview([Comparison(all_forms())]).entries
    box, mask = (line.cells[5] for line in entry.lines)
    assert box == Cell(NOT_RUN, measured=False, rows=2)
    assert mask.rows == 0


def test_the_forms_of_all_detectors_are_columns():
    one = [metrics("torch", {"bbox": 50.0}), metrics("int8", {"bbox": 48.0})]
    values = {"PQ": 39.4, "SQ": 1.0, "RQ": 1.0, "PQ_things": 1.0, "PQ_stuff": 1.0}
    panoptic = {"panoptic": {**values, "per_class": {}}}
    other = [
        metrics("torch", {}, "d2_panoptic", "Panoptic FPN", score={"1": panoptic}),
        not_run("tensorrt_rtx", detector="d2_panoptic", model="Panoptic FPN"),
    ]
    table = overview([Comparison(one), Comparison(other)])
    assert table.forms == ["PyTorch", "ONNX Runtime int8", "TensorRT-RTX fp32"]
    first, second = (entry.lines[0] for entry in table.entries)
    assert [cell.text for cell in first.cells] == ["50.00", "48.00", "not requested"]
    assert second.metric == "PQ"
    assert [cell.text for cell in second.cells] == ["39.40", "not requested", NOT_RUN]
    assert [cell.measured for cell in second.cells] == [True, False, False]


def test_a_measure_that_a_form_lacks_has_a_reason():
    forms = [metrics("torch", {"bbox": 50.0, "segm": 47.0}), metrics("onnx", {"bbox": 50.0})]
    (entry,) = overview([Comparison(forms)]).entries
    assert entry.lines[1].cells[1] == Cell("gives no masks", measured=False)
