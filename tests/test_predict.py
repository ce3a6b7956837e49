import json
import subprocess
import sys

import cv2
import demo_forms
import numpy as np
import pytest
from panoptic_truth import STUFF, PanopticTruth
from pycocotools import mask as rle
from truth_runner import TruthRunner

from samebox import predict
from samebox.coco.panoptic import PanopticSet
from samebox.coco.results import decoded
from samebox.detector import Detector, load
from samebox.preprocess import read_image

FIRST, SECOND = (demo_forms.IMAGES / f"00002000000{number}.jpg" for number in range(2))


def run(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["predict", *map(str, arguments)])
    return predict.main()


def results(folder):
    return json.loads((folder / "detections.json").read_text())


def test_pictures_and_results_are_written(tmp_path, monkeypatch, capsys):
    out = tmp_path / "made" / "out"
    assert run(monkeypatch, demo_forms.dynamic(), FIRST, SECOND, "--out", out) == 0
    assert sorted(path.name for path in out.iterdir()) == [
        "0001_000020000000.jpg", "0002_000020000001.jpg", "detections.json",
    ]  # fmt: skip
    captured = capsys.readouterr()
    assert captured.out == f"2 of 2 images: {out}\n"
    assert captured.err == ""
    for number, path in enumerate((FIRST, SECOND), start=1):
        shown, image = read_image(out / f"{number:04d}_{path.name}"), read_image(path)
        assert shown.shape == image.shape
        assert np.abs(shown.astype(int) - image).max() > 60  # boxes are drawn on it


def test_the_results_are_cocos_and_name_their_image(tmp_path, monkeypatch):
    run(monkeypatch, demo_forms.dynamic(), FIRST, SECOND, "--out", tmp_path)
    with load(demo_forms.dynamic()) as detector:
        expected = [detector(FIRST), detector(SECOND)]
    found = results(tmp_path)
    assert [one["image_id"] for one in found] == [1] * len(expected[0]) + [2] * len(expected[1])
    assert {(one["image_id"], one["file_name"]) for one in found} == {(1, str(FIRST)), (2, str(SECOND))}
    best = found[0]
    x1, y1, x2, y2 = expected[0].boxes[0].astype(float)
    assert best["bbox"] == [x1, y1, x2 - x1, y2 - y1]
    assert best["score"] == float(expected[0].scores[0])
    assert best["category_id"] == expected[0].labels[0] + 1


def test_masks_stand_in_the_results_and_are_drawn(tmp_path):
    dataset = demo_forms.whole_set()
    images = [dataset.path(record) for record in dataset.images[:2]]
    for masks in ("true", None):
        detector = Detector(TruthRunner(dataset, masks))
        assert predict.predict(detector, images, tmp_path / str(masks), threshold=0.3) == {}
    found = results(tmp_path / "true")
    objects = [one for record in dataset.images[:2] for one in dataset.ground_truth.imgToAnns[record.id]]
    for result, entry in zip(found, [one for one in objects if not one["iscrowd"]], strict=True):
        (overlap,) = rle.iou([result["segmentation"]], [entry["segmentation"]], [0])[0]
        assert overlap > 0.8
    assert all("segmentation" not in result for result in results(tmp_path / "None"))
    name = f"0001_{images[0].name}"
    masked, bare = (read_image(tmp_path / kind / name).astype(int) for kind in ("true", "None"))
    apart = np.abs(masked - bare).max(-1) > 50
    inside = decoded([result["segmentation"] for result in found if result["image_id"] == 1]).any(0)
    assert apart[inside].mean() > 0.3
    assert apart[~inside].mean() < 0.02


def test_segments_are_written_as_coco_has_them(tmp_path):
    dataset = demo_forms.whole_set()
    images = [dataset.path(record) for record in dataset.images[:2]]
    predict.predict(Detector(PanopticTruth(dataset)), images, tmp_path, threshold=0.3)
    again = Detector(PanopticTruth(dataset))
    found = PanopticSet(tmp_path / "panoptic.json", tmp_path / "panoptic")
    names = [*dataset.class_names, *STUFF]
    assert [(one.id, one.name, one.is_thing) for one in found.categories] == [
        (number, name, number <= 6) for number, name in enumerate(names, start=1)
    ]
    for number, path in enumerate(images, start=1):
        expected = again(path).panoptic
        segmented = found.segmented(number)
        assert (segmented.ids == expected.ids).all()
        told = {one.id: 1 + names.index(one.class_name) for one in expected.segments}
        assert segmented.categories == told
        assert len(told) > 5


def test_the_threshold_is_of_what_is_drawn_alone(tmp_path, monkeypatch):
    run(monkeypatch, demo_forms.dynamic(), FIRST, "--out", tmp_path / "a", "--threshold", "1.1")
    run(monkeypatch, demo_forms.dynamic(), FIRST, "--out", tmp_path / "b")
    assert results(tmp_path / "a") == results(tmp_path / "b")
    plain = cv2.imdecode(np.frombuffer(jpeg(read_image(FIRST)), np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
    np.testing.assert_array_equal(read_image(tmp_path / "a/0001_000020000000.jpg"), plain)


def jpeg(image):
    return cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))[1].tobytes()


def test_an_image_that_fails_is_told_of_and_the_others_are_done(tmp_path, monkeypatch, capsys):
    text = tmp_path / "text.jpg"
    text.write_text("no image")
    arguments = (demo_forms.dynamic(), text, FIRST, tmp_path / "none.jpg", "--out", tmp_path / "out")
    assert run(monkeypatch, *arguments) == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert lines[0].startswith(f"error: {text}: not an image")
    assert lines[1].startswith(f"error: {tmp_path / 'none.jpg'}: no such image")
    assert {one["file_name"] for one in results(tmp_path / "out")} == {str(FIRST)}
    assert {one["image_id"] for one in results(tmp_path / "out")} == {2}
    assert (tmp_path / "out/0002_000020000000.jpg").exists()


def test_an_image_without_a_detection_is_a_picture_all_the_same(tmp_path, monkeypatch):
    cv2.imwrite(str(tmp_path / "dot.png"), np.zeros((1, 1, 3), np.uint8))
    assert run(monkeypatch, demo_forms.dynamic(), tmp_path / "dot.png", "--out", tmp_path) == 0
    assert read_image(tmp_path / "0001_dot.jpg").shape == (1, 1, 3)
    assert all(one["file_name"].endswith("dot.png") for one in results(tmp_path))


def test_one_image_named_twice_or_two_of_one_name_are_two_pictures(tmp_path, monkeypatch):
    twin = tmp_path / FIRST.name
    twin.write_bytes(SECOND.read_bytes())
    assert run(monkeypatch, demo_forms.dynamic(), FIRST, twin, "--out", tmp_path / "out") == 0
    assert len(list((tmp_path / "out").glob("*.jpg"))) == 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["none.onnx", str(FIRST)], "error: none.onnx: no such file"),
        (["model.pth", str(FIRST)], "error: model.pth: runtime None is none of onnxruntime, tensorrt"),
    ],
)
def test_a_mistake_is_one_line_and_leaves_nothing(tmp_path, arguments, said):
    done = subprocess.run(
        [sys.executable, "-m", "samebox.predict", *arguments, "--out", str(tmp_path / "out")],
        cwd=demo_forms.ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.startswith(said)
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()
