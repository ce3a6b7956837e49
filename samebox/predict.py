"""Pictures with their detections drawn, and the detections as COCO results.

python -m samebox.predict model.onnx IMAGE… --out DIR
"""

import argparse
import sys
from pathlib import Path

import cv2

from samebox.coco.panoptic import Category, CategorySet, PanopticResults
from samebox.coco.results import results_from_detections, write_results
from samebox.detector import Detector, load
from samebox.draw import draw
from samebox.engine import NotHere
from samebox.errors import SameboxError
from samebox.files import written_aside
from samebox.preprocess import Image, read_image


def predict(detector: Detector, images: list[Path], out: Path, threshold: float) -> dict[Path, str]:
    """Write a picture for each image and `detections.json` for all to `out`; what failed, by image.

    The detections are COCO results: image_id counts the images from 1 in their order, category_id is the
    label counted from 1, file_name the image's path, segmentation the mask where the detector gives any. All
    are written, those from `threshold` on drawn. The segments of a detector that gives them are in
    `panoptic.json` and the folder `panoptic`, as COCO has them; stuff is counted on after the labels.
    """
    categories = range(1, len(detector.spec.class_names) + 1)
    results, failed = [], {}
    segments = PanopticResults(_categories(detector))
    for number, path in enumerate(images, start=1):
        try:
            image = read_image(path)
            found = detector(image)
        except SameboxError as error:
            failed[path] = str(error)
            continue
        results += results_from_detections(number, found, categories, file_name=str(path))
        if found.panoptic is not None:
            segments.add(number, found.panoptic)
        write_picture(out / f"{number:04d}_{path.stem}.jpg", draw(image, found, threshold))
    write_results(out / "detections.json", results)
    if segments.results:
        segments.write(out / "panoptic.json", out / "panoptic")
    return failed


def _categories(detector: Detector) -> CategorySet:
    """The detector's classes, of objects and then of stuff, counted from 1."""
    rule = detector.spec.decoding.panoptic
    things, stuff = detector.spec.class_names, rule.stuff_class_names if rule else ()
    names = enumerate([*things, *stuff], start=1)
    return CategorySet(
        detector.runner.name, [Category(number, name, number <= len(things)) for number, name in names]
    )


def write_picture(path: Path, image: Image) -> None:
    """Write an image [H,W,3] RGB to a JPEG file, whole or not at all."""
    with written_aside(path) as aside:
        cv2.imwrite(str(aside), cv2.cvtColor(image, cv2.COLOR_RGB2BGR))


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m samebox.predict", description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path, help="an ONNX file or an engine made by samebox")
    parser.add_argument("images", type=Path, nargs="+", metavar="IMAGE")
    parser.add_argument("--out", type=Path, required=True, help="the folder that is written to")
    parser.add_argument("--threshold", type=float, default=0.3, help="least score that is drawn (0.3)")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"), help="of ONNX Runtime")
    return parser.parse_args()


def main() -> int:
    """Predict for the command line; 1 where an image failed or nothing could be run."""
    asked = arguments()
    try:
        with load(asked.model, device=asked.device) as detector:
            failed = predict(detector, asked.images, asked.out, asked.threshold)
    except (SameboxError, NotHere) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    for reason in failed.values():
        print(f"error: {reason}", file=sys.stderr)
    print(f"{len(asked.images) - len(failed)} of {len(asked.images)} images: {asked.out}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
