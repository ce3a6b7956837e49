import json
import struct
import zlib

import cv2
import numpy as np
import PIL.Image
import pytest

from samebox.core.errors import SameboxError
from samebox.record.preprocess import FILTERS, Preprocess, Resize, read_image

RULE = Resize((1333, 800))


def smooth_image(height, width, seed=0):
    """A smooth image [H,W,3] without symmetry: JPEG changes it little."""
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 4, 3)).astype(np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR)


def encoded(image, suffix, *settings):
    return cv2.imencode(suffix, image, settings)[1].tobytes()


def with_orientation(jpeg, orientation):
    """`jpeg` with an EXIF segment that holds the orientation."""
    tiff = b"II*\0" + struct.pack("<I", 8) + struct.pack("<HHHIHHI", 1, 0x0112, 3, 1, orientation, 0, 0)
    segment = b"Exif\0\0" + tiff
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment + jpeg[2:]


@pytest.fixture
def file(tmp_path):
    """Writes bytes to a file and returns its path."""

    def write(data, name="image.bin"):
        path = tmp_path / name
        path.write_bytes(data)
        return path

    return write


class TestReadImage:
    def test_colours_are_rgb(self, file):
        rgb = np.zeros((5, 7, 3), np.uint8)
        rgb[:, :, 0], rgb[0, :, 1], rgb[:, 0, 2] = 250, 100, 30
        image = read_image(file(encoded(rgb[..., ::-1], ".png")))
        assert (image.dtype, image.flags.c_contiguous) == (np.uint8, True)
        np.testing.assert_array_equal(image, rgb)

    def test_grey_becomes_three_equal_channels(self, file):
        grey = smooth_image(6, 9)[..., 0]
        np.testing.assert_array_equal(read_image(file(encoded(grey, ".png"))), np.dstack([grey] * 3))

    def test_sixteen_bits_become_the_upper_eight(self, file):
        rgb = smooth_image(6, 9)
        deep = rgb[..., ::-1].astype(np.uint16) * 256
        np.testing.assert_array_equal(read_image(file(encoded(deep, ".png"))), rgb)

    def test_transparency_is_ignored(self, file):
        rgb = smooth_image(6, 9)
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
        jpeg = encoded(smooth_image(24, 40), ".jpg", cv2.IMWRITE_JPEG_QUALITY, 95)
        stored = read_image(file(jpeg))
        assert stored.shape == (24, 40, 3)
        np.testing.assert_array_equal(read_image(file(with_orientation(jpeg, orientation))), upright(stored))

    def test_jpeg_without_its_end(self, file):
        """OpenCV 5 refuses it, which is an error here; OpenCV 4 fills in the missing rows at the bottom."""
        whole = encoded(smooth_image(128, 128), ".jpg", cv2.IMWRITE_JPEG_QUALITY, 95)
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
            pytest.param(encoded(smooth_image(64, 64), ".jpg")[:150], id="JPEG cut within its header"),
            pytest.param(encoded(smooth_image(64, 64), ".png")[:30], id="PNG cut within its header"),
        ],
    )
    def test_a_file_that_is_no_image_is_an_error_of_one_line(self, file, data):
        path = file(data)
        with pytest.raises(SameboxError, match="not an image that OpenCV can decode") as error:
            read_image(path)
        assert str(error.value).startswith(f"{path}: ")
        assert "\n" not in str(error.value)

    @pytest.mark.parametrize(("width", "height"), [(15_000, 14_000), (30_000, 30_000)])
    def test_a_small_file_of_too_many_pixels_is_not_decoded(self, tmp_path, width, height):
        path = tmp_path / "bomb.png"
        row = zlib.compress(bytes(width // 8 + 1), 9)  # black and white: a bit per pixel
        header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
        chunks = (b"IHDR" + header, b"IDAT" + row, b"IEND")
        body = (struct.pack(">I", len(c) - 4) + c + struct.pack(">I", zlib.crc32(c)) for c in chunks)
        path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(body))
        with pytest.raises(
            SameboxError, match=r"bomb\.png: an image.* more than 200 million pixels; save it"
        ):
            read_image(path)

    def test_a_header_that_states_more_than_memory_is_an_error(self, tmp_path):
        path = tmp_path / "header.bmp"
        path.write_bytes(
            struct.pack("<2sIIIIiiHHIIiiII", b"BM", 104, 0, 54, 40, 2**30, 2**30, 1, 24, *[0] * 6)
        )
        with pytest.raises(SameboxError, match=r"header\.bmp: "):
            read_image(path)

    def test_an_absent_file_is_an_error(self, tmp_path):
        with pytest.raises(SameboxError, match=r"gone\.jpg: no such image"):
            read_image(tmp_path / "gone.jpg")

    def test_a_folder_is_an_error(self, tmp_path):
        with pytest.raises(SameboxError, match="no such image"):
            read_image(tmp_path)


class TestResize:
    @pytest.mark.parametrize(
        ("original", "resized"),
        [
            pytest.param((480, 640), (800, 1067), id="short side decides"),
            pytest.param((426, 640), (800, 1202), id="1201.88 is rounded up"),
            pytest.param((640, 480), (1067, 800), id="portrait"),
            pytest.param((500, 2000), (333, 1333), id="long side decides, 333.25 is rounded down"),
            pytest.param((2000, 500), (1333, 333), id="long side decides, portrait"),
            pytest.param((800, 1333), (800, 1333), id="already of that size"),
            pytest.param((1, 1), (800, 800), id="one pixel"),
            pytest.param((1, 5000), (1, 1333), id="a side is never 0, wide"),
            pytest.param((5000, 1), (1333, 1), id="a side is never 0, tall"),
        ],
    )
    def test_sizes_are_mmdetections(self, original, resized):
        assert RULE(*original) == resized
        assert Resize((800, 1333))(*original) == resized, "the order of the scale does not matter"

    def test_halves_are_rounded_up(self):
        assert Resize((4, 4))(8, 5) == (4, 3)  # 2.5; Python's round gives 2
        assert Resize((4, 4))(5, 8) == (3, 4)
        assert Resize((4, 4))(8, 7) == (4, 4)  # 3.5

    def test_without_keep_ratio_the_size_is_the_scale(self):
        assert Resize((320, 300), keep_ratio=False)(17, 900) == (300, 320)

    @pytest.mark.parametrize(
        ("original", "resized"),
        [((100, 400), (80, 320)), ((400, 100), (200, 50)), ((200, 320), (200, 320)), ((1, 1), (200, 200))],
    )
    def test_fit_stays_within_width_and_height(self, original, resized):
        assert Resize((320, 200), fit=True)(*original) == resized


class TestPreprocess:
    def test_the_image_is_at_the_top_left_and_the_rest_is_zero(self):
        image = smooth_image(30, 50)
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

    def test_the_canvas_holds_the_largest_sides(self):
        wide, tall = smooth_image(100, 400), smooth_image(400, 100)
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
        assert Preprocess(Resize((60, 40)), divisor)([smooth_image(30, 50)]).images.shape[2:] == canvas

    def test_one_pixel(self):
        batch = Preprocess(Resize((64, 64)))([np.full((1, 1, 3), 7, np.uint8)])
        np.testing.assert_array_equal(batch.images, np.full((1, 3, 64, 64), 7, np.float32))

    @pytest.mark.parametrize(
        ("size", "canvas"), [((480, 640), (511, 767)), ((511, 512), (511, 639)), ((1, 127), (127, 127))]
    )
    def test_less_is_subtracted_from_the_multiple_of_the_divisor(self, size, canvas):
        image = smooth_image(*size)
        batch = Preprocess(None, divisor=128, less=1)([image])
        assert batch.images.shape[2:] == canvas
        assert batch.sizes.tolist() == batch.originals.tolist() == [list(size)]
        np.testing.assert_array_equal(batch.images[0, :, : size[0], : size[1]], image.transpose(2, 0, 1))

    def test_without_a_resize_an_image_must_fit_on_a_fixed_canvas(self):
        rule = Preprocess(None, divisor=128, less=1).on_canvas(64, 80)
        assert rule([smooth_image(64, 70)]).images.shape[2:] == (64, 80)
        with pytest.raises(SameboxError, match="65x70 after the resize exceeds the canvas 64x80"):
            rule([smooth_image(65, 70)])

    def test_a_larger_canvas_on_request(self):
        rule, image = Preprocess(Resize((60, 40))), smooth_image(30, 50)
        larger, own = rule([image], canvas=(96, 160)), rule([image])
        assert larger.images.shape == (1, 3, 96, 160)
        np.testing.assert_array_equal(larger.images[:, :, :64, :64], own.images)
        assert not larger.images[:, :, 64:].any()
        np.testing.assert_array_equal(larger.sizes, own.sizes)

    @pytest.mark.parametrize("original", [(100, 400), (400, 100), (50, 50), (1, 1), (3000, 1)])
    def test_any_image_is_resized_to_fit_on_a_fixed_canvas(self, original):
        batch = Preprocess(RULE).on_canvas(200, 320)([smooth_image(*original)])
        assert batch.images.shape == (1, 3, 200, 320)
        height, width = batch.sizes[0]
        assert height == 200 or width == 320, "as large as possible"
        assert height <= 200
        assert width <= 320

    def test_on_a_fixed_canvas_a_rule_without_keep_ratio_stays(self):
        rule = Preprocess(Resize((64, 64), keep_ratio=False), divisor=1).on_canvas(64, 64)
        assert rule([smooth_image(30, 50)]).sizes.tolist() == [[64, 64]]

    def test_an_image_larger_than_the_canvas_is_an_error(self):
        with pytest.raises(SameboxError, match="36x60 after the resize exceeds the canvas 32x64"):
            Preprocess(Resize((60, 40)))([smooth_image(30, 50)], canvas=(32, 64))

    @pytest.mark.parametrize(
        ("array", "message"),
        [
            pytest.param(np.zeros((4, 4), np.uint8), r"not uint8 of shape \(4, 4\)", id="grey"),
            pytest.param(np.zeros((4, 4, 4), np.uint8), r"of shape \(4, 4, 4\)", id="four channels"),
            pytest.param(np.zeros((4, 4, 3)), "not float64", id="real numbers"),
            pytest.param(np.zeros((0, 4, 3), np.uint8), "has no pixels", id="no pixels"),
        ],
    )
    def test_an_array_that_is_no_image_is_an_error(self, array, message):
        with pytest.raises(SameboxError, match=message):
            Preprocess(RULE)([array])

    @pytest.mark.parametrize(
        "rule",
        [
            Preprocess(RULE),
            Preprocess(RULE, 1).on_canvas(200, 320),
            Preprocess(Resize((320, 300), keep_ratio=False)),
        ],
        ids=["dynamic", "fixed canvas", "no ratio"],
    )
    def test_json_keeps_the_rule(self, rule):
        assert Preprocess.from_dict(json.loads(json.dumps(rule.to_dict()))) == rule


def test_a_divisor_below_one_is_an_error():
    with pytest.raises(SameboxError, match=r"preprocess\.divisor: 0"):
        Preprocess(Resize((384, 256)), divisor=0)


BENCHMARK = Resize((1333, 800), short_first=True, filter="pillow")


@pytest.mark.parametrize(
    ("original", "size"),
    [
        pytest.param((480, 640), (800, 1066), id="the long side is truncated, not rounded"),
        pytest.param((640, 480), (1066, 800), id="portrait"),
        pytest.param((800, 1000), (800, 1000), id="the short side is already right"),
        pytest.param((800, 1333), (800, 1333), id="both sides are"),
        pytest.param((300, 1000), (400, 1333), id="the long side would be too large"),
        pytest.param((301, 1000), (401, 1332), id="and is truncated"),
        pytest.param((500, 500), (800, 800), id="a square"),
        pytest.param((1, 3000), (1, 3000), id="a line of pixels stays one"),
    ],
)
def test_short_first_sizes_are_maskrcnn_benchmarks(original, size):
    assert BENCHMARK(*original) == size


def test_on_a_fixed_canvas_short_first_does_not_apply():
    assert Preprocess(BENCHMARK).on_canvas(320, 400)([smooth_image(480, 640)]).sizes.tolist() == [[300, 400]]


@pytest.mark.parametrize(
    "size", [(20, 31), (75, 130), (40, 90)], ids=["smaller", "larger", "of another ratio"]
)
def test_the_filter_pillow_equals_pillow(size):
    image = np.random.default_rng(0).integers(0, 256, (60, 90, 3), np.uint8)
    rule = Preprocess(Resize((size[1], size[0]), keep_ratio=False, filter="pillow"), divisor=1)
    expected = np.asarray(PIL.Image.fromarray(image).resize(size[::-1], PIL.Image.Resampling.BILINEAR))
    resized = rule([image]).images[0].transpose(1, 2, 0)
    np.testing.assert_array_equal(resized, expected)
    assert Preprocess.from_dict(json.loads(json.dumps(rule.to_dict()))) == rule


def test_filters_differ_when_an_image_shrinks():
    image = np.random.default_rng(0).integers(0, 256, (90, 90, 3), np.uint8)
    opencv, pillow = (FILTERS[name](image, 30, 30) for name in ("opencv", "pillow"))
    assert np.abs(opencv.astype(int) - pillow).max() > 50


def test_an_unknown_filter_is_an_error():
    with pytest.raises(SameboxError, match=r"resize\.filter: 'lanczos' is not one of opencv, pillow$"):
        Resize((30, 30), filter="lanczos")
