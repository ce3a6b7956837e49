import json
import struct

import cv2
import numpy as np
import PIL.Image
import pytest

from samebox.core.errors import SameboxError
from samebox.record.preprocess import FILTERS, Preprocess, Resize, read_image

RULE = Resize((1333, 800))


def picture(height, width, seed=0):
    """A smooth image [H,W,3], which JPEG keeps well and which is no mirror image of itself."""
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 4, 3)).astype(np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR)


def encoded(image, suffix, *settings):
    return cv2.imencode(suffix, image, settings)[1].tobytes()


def turned(jpeg, orientation):
    """`jpeg` with an EXIF segment that says how it has to be turned."""
    tiff = b"II*\0" + struct.pack("<I", 8) + struct.pack("<HHHIHHI", 1, 0x0112, 3, 1, orientation, 0, 0)
    segment = b"Exif\0\0" + tiff
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment + jpeg[2:]


@pytest.fixture
def file(tmp_path):
    """Writes bytes to a file and returns its path."""

    def written(data, name="image.bin"):
        path = tmp_path / name
        path.write_bytes(data)
        return path

    return written


class TestReadImage:
    def test_colour_comes_as_rgb(self, file):
        rgb = np.zeros((5, 7, 3), np.uint8)
        rgb[:, :, 0], rgb[0, :, 1], rgb[:, 0, 2] = 250, 100, 30
        image = read_image(file(encoded(rgb[..., ::-1], ".png")))
        assert (image.dtype, image.flags.c_contiguous) == (np.uint8, True)
        np.testing.assert_array_equal(image, rgb)

    def test_grey_becomes_three_equal_channels(self, file):
        grey = picture(6, 9)[..., 0]
        np.testing.assert_array_equal(read_image(file(encoded(grey, ".png"))), np.dstack([grey] * 3))

    def test_sixteen_bits_become_the_upper_eight(self, file):
        rgb = picture(6, 9)
        deep = rgb[..., ::-1].astype(np.uint16) * 256
        np.testing.assert_array_equal(read_image(file(encoded(deep, ".png"))), rgb)

    def test_transparency_is_left_out(self, file):
        rgb = picture(6, 9)
        bgra = np.dstack([rgb[..., ::-1], np.full((6, 9), 40, np.uint8)])
        np.testing.assert_array_equal(read_image(file(encoded(bgra, ".png"))), rgb)

    @pytest.mark.parametrize(
        ("orientation", "upright"),
        [
            (1, lambda image: image),
            (2, np.fliplr),
            (3, lambda image: np.rot90(image, 2)),
            (4, np.flipud),
            (6, lambda image: np.rot90(image, -1)),
            (8, lambda image: np.rot90(image, 1)),
        ],
    )
    def test_exif_orientation_is_applied(self, file, orientation, upright):
        jpeg = encoded(picture(24, 40), ".jpg", cv2.IMWRITE_JPEG_QUALITY, 95)
        stored = read_image(file(jpeg))
        assert stored.shape == (24, 40, 3)
        np.testing.assert_array_equal(read_image(file(turned(jpeg, orientation))), upright(stored))

    def test_jpeg_without_its_end(self, file):
        """OpenCV 5 refuses it, and we say so; OpenCV 4 makes up what is missing below what is there."""
        whole = encoded(picture(128, 128), ".jpg", cv2.IMWRITE_JPEG_QUALITY, 95)
        cut, intact = file(whole[: len(whole) // 2], "cut.jpg"), read_image(file(whole, "whole.jpg"))
        if int(cv2.__version__.partition(".")[0]) >= 5:
            with pytest.raises(SameboxError, match=r"cut\.jpg: not an image that OpenCV can decode"):
                read_image(cut)
        else:
            image = read_image(cut)
            assert image.shape == intact.shape
            np.testing.assert_array_equal(image[:32], intact[:32])

    @pytest.mark.parametrize(
        "data",
        [
            pytest.param(b"", id="empty"),
            pytest.param(b"no image at all\n", id="text"),
            pytest.param(encoded(picture(64, 64), ".jpg")[:150], id="JPEG cut within its header"),
            pytest.param(encoded(picture(64, 64), ".png")[:30], id="PNG cut within its header"),
        ],
    )
    def test_no_image_is_told_in_one_line(self, file, data):
        path = file(data)
        with pytest.raises(SameboxError, match="not an image that OpenCV can decode") as caught:
            read_image(path)
        assert str(caught.value).startswith(f"{path}: ")
        assert "\n" not in str(caught.value)

    def test_missing(self, tmp_path):
        with pytest.raises(SameboxError, match=r"gone\.jpg: no such image"):
            read_image(tmp_path / "gone.jpg")

    def test_folder(self, tmp_path):
        with pytest.raises(SameboxError, match="no such image"):
            read_image(tmp_path)


class TestResize:
    @pytest.mark.parametrize(
        ("original", "resized"),
        [
            pytest.param((480, 640), (800, 1067), id="short side decides"),
            pytest.param((426, 640), (800, 1202), id="1201.88 is rounded up"),
            pytest.param((640, 480), (1067, 800), id="upright"),
            pytest.param((500, 2000), (333, 1333), id="long side decides, 333.25 is rounded down"),
            pytest.param((2000, 500), (1333, 333), id="long side decides, upright"),
            pytest.param((800, 1333), (800, 1333), id="as it is"),
            pytest.param((1, 1), (800, 800), id="one pixel"),
            pytest.param((1, 5000), (1, 1333), id="a side is never 0, wide"),
            pytest.param((5000, 1), (1333, 1), id="a side is never 0, tall"),
        ],
    )
    def test_as_mmdetection(self, original, resized):
        assert RULE(*original) == resized
        assert Resize((800, 1333))(*original) == resized, "the order of the scale means nothing"

    def test_halves_are_rounded_up(self):
        assert Resize((4, 4))(8, 5) == (4, 3)  # 2.5; Python's round gives 2
        assert Resize((4, 4))(5, 8) == (3, 4)
        assert Resize((4, 4))(8, 7) == (4, 4)  # 3.5

    def test_without_the_ratio_exactly_the_scale(self):
        assert Resize((320, 300), keep_ratio=False)(17, 900) == (300, 320)

    @pytest.mark.parametrize(
        ("original", "resized"),
        [((100, 400), (80, 320)), ((400, 100), (200, 50)), ((200, 320), (200, 320)), ((1, 1), (200, 200))],
    )
    def test_fit_stays_within_width_and_height(self, original, resized):
        assert Resize((320, 200), fit=True)(*original) == resized


class TestPreprocess:
    def test_image_lies_in_the_corner_and_the_rest_is_zero(self):
        image = picture(30, 50)
        batch = Preprocess(Resize((60, 40)), divisor=32)([image])
        assert batch.images.dtype == np.float32
        assert batch.images.shape == (1, 3, 64, 64)
        assert batch.sizes.tolist() == [[36, 60]]
        assert batch.originals.tolist() == [[30, 50]]
        expected = cv2.resize(image, (60, 36), interpolation=cv2.INTER_LINEAR).transpose(2, 0, 1)
        np.testing.assert_array_equal(batch.images[0, :, :36, :60], expected)
        assert not batch.images[0, :, 36:].any()
        assert not batch.images[0, :, :, 60:].any()
        assert set(batch.inputs()) == {"images", "sizes"}
        assert batch.sizes.dtype == batch.originals.dtype == np.int64

    def test_canvas_is_that_of_the_largest_sides(self):
        wide, tall = picture(100, 400), picture(400, 100)
        batch = Preprocess(RULE)([wide, tall])
        assert batch.sizes.tolist() == [[333, 1333], [1333, 333]]
        assert batch.images.shape == (2, 3, 1344, 1344)
        for index, image in enumerate([wide, tall]):
            height, width = batch.sizes[index]
            alone = Preprocess(RULE)([image])
            np.testing.assert_array_equal(
                batch.images[index, :, :height, :width], alone.images[0, :, :height, :width]
            )

    @pytest.mark.parametrize(("divisor", "canvas"), [(1, (36, 60)), (12, (36, 60)), (128, (128, 128))])
    def test_divisor(self, divisor, canvas):
        assert Preprocess(Resize((60, 40)), divisor)([picture(30, 50)]).images.shape[2:] == canvas

    def test_one_pixel(self):
        batch = Preprocess(Resize((64, 64)))([np.full((1, 1, 3), 7, np.uint8)])
        np.testing.assert_array_equal(batch.images, np.full((1, 3, 64, 64), 7, np.float32))

    @pytest.mark.parametrize(
        ("size", "canvas"), [((480, 640), (511, 767)), ((511, 512), (511, 639)), ((1, 127), (127, 127))]
    )
    def test_one_less_than_a_multiple_around_an_image_as_it_is(self, size, canvas):
        image = picture(*size)
        batch = Preprocess(None, divisor=128, less=1)([image])
        assert batch.images.shape[2:] == canvas
        assert batch.sizes.tolist() == batch.originals.tolist() == [list(size)]
        np.testing.assert_array_equal(batch.images[0, :, : size[0], : size[1]], image.transpose(2, 0, 1))

    def test_without_a_resize_a_fixed_canvas_is_for_images_that_fit(self):
        rule = Preprocess(None, divisor=128, less=1).onto(64, 80)
        assert rule([picture(64, 70)]).images.shape[2:] == (64, 80)
        with pytest.raises(SameboxError, match="65x70 after the resize exceeds the canvas 64x80"):
            rule([picture(65, 70)])

    def test_a_larger_canvas_on_request(self):
        rule, image = Preprocess(Resize((60, 40))), picture(30, 50)
        larger, own = rule([image], canvas=(96, 160)), rule([image])
        assert larger.images.shape == (1, 3, 96, 160)
        np.testing.assert_array_equal(larger.images[:, :, :64, :64], own.images)
        assert not larger.images[:, :, 64:].any()
        np.testing.assert_array_equal(larger.sizes, own.sizes)

    @pytest.mark.parametrize("original", [(100, 400), (400, 100), (50, 50), (1, 1), (3000, 1)])
    def test_onto_a_fixed_canvas_any_image_fits(self, original):
        batch = Preprocess(RULE).onto(200, 320)([picture(*original)])
        assert batch.images.shape == (1, 3, 200, 320)
        height, width = batch.sizes[0]
        assert height == 200 or width == 320, "as large as fits"
        assert height <= 200
        assert width <= 320

    def test_onto_keeps_a_rule_that_ignores_the_ratio(self):
        rule = Preprocess(Resize((64, 64), keep_ratio=False), divisor=1).onto(64, 64)
        assert rule([picture(30, 50)]).sizes.tolist() == [[64, 64]]

    def test_an_image_beyond_the_canvas(self):
        with pytest.raises(SameboxError, match="36x60 after the resize exceeds the canvas 32x64"):
            Preprocess(Resize((60, 40)))([picture(30, 50)], canvas=(32, 64))

    @pytest.mark.parametrize(
        ("array", "message"),
        [
            pytest.param(np.zeros((4, 4), np.uint8), r"not uint8 of shape \(4, 4\)", id="grey"),
            pytest.param(np.zeros((4, 4, 4), np.uint8), r"of shape \(4, 4, 4\)", id="four channels"),
            pytest.param(np.zeros((4, 4, 3)), "not float64", id="real numbers"),
            pytest.param(np.zeros((0, 4, 3), np.uint8), "holds no pixel", id="no pixel"),
        ],
    )
    def test_what_is_no_image(self, array, message):
        with pytest.raises(SameboxError, match=message):
            Preprocess(RULE)([array])

    @pytest.mark.parametrize(
        "rule",
        [
            Preprocess(RULE),
            Preprocess(RULE, 1).onto(200, 320),
            Preprocess(Resize((320, 300), keep_ratio=False)),
        ],
        ids=["dynamic", "fixed canvas", "no ratio"],
    )
    def test_survives_json(self, rule):
        assert Preprocess.from_dict(json.loads(json.dumps(rule.to_dict()))) == rule


def test_a_divisor_below_one_is_refused():
    with pytest.raises(SameboxError, match=r"preprocess\.divisor: 0"):
        Preprocess(Resize((384, 256)), divisor=0)


BENCHMARK = Resize((1333, 800), short_first=True, filter="pillow")


@pytest.mark.parametrize(
    ("original", "size"),
    [
        pytest.param((480, 640), (800, 1066), id="the long side is cut, not rounded"),
        pytest.param((640, 480), (1066, 800), id="upright"),
        pytest.param((800, 1000), (800, 1000), id="the short side is right already"),
        pytest.param((800, 1333), (800, 1333), id="both are"),
        pytest.param((300, 1000), (400, 1333), id="the long side would exceed"),
        pytest.param((301, 1000), (401, 1332), id="and is then cut as well"),
        pytest.param((500, 500), (800, 800), id="a square"),
        pytest.param((1, 3000), (1, 3000), id="a line stays one"),
    ],
)
def test_the_short_side_first(original, size):
    assert BENCHMARK(*original) == size


def test_a_fixed_canvas_is_fitted_whatever_the_rule():
    assert Preprocess(BENCHMARK).onto(320, 400)([picture(480, 640)]).sizes.tolist() == [[300, 400]]


@pytest.mark.parametrize("size", [(20, 31), (75, 130), (40, 90)], ids=["shrunk", "enlarged", "across"])
def test_pillows_filter_is_pillows(size):
    image = np.random.default_rng(0).integers(0, 256, (60, 90, 3), np.uint8)
    rule = Preprocess(Resize((size[1], size[0]), keep_ratio=False, filter="pillow"), divisor=1)
    expected = np.asarray(PIL.Image.fromarray(image).resize(size[::-1], PIL.Image.Resampling.BILINEAR))
    found = rule([image]).images[0].transpose(1, 2, 0)
    np.testing.assert_array_equal(found, expected)
    assert Preprocess.from_dict(json.loads(json.dumps(rule.to_dict()))) == rule


def test_filters_differ_when_an_image_shrinks():
    image = np.random.default_rng(0).integers(0, 256, (90, 90, 3), np.uint8)
    ours, theirs = (FILTERS[name](image, 30, 30) for name in ("opencv", "pillow"))
    assert np.abs(ours.astype(int) - theirs).max() > 50


def test_an_unknown_filter_is_refused_by_name():
    with pytest.raises(SameboxError, match=r"resize\.filter: 'lanczos' is none of opencv, pillow$"):
        Resize((30, 30), filter="lanczos")
