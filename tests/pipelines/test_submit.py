"""pipelines.submit on a few of the demo's images, whose file has no annotations."""

import json
import zipfile

import demo_forms
import pytest
from panoptic_truth import SEGMENTS, PanopticTruth

import pipelines.submit
from samebox.coco.dataset import CocoDataset
from samebox.core.errors import SameboxError
from samebox.detector import Detector
from samebox.evaluation.evaluate import evaluate_form
from samebox.evaluation.run import DataSetRun, run_on_data_set
from stages.compose import compose


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Two images, and a file with them and the categories alone."""
    folder = tmp_path_factory.mktemp("test")
    demo_forms.small_set(folder, count=2)
    document = json.loads((folder / "annotations.json").read_text())
    del document["annotations"]
    (folder / "image_info_few2026.json").write_text(json.dumps(document))
    return folder


def asked(place, *overrides):
    return compose(
        "submit",
        [
            "detector=mask_rcnn_shapes", "runtime=torch", f"dataset.images={place}/val",
            f"dataset.annotations={place}/image_info_few2026.json", f"work={place}/work",
            f"out={place}/out", *overrides,
        ],
    )  # fmt: skip


def test_what_is_found_is_written_and_not_scored(place, capsys):
    pipelines.submit.run(asked(place))
    name = "detections_few2026_mask_rcnn_shapes_results"
    found = {}
    for task in ("bbox", "segm"):
        with zipfile.ZipFile(place / "out" / task / f"{name}.zip") as archive:
            found[task] = json.loads(archive.read(f"{name}.json"))
    assert {one["image_id"] for one in found["bbox"]} == {20000000, 20000001}
    assert len(found["bbox"]) == len(found["segm"]) > 10
    assert all(isinstance(one["segmentation"]["counts"], str) for one in found["segm"])
    assert sorted(path.name for path in (place / "out").iterdir()) == ["bbox", "segm"]
    assert f"bbox/{name}.zip: 0.0 MB" in capsys.readouterr().out


def test_an_unknown_format_is_told_before_anything_is_run(place):
    with pytest.raises(SameboxError, match="format: 'yolo' is none of coco, voc"):
        pipelines.submit.run(asked(place, "format=yolo"))


def test_the_format_of_voc_is_a_text_for_each_class(place, tmp_path):
    dataset = CocoDataset(place / "val", place / "image_info_few2026.json")
    data_set_run = DataSetRun([{"image_id": 20000000, "category_id": 1, "bbox": [0, 0, 9, 9], "score": 0.5}])
    config = asked(place, "format=voc", f"out={tmp_path}")
    paths = list(pipelines.submit.write_files(config, data_set_run, dataset))
    assert paths == [tmp_path / f"voc/comp4_det_test_{name}.txt" for name in dataset.class_names]
    assert "".join(path.read_text() for path in paths).startswith("000020000000 0.500000 1.00 ")


def test_no_image_at_all_leaves_nothing(place, tmp_path):
    with pytest.raises(SameboxError, match="shapes: none of its images could be run"):
        pipelines.submit.run(asked(place, f"dataset.images={tmp_path}/none", f"out={tmp_path}/out"))
    assert not (tmp_path / "out").exists()


def test_such_a_data_set_is_not_scored(place):
    dataset = CocoDataset(place / "val", place / "image_info_few2026.json")
    with pytest.raises(SameboxError, match=r"few2026\.json: has no annotations to score against"):
        evaluate_form({"dataset": "few"}, lambda: pytest.fail("opened"), dataset, [1], warmup=0)


def test_segments_take_the_categories_of_another_set(place, tmp_path):
    """Of the test images themselves there is no panoptic entry."""
    truth = demo_forms.small_set(tmp_path / "whole", count=2)
    document = json.loads(SEGMENTS[0].read_text())
    (tmp_path / "others.json").write_text(json.dumps(document | {"annotations": []}))
    dataset = CocoDataset(
        place / "val", place / "image_info_few2026.json", (tmp_path / "others.json", tmp_path)
    )
    done = run_on_data_set(Detector(PanopticTruth(truth)), dataset, 1, warmup=0)
    written = [path.parent.name for path in pipelines.submit.write_zips(done, tmp_path / "out", "few_truth")]
    assert written == ["bbox", "segm", "panoptic"]
    assert [one.image_id for one in done.panoptic.results] == [20000000, 20000001]
