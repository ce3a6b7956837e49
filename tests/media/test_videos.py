import cv2
import numpy as np
import pytest

from samebox.core.errors import SameboxError
from samebox.media import videos as footage
from samebox.media.videos import Footage, video_writer


def frames(count, height=48, width=64):
    """Grey ones, each 8 lighter than the one before, with a red mark in the lower right corner."""
    made = np.repeat(np.arange(count, dtype=np.uint8) * 8, height * width * 3)
    made = made.reshape(count, height, width, 3)
    made[:, -8:, -8:] = (200, 0, 0)
    return made


def written(path, images, rate=12.5):
    with video_writer(path, rate, images[0].shape[:2]) as add:
        for image in images:
            add(image)
    return path


def test_what_is_written_is_read_again(tmp_path):
    made = frames(20)
    with Footage(written(tmp_path / "made" / "clip.mp4", made)) as read:
        assert (read.rate, read.size, read.frame_count) == (12.5, (48, 64), 20)
        assert (read.name, read.stem) == (str(tmp_path / "made" / "clip.mp4"), "clip")
        found = np.stack(list(read))
    assert found.shape == made.shape
    np.testing.assert_allclose(found[:, 16, 16], made[:, 16, 16], atol=6)
    np.testing.assert_allclose(found[:, -4, -4], made[:, -4, -4], atol=40)  # in RGB; MPEG-4 halves colour
    assert [path.name for path in (tmp_path / "made").iterdir()] == ["clip.mp4"]


@pytest.mark.parametrize("rate", [0.5, 24000 / 1001, 30000 / 1001, 119.88, 1000])
def test_frames_a_second_are_kept(tmp_path, rate):
    with Footage(written(tmp_path / "clip.mp4", frames(4), rate)) as read:
        assert read.rate == pytest.approx(rate, rel=1e-3)
        assert read.frame_count == 4


def test_of_an_odd_side_no_pixel_is_lost(tmp_path):
    with Footage(written(tmp_path / "clip.mp4", frames(2, 31, 33))) as read:
        assert read.size == (32, 34)
        image = next(iter(read))
    np.testing.assert_allclose(image[30:, 32:], np.broadcast_to([200, 0, 0], (2, 2, 3)), atol=40)


def test_a_frame_of_another_size_is_told_of_and_nothing_is_left(tmp_path):
    said = r"clip\.mp4: frame 1 is 64x50, those before it 64x48; cut"
    with pytest.raises(SameboxError, match=said):
        written(tmp_path / "clip.mp4", [*frames(1), *frames(1, 50)])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("rate", "size", "said"), [(90000, (48, 64), "64x48 at 90000"), (25, (9000, 9000), "9000x9000 at 25")]
)
def test_what_the_format_does_not_take_is_told_of(tmp_path, rate, size, said):
    with (
        pytest.raises(SameboxError, match=rf"clip\.mp4: OpenCV writes no MP4 of {said} frames/s"),
        video_writer(tmp_path / "clip.mp4", rate, size),
    ):
        pytest.fail("opened")
    assert list(tmp_path.iterdir()) == []


def test_a_frame_that_is_not_written_is_missed(tmp_path, monkeypatch):
    monkeypatch.setattr(footage, "_frames", lambda path: 4)
    with pytest.raises(SameboxError, match=r"clip\.mp4: OpenCV wrote 4 of 5 frames; is the disk full\?"):
        written(tmp_path / "clip.mp4", frames(5))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [b"", b"a text", b"\0\0\0\x18ftypmp42 begins like an MP4"])
def test_a_file_that_is_no_video_is_named(tmp_path, content):
    (tmp_path / "clip.mp4").write_bytes(content)
    with pytest.raises(SameboxError, match=r"clip\.mp4: not a video that OpenCV can read"):
        Footage(tmp_path / "clip.mp4").__enter__()
    with pytest.raises(SameboxError, match=r"none\.mp4: no such file"):
        Footage(tmp_path / "none.mp4").__enter__()


def test_a_camera_that_is_not_there_is_named():
    absent = Footage(97)
    assert (absent.name, absent.stem) == ("camera:97", "camera_97")
    with pytest.raises(SameboxError, match=r"^camera:97: no camera that OpenCV can read; connect it, or"):
        absent.__enter__()


def test_of_what_tells_no_rate_it_is_25(tmp_path, monkeypatch):
    clip = written(tmp_path / "clip.mp4", frames(2))

    class Camera:  # OpenCV's own class, inherited from, breaks Python's garbage collection
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
