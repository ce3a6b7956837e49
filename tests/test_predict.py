import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import demo_forms
import numpy as np
import pytest
from panoptic_truth import SEGMENTS, STUFF, PanopticTruth
from pycocotools import mask as rle
from truth_runner import TruthRunner

from samebox import predict
from samebox.coco.panoptic import PanopticSet
from samebox.coco.results import decode_masks
from samebox.core.errors import SameboxError
from samebox.detector import Detector, load
from samebox.media.drawing import draw
from samebox.media.videos import Footage, video_writer
from samebox.record.preprocess import read_image
from samebox.runners.torch import TorchRunner

FIRST, SECOND = (demo_forms.IMAGES / f"00002000000{number}.jpg" for number in range(2))


def run(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["predict", *map(str, arguments)])
    return predict.main()


def command(*arguments):
    """The command in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "samebox.predict", *map(str, arguments)],
        cwd=demo_forms.ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


def results(folder):
    return json.loads((folder / "detections.json").read_text())


RECORDED = "image ids count from 1; category ids are those of shapes"


def test_pictures_and_results_are_written(tmp_path, monkeypatch, capsys):
    out = tmp_path / "new" / "out"
    assert run(monkeypatch, demo_forms.CHECKPOINT, FIRST, SECOND, "--out", out) == 0
    assert sorted(path.name for path in out.iterdir()) == [
        "0001_000020000000.jpg", "0002_000020000001.jpg", "detections.json",
    ]  # fmt: skip
    captured = capsys.readouterr()
    assert captured.out == f"{RECORDED}\n2 of 2 done: {out}\n"
    assert captured.err == ""
    for number, path in enumerate((FIRST, SECOND), start=1):
        picture, image = read_image(out / f"{number:04d}_{path.name}"), read_image(path)
        assert picture.shape == image.shape
        assert np.abs(picture.astype(int) - image).max() > 60  # boxes are drawn on it


def test_the_results_are_cocos_with_the_file_name(tmp_path, monkeypatch):
    run(monkeypatch, demo_forms.CHECKPOINT, FIRST, SECOND, "--out", tmp_path)
    with load(demo_forms.CHECKPOINT) as detector:
        expected = [detector(FIRST), detector(SECOND)]
    written = results(tmp_path)
    assert [one["image_id"] for one in written] == [1] * len(expected[0]) + [2] * len(expected[1])
    assert {(one["image_id"], one["file_name"]) for one in written} == {(1, str(FIRST)), (2, str(SECOND))}
    best = written[0]
    x1, y1, x2, y2 = expected[0].boxes[0].astype(float)
    assert best["bbox"] == [x1, y1, x2 - x1, y2 - y1]
    assert best["score"] == float(expected[0].scores[0])
    assert best["category_id"] == expected[0].labels[0] + 1


def test_masks_are_written_and_drawn(tmp_path):
    dataset = demo_forms.whole_set()
    images = [dataset.path(record) for record in dataset.images[:2]]
    for masks in ("true", None):
        detector = Detector(TruthRunner(dataset, masks))
        assert predict.predict(detector, images, tmp_path / str(masks), threshold=0.3).errors == {}
    written = results(tmp_path / "true")
    objects = [one for record in dataset.images[:2] for one in dataset.ground_truth.imgToAnns[record.id]]
    for result, entry in zip(written, [one for one in objects if not one["iscrowd"]], strict=True):
        (overlap,) = rle.iou([result["segmentation"]], [entry["segmentation"]], [0])[0]
        assert overlap > 0.8
    assert all("segmentation" not in result for result in results(tmp_path / "None"))
    name = f"0001_{images[0].name}"
    masked, bare = (read_image(tmp_path / kind / name).astype(int) for kind in ("true", "None"))
    apart = np.abs(masked - bare).max(-1) > 50
    inside = decode_masks([result["segmentation"] for result in written if result["image_id"] == 1]).any(0)
    assert apart[inside].mean() > 0.3
    assert apart[~inside].mean() < 0.02


def test_segments_are_written_in_cocos_format(tmp_path):
    dataset = demo_forms.whole_set()
    images = [dataset.path(record) for record in dataset.images[:2]]
    predict.predict(Detector(PanopticTruth(dataset)), images, tmp_path, threshold=0.3)
    again = Detector(PanopticTruth(dataset))
    written = PanopticSet(tmp_path / "panoptic.json", tmp_path / "panoptic")
    names = [*dataset.class_names, *STUFF]
    assert [(one.id, one.name, one.is_thing) for one in written.categories] == [
        (number, name, number <= 6) for number, name in enumerate(names, start=1)
    ]
    for number, path in enumerate(images, start=1):
        expected = again(path).panoptic
        segmented = written.segment_map(number)
        assert (segmented.ids == expected.ids).all()
        categories = {one.id: 1 + names.index(one.class_name) for one in expected.segments}
        assert segmented.categories == categories
        assert len(categories) > 5


def annotations(path, edit=lambda document: None):
    """An annotation file at `path`: the demo's, whose category ids and image ids are other numbers."""
    document = json.loads(demo_forms.ANNOTATIONS.read_text())
    for number, category in enumerate(document["categories"]):
        category["id"] = 50 - number
    edit(document)
    path.write_text(json.dumps(document))
    return path


def test_categories_take_ids_from_an_annotation_file(tmp_path, monkeypatch, capsys):
    file = annotations(tmp_path / "instances.json")
    arguments = (demo_forms.CHECKPOINT, SECOND, FIRST, "--out", tmp_path / "out", "--categories", file)
    assert run(monkeypatch, *arguments) == 0
    assert f"image ids and category ids are those of {file}\n" in capsys.readouterr().out
    with load(demo_forms.CHECKPOINT) as detector:
        labels = detector(SECOND).labels.tolist() + detector(FIRST).labels.tolist()
    written = results(tmp_path / "out")
    assert [one["category_id"] for one in written] == [50 - label for label in labels]
    assert list(dict.fromkeys(one["image_id"] for one in written)) == [20000001, 20000000]
    names = {image["id"]: image["file_name"] for image in json.loads(file.read_text())["images"]}
    assert all(one["file_name"].endswith(names[one["image_id"]]) for one in written)


def test_an_image_is_found_by_the_longest_end_of_its_path(tmp_path, monkeypatch, detector):
    def edit(document):
        names = {7: "000020000000.jpg", 8: "val/000020000000.jpg", 9: "train/000020000000.jpg"}
        document["images"] = [{"id": image_id, "file_name": name} for image_id, name in names.items()]

    monkeypatch.chdir(FIRST.parent)
    ids = predict.annotated_ids(annotations(tmp_path / "instances.json", edit), detector.spec)
    assert ids.image_id(FIRST.name, 1) == 8
    assert ids.image_id("/elsewhere/000020000000.jpg", 2) == 7
    with pytest.raises(SameboxError, match=r"^/other/val/000020000000\.jpg: image 8 of .* a second time"):
        ids.image_id("/other/val/000020000000.jpg", 3)


def test_images_that_are_not_listed_once_are_errors_and_the_others_are_done(tmp_path, monkeypatch, capsys):
    def edit(document):
        document["images"][1] |= {"file_name": "twin.jpg"}
        document["images"].append(document["images"][2] | {"id": 1})

    file = annotations(tmp_path / "instances.json", edit)
    third = FIRST.with_name("000020000002.jpg")
    arguments = (demo_forms.CHECKPOINT, SECOND, third, FIRST, "--out", tmp_path, "--categories", file)
    assert run(monkeypatch, *arguments) == 1
    assert capsys.readouterr().err.splitlines() == [
        f"error: {SECOND}: {file} lists no image of this name; leave it out, or --categories",
        f"error: {third}: {file} lists 2 images of this name; leave it out, or --categories",
    ]
    assert {one["image_id"] for one in results(tmp_path)} == {20000000}


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda document: document["categories"].pop(), "no category of things is called cross"),
        (
            lambda document: document["categories"][1].update(name="disc"),
            "several categories are called disc",
        ),
        (lambda document: document.pop("images"), "no list `images`"),
    ],
)
def test_categories_that_do_not_fit_are_an_error_of_one_line(tmp_path, monkeypatch, capsys, edit, message):
    file = annotations(tmp_path / "instances.json", edit)
    assert (
        run(monkeypatch, demo_forms.CHECKPOINT, FIRST, "--out", tmp_path / "out", "--categories", file) == 1
    )
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {file}: {message}")
    assert not (tmp_path / "out").exists()


def categories_of_pixels(segments):
    return np.vectorize(lambda number: segments.categories.get(number, 0))(segments.ids)


def test_segments_take_the_ids_of_a_panoptic_file(tmp_path):
    dataset = demo_forms.whole_set()
    detector, images = Detector(PanopticTruth(dataset)), [dataset.path(dataset.images[0])]
    ids = predict.annotated_ids(SEGMENTS[0], detector.spec)
    predict.predict(detector, images, tmp_path, threshold=0.3, ids=ids)
    written, truth = PanopticSet(tmp_path / "panoptic.json", tmp_path / "panoptic"), PanopticSet(*SEGMENTS)
    names = {category.id: category.name for category in truth.categories}
    assert {category.id: category.name for category in written.categories} == names
    image_id = dataset.images[0].id
    ours, expected = (categories_of_pixels(one.segment_map(image_id)) for one in (written, truth))
    assert (ours == expected).mean() > 0.9
    with pytest.raises(SameboxError, match="no category of stuff is called water, sky, field"):
        predict.annotated_ids(demo_forms.ANNOTATIONS, detector.spec)


def test_without_ids_in_the_record_they_are_counted(shapes):
    spec = replace(shapes.spec, categories=None)
    ids = predict.recorded_ids(spec)
    assert list(ids.category_ids) == [1, 2, 3, 4, 5, 6]
    assert ids.source.startswith("image ids and category ids count from 1; --categories ")


def test_the_threshold_applies_to_the_drawing_only(tmp_path, monkeypatch):
    run(monkeypatch, demo_forms.CHECKPOINT, FIRST, "--out", tmp_path / "a", "--threshold", "1.1")
    run(monkeypatch, demo_forms.CHECKPOINT, FIRST, "--out", tmp_path / "b")
    assert results(tmp_path / "a") == results(tmp_path / "b")
    plain = cv2.imdecode(np.frombuffer(jpeg(read_image(FIRST)), np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
    np.testing.assert_array_equal(read_image(tmp_path / "a/0001_000020000000.jpg"), plain)


def jpeg(image):
    return cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))[1].tobytes()


def test_an_image_that_fails_is_reported_and_the_others_are_done(tmp_path, monkeypatch, capsys):
    text = tmp_path / "text.jpg"
    text.write_text("no image")
    arguments = (demo_forms.CHECKPOINT, text, FIRST, tmp_path / "none.jpg", "--out", tmp_path / "out")
    assert run(monkeypatch, *arguments) == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert lines[0].startswith(f"error: {text}: not an image")
    assert lines[1].startswith(f"error: {tmp_path / 'none.jpg'}: no such image")
    assert {one["file_name"] for one in results(tmp_path / "out")} == {str(FIRST)}
    assert {one["image_id"] for one in results(tmp_path / "out")} == {2}
    assert (tmp_path / "out/0002_000020000000.jpg").exists()


def test_hostile_names_reach_neither_opencv_nor_the_terminal(tmp_path):
    """OpenCV ends the process at a lone surrogate, which a name that is not UTF-8 becomes."""
    name = os.fsencode(tmp_path) + b"/\x1b[31m\xff" + b"n" * 200
    Path(os.fsdecode(name + b".jpg")).write_bytes(FIRST.read_bytes())
    Path(os.fsdecode(name + b".mp4")).write_bytes(b"no video")
    Path(os.fsdecode(name + b".png")).write_bytes(b"no image")
    done = command(demo_forms.CHECKPOINT, *sorted(tmp_path.iterdir()), "--out", tmp_path / "out")
    assert done.returncode == 1
    assert done.stdout.endswith(f"1 of 3 done: {tmp_path / 'out'}\n")
    assert done.stderr.count("error: ") == 2
    assert not [c for c in done.stdout + done.stderr if not c.isprintable() and c != "\n"]
    assert any(path.name.startswith("0001__[31m_nnn") for path in (tmp_path / "out").iterdir())
    assert results(tmp_path / "out")[0]["file_name"] == os.fsdecode(name + b".jpg")


def test_an_image_without_a_detection_is_written_too(tmp_path, monkeypatch):
    cv2.imwrite(str(tmp_path / "dot.png"), np.zeros((1, 1, 3), np.uint8))
    assert run(monkeypatch, demo_forms.CHECKPOINT, tmp_path / "dot.png", "--out", tmp_path) == 0
    assert read_image(tmp_path / "0001_dot.jpg").shape == (1, 1, 3)
    assert all(one["file_name"].endswith("dot.png") for one in results(tmp_path))


def test_two_images_of_one_name_are_two_pictures(tmp_path, monkeypatch):
    twin = tmp_path / FIRST.name
    twin.write_bytes(SECOND.read_bytes())
    assert run(monkeypatch, demo_forms.CHECKPOINT, FIRST, twin, "--out", tmp_path / "out") == 0
    assert len(list((tmp_path / "out").glob("*.jpg"))) == 2


@pytest.fixture
def detector(shapes):
    with Detector(TorchRunner(shapes.network, shapes.spec).__enter__()) as detector:
        yield detector


@pytest.fixture
def clip(tmp_path):
    """A video of the first two images and of the first one again, in turn: 9 frames."""
    images = [cv2.resize(read_image(path), (160, 120)) for path in (FIRST, SECOND, FIRST)]
    with video_writer(tmp_path / "source/clip.mp4", 12.5, (120, 160)) as add:
        for image in images * 3:
            add(image)
    return tmp_path / "source/clip.mp4"


def frames_of(path):
    with Footage(path) as footage:
        return list(footage)


def test_a_folder_stands_for_its_images_by_name(tmp_path):
    for name in ("b.png", "a.JPG", "c.webp", "notes.txt", "clip.mp4"):
        (tmp_path / name).touch()
    (tmp_path / "deeper.jpgs").mkdir()
    (tmp_path / "deeper.jpgs/d.jpg").touch()
    inputs = predict.parse_inputs([str(FIRST), str(tmp_path)])
    assert inputs == [FIRST, *(tmp_path / name for name in ("a.JPG", "b.png", "c.webp"))]


def test_inputs_are_videos_cameras_and_images(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    inputs = predict.parse_inputs(["a.MOV", "camera", "camera:12", "camera.jpg", "no_suffix"])
    assert [footage.source for footage in inputs[:3]] == [Path("a.MOV"), 0, 12]
    assert inputs[3:] == [Path("camera.jpg"), Path("no_suffix")]


def test_each_frame_of_a_video_is_run_and_drawn(tmp_path, detector, clip):
    summary = predict.predict(detector, [FIRST, Footage(clip), SECOND], tmp_path / "out", threshold=0.3)
    assert (summary.done, summary.errors) == (3, {})
    assert summary.videos == [f"{tmp_path / 'out/clip.mp4'}: 9 frames"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "0001_000020000000.jpg", "0011_000020000001.jpg", "clip.mp4", "detections.json",
    ]  # fmt: skip
    frames, pictures = frames_of(clip), frames_of(tmp_path / "out/clip.mp4")
    with Footage(tmp_path / "out/clip.mp4") as footage:
        assert (footage.rate, footage.size, footage.frame_count) == (12.5, (120, 160), 9)
    expected = [detector(frame) for frame in frames]
    for picture, frame, detections in zip(pictures, frames, expected, strict=True):
        compression, drawing = (
            np.abs(picture.astype(int) - image).mean() for image in (draw(frame, detections), frame)
        )
        assert compression < 0.5 * drawing
    written = [one for one in results(tmp_path / "out") if one["file_name"] == str(clip)]
    assert [one["frame"] for one in written] == [
        i for i, answer in enumerate(expected) for _ in answer.scores
    ]
    assert {one["image_id"] - one["frame"] for one in written} == {2}
    scores = np.concatenate([answer.scores for answer in expected])
    assert [one["score"] for one in written] == scores.tolist()
    assert all("frame" not in one for one in results(tmp_path / "out") if one["image_id"] in (1, 11))


def test_frames_limit_a_video(tmp_path, detector, clip):
    summary = predict.predict(detector, [Footage(clip)], tmp_path / "out", 0.3, frames=4)
    assert summary.videos == [f"{tmp_path / 'out/clip.mp4'}: 4 of 9 frames"]
    assert len(frames_of(tmp_path / "out/clip.mp4")) == 4
    assert {one["frame"] for one in results(tmp_path / "out")} == {0, 1, 2, 3}


def test_a_truncated_video_is_reported(tmp_path, detector, clip):
    writer = cv2.VideoWriter(str(tmp_path / "whole.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 25, (160, 120))
    for frame in frames_of(clip):
        writer.write(frame)
    writer.release()
    content = (tmp_path / "whole.avi").read_bytes()
    (tmp_path / "half.avi").write_bytes(content[: len(content) // 2])
    summary = predict.predict(detector, [Footage(tmp_path / "half.avi")], tmp_path / "out", 0.3)
    count = len(frames_of(tmp_path / "out/half.mp4"))
    assert 2 < count < 7
    assert summary.videos == [f"{tmp_path / 'out/half.mp4'}: {count} of 9 frames"]


@pytest.fixture
def camera(clip, monkeypatch):
    """The clip in an endless loop, as camera 1."""

    class Camera:  # a subclass of OpenCV's own class breaks Python's garbage collection
        def __init__(self, source):
            self.live = source == 1
            self.capture = capture(str(clip) if self.live else source)

        def __getattr__(self, name):
            return getattr(self.capture, name)

        def get(self, what):
            return -1.0 if self.live and what == cv2.CAP_PROP_FRAME_COUNT else self.capture.get(what)

        def read(self):
            success, frame = self.capture.read()
            if self.live and not success:
                self.capture.set(cv2.CAP_PROP_POS_FRAMES, 0)
                success, frame = self.capture.read()
            return success, frame

    capture = cv2.VideoCapture
    monkeypatch.setattr(cv2, "VideoCapture", Camera)


@pytest.mark.usefixtures("camera")
def test_ctrl_c_ends_a_camera_and_the_files_are_complete(tmp_path, detector, monkeypatch, capsys):
    class Pressed(Detector):
        """A detector during whose 12th image Ctrl-C is pressed."""

        count = 0

        def __call__(self, image):
            self.count += 1
            if self.count == 12:
                os.kill(os.getpid(), signal.SIGINT)
            return super().__call__(image)

    monkeypatch.setattr(predict, "load", lambda *_, **__: Pressed(detector.runner.__enter__()))
    before = signal.getsignal(signal.SIGINT)
    assert run(monkeypatch, "model.onnx", "camera:1", FIRST, "--out", tmp_path / "out") == 1
    target = tmp_path / "out/camera_1.mp4"
    assert capsys.readouterr().out == f"{target}: 12 frames\n{RECORDED}\n1 of 2 done: {tmp_path / 'out'}\n"
    assert len(frames_of(target)) == 12
    assert {(one["file_name"], one["frame"]) for one in results(tmp_path / "out")} == {
        ("camera:1", number) for number in range(12)
    }
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.usefixtures("camera")
def test_frames_limit_a_camera_and_an_absent_one_is_reported(tmp_path, monkeypatch, capsys):
    arguments = (demo_forms.CHECKPOINT, "camera:1", "camera:97", "--frames", 3, "--out", tmp_path / "out")
    assert run(monkeypatch, *arguments) == 1
    captured = capsys.readouterr()
    assert captured.out.startswith(f"{tmp_path / 'out/camera_1.mp4'}: 3 frames\n{RECORDED}\n1 of 2 done")
    assert captured.err.startswith("error: camera:97: no camera that OpenCV can read")
    assert {one["frame"] for one in results(tmp_path / "out")} == {0, 1, 2}


def test_no_video_is_overwritten(tmp_path, detector, clip):
    twin = tmp_path / "clip.avi"
    for inputs, out in [([clip], clip.parent), ([clip, twin], tmp_path / "out")]:
        with pytest.raises(SameboxError, match=r"would overwrite the video .*clip\.mp4; give another --out"):
            predict.predict(detector, [Footage(path) for path in inputs], out, 0.3)
    assert len(frames_of(clip)) == 9
    assert not (tmp_path / "out").exists()


def test_a_checkpoint_runs_like_a_file(tmp_path, monkeypatch, detector):
    arguments = (demo_forms.CHECKPOINT, FIRST, "--out", tmp_path, "--detector", "retinanet_shapes")
    assert run(monkeypatch, *arguments) == 0
    scores = [one["score"] for one in results(tmp_path)]
    assert scores == detector(FIRST).scores.tolist()


@pytest.mark.parametrize("count", ["0", "-1", "few"])
def test_frames_below_one_are_refused(tmp_path, monkeypatch, capsys, count):
    with pytest.raises(SystemExit):
        run(monkeypatch, "model.onnx", FIRST, "--out", tmp_path, f"--frames={count}")
    assert f"argument --frames: '{count}' is not a number from 1 up" in capsys.readouterr().err


def test_a_broken_video_is_an_error_of_one_line(tmp_path):
    (tmp_path / "text.mp4").write_text("no video")
    done = command(demo_forms.CHECKPOINT, tmp_path / "text.mp4", "--out", tmp_path / "out")
    assert done.returncode == 1
    message = "not a video that OpenCV can read; save it as MP4 again"
    assert done.stderr == f"error: {tmp_path / 'text.mp4'}: {message}\n"
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["detections.json"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none.onnx", str(FIRST)], "error: none.onnx: no such file"),
        (["model.bin", str(FIRST)], "error: model.bin: its suffix is not one of .onnx, .engine, "),
        (["none.pth", str(FIRST)], "error: none.pth: no such file"),
        (["model.onnx", "stages"], "error: stages: has no images (.bmp, .jpeg, "),
    ],
)
def test_a_mistake_is_one_line_and_writes_nothing(tmp_path, arguments, message):
    done = command(*arguments, "--out", tmp_path / "out")
    assert done.returncode == 1
    assert done.stderr.startswith(message)
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()
