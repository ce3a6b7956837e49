import numpy as np
import pytest
from demo_forms import CHECKPOINT, IMAGES, ROOT

import samebox
from samebox import detector as detectors
from samebox.core.errors import NotHere, SameboxError
from samebox.core.files import sha256
from samebox.detector import Detector
from samebox.runners.torch import TorchRunner
from stages import search
from stages.checkpoints import detector_of

IMAGE = IMAGES / "000020000000.jpg"


@pytest.mark.parametrize("name", ["retinanet_shapes", "mask_rcnn_shapes"])
def test_a_checkpoint_belongs_to_the_detector_that_names_its_hash(name):
    assert detector_of(ROOT / f"demo/checkpoints/{name}.pth") == name


@pytest.fixture
def conf(tmp_path, monkeypatch):
    """A folder of detectors of its own."""
    monkeypatch.setattr(search, "CONF", tmp_path)
    monkeypatch.setattr(search, "OWN", tmp_path)
    (tmp_path / "detector").mkdir()
    return tmp_path / "detector"


def test_the_beginning_of_a_hash_is_enough_and_two_detectors_are_an_error(conf):
    digest = sha256(CHECKPOINT)
    (conf / "other.yaml").write_text(f"sha256: {'0' * 64}\n")
    (conf / "none.yaml").write_text("sha256: null\n")
    (conf / "variant.yaml").write_text("defaults: [b]\n")
    (conf / "b.yaml").write_text(f"sha256: '{digest[:8]}'\n")
    assert detector_of(CHECKPOINT) == "b"
    (conf / "a.yaml").write_text(f"sha256: {digest}\n")
    with pytest.raises(SameboxError, match=r"shapes\.pth: a, b name this checkpoint; give one as its"):
        detector_of(CHECKPOINT)


def test_a_checkpoint_that_no_detector_names_is_an_error(tmp_path):
    (tmp_path / "mine.pth").write_bytes(b"weights")
    with pytest.raises(SameboxError, match=r"mine\.pth: no choice .* give its detector, or adopt") as told:
        samebox.load(tmp_path / "mine.pth")
    assert "\n" not in str(told.value)
    with pytest.raises(SameboxError, match=r"none\.pth: no such file; check the path"):
        samebox.load(tmp_path / "none.pth", detector="retinanet_shapes")


@pytest.mark.parametrize("suffix", [".pth", ".pkl", ".pth.tar"])
def test_a_checkpoint_gives_the_detections_of_its_network(shapes, tmp_path, suffix):
    (tmp_path / f"model{suffix}").symlink_to(CHECKPOINT)
    expected = Detector(TorchRunner(shapes.network, shapes.spec).__enter__())(IMAGE)
    with samebox.load(tmp_path / f"model{suffix}") as detector:
        found = detector(IMAGE)
        assert detector.spec == shapes.spec
    assert len(found) > 10
    np.testing.assert_array_equal(found.boxes, expected.boxes)
    np.testing.assert_array_equal(found.scores, expected.scores)


def test_the_named_detector_must_fit():
    with pytest.raises(SameboxError, match=r"retinanet_shapes\.pth: does not fit the network"):
        samebox.load(CHECKPOINT, detector="mask_rcnn_shapes")
    with pytest.raises(SameboxError, match=r"Could not find 'detector/no_such'; Available options"):
        samebox.load(CHECKPOINT, detector="no_such")


def test_the_device_is_one_of_pytorch():
    with pytest.raises(SameboxError, match="device: 'tpu' is not one of cpu, cuda"):
        samebox.load(CHECKPOINT, device="tpu")
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        with pytest.raises(NotHere, match="PyTorch on CUDA: torch finds no NVIDIA GPU"):
            samebox.load(CHECKPOINT, device="cuda")


def test_without_the_pipeline_the_error_names_the_extra(monkeypatch):
    monkeypatch.setattr(detectors, "_CHECKPOINT_RUNNERS", "samebox.none")
    with pytest.raises(SameboxError, match=r"shapes\.pth: a checkpoint needs the pipeline; run pip install"):
        samebox.load(CHECKPOINT)
