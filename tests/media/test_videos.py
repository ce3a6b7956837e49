import cv2
import numpy as np
import pytest

from samebox.core.errors import SameboxError
from samebox.media import videos
from samebox.media.videos import Footage, video_writer


def frames(count, height=48, width=64):
    """Grey frames, each lighter by 8 than the previous one, with a red mark in the lower right corner."""
    grey = np.repeat(np.arange(count, dtype=np.uint8) * 8, height * width * 3)
    images = grey.reshape(count, height, width, 3)
    images[:, -8:, -8:] = (200, 0, 0)
    return images


def written(path, images, rate=12.5):
    with video_writer(path, rate, images[0].shape[:2]) as add:
        for image in images:
            add(image)
    return path


def test_written_frames_are_read_again(tmp_path):
    images = frames(20)
    with Footage(written(tmp_path / "new" / "clip.mp4", images)) as read:
        assert (read.rate, read.size, read.frame_count) == (12.5, (48, 64), 20)
        assert (read.name, read.stem) == (str(tmp_path / "new" / "clip.mp4"), "clip")
        found = np.stack(list(read))
    assert found.shape == images.shape
    np.testing.assert_allclose(found[:, 16, 16], images[:, 16, 16], atol=6)
    np.testing.assert_allclose(
        found[:, -4, -4], images[:, -4, -4], atol=40
    )  # in RGB; MPEG-4 halves the resolution of colour
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["clip.mp4"]


@pytest.mark.parametrize("rate", [0.5, 24000 / 1001, 30000 / 1001, 119.88, 1000])
def test_the_frame_rate_is_kept(tmp_path, rate):
    with Footage(written(tmp_path / "clip.mp4", frames(4), rate)) as read:
        assert read.rate == pytest.approx(rate, rel=1e-3)
        assert read.frame_count == 4


def test_an_odd_side_is_extended_by_one_pixel(tmp_path):
    with Footage(written(tmp_path / "clip.mp4", frames(2, 31, 33))) as read:
        assert read.size == (32, 34)
        image = next(iter(read))
    np.testing.assert_allclose(image[30:, 32:], np.broadcast_to([200, 0, 0], (2, 2, 3)), atol=40)


def test_a_frame_of_another_size_is_an_error_and_leaves_no_file(tmp_path):
    with pytest.raises(SameboxError, match=r"clip\.mp4: frame 1 is 64x50, those before it 64x48; cut"):
        written(tmp_path / "clip.mp4", [*frames(1), *frames(1, 50)])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("rate", "size", "size_and_rate"),
    [(90000, (48, 64), "64x48 at 90000"), (25, (9000, 9000), "9000x9000 at 25")],
)
def test_a_rate_or_size_that_the_format_cannot_have_is_an_error(tmp_path, rate, size, size_and_rate):
    with (
        pytest.raises(
            SameboxError, match=rf"clip\.mp4: OpenCV cannot write an MP4 of {size_and_rate} frames/s"
        ),
        video_writer(tmp_path / "clip.mp4", rate, size),
    ):
        pytest.fail("opened")
    assert list(tmp_path.iterdir()) == []


def test_a_frame_that_was_not_written_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(videos, "_frames", lambda path: 4)
    with pytest.raises(SameboxError, match=r"clip\.mp4: OpenCV wrote 4 of 5 frames; is the disk full\?"):
        written(tmp_path / "clip.mp4", frames(5))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [b"", b"a text", b"\0\0\0\x18ftypmp42 begins like an MP4"])
def test_a_file_that_is_not_a_video_is_an_error(tmp_path, content):
    (tmp_path / "clip.mp4").write_bytes(content)
    with pytest.raises(SameboxError, match=r"clip\.mp4: not a video that OpenCV can read"):
        Footage(tmp_path / "clip.mp4").__enter__()
    with pytest.raises(SameboxError, match=r"none\.mp4: no such file"):
        Footage(tmp_path / "none.mp4").__enter__()


def test_a_missing_camera_is_an_error():
    absent = Footage(97)
    assert (absent.name, absent.stem) == ("camera:97", "camera_97")
    with pytest.raises(SameboxError, match=r"^camera:97: no camera that OpenCV can read; connect it, or"):
        absent.__enter__()


def test_the_rate_of_a_camera_that_reports_none_is_25(tmp_path, monkeypatch):
    clip = written(tmp_path / "clip.mp4", frames(2))

    class Camera:  # a subclass of OpenCV's class breaks Python's garbage collection
        def __init__(self, number):
            self.capture = capture(str(clip))

        def __getattr__(self, name):
            return getattr(self.capture, name)

        def get(self, what):
            return -1.0

    capture = cv2.VideoCapture
    monkeypatch.setattr(cv2, "VideoCapture", Camera)
    with Footage(0) as read:
        assert (read.rate, read.frame_count) == (25, None)
        assert len(list(read)) == 2
