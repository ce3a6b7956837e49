"""The record that travels with a network: the file alone is enough to run it."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from samebox.core.errors import SameboxError
from samebox.core.text import one_line
from samebox.core.typed import from_json
from samebox.record.decoding import MMDETECTION, Decoding
from samebox.record.preprocess import Preprocess

METADATA_KEY = "samebox"
# A second key, in files of another precision: the precision asked for, and the products by precision
PRECISION_KEY = "samebox_precision"

# Limits of a record that is read. COCO's panoptic record has 5,000 characters; V3Det has 13,204 classes
MAX_CHARACTERS = 1 << 22
MAX_CLASSES = 100_000
MAX_NAME = 1000  # characters


@dataclass(frozen=True)
class Categories:
    """The category ids of the classes in a data set of COCO's format.

    `dataset` is its name, `ids` are in the order of `Spec.class_names`, and `stuff_ids` in the order of
    `PanopticRule.stuff_class_names`.
    """

    dataset: str
    ids: tuple[int, ...]
    stuff_ids: tuple[int, ...] = ()


@dataclass(frozen=True)
class Spec:
    """The record of a network, in an ONNX file's metadata, in the JSON file beside an engine, and in reports.

    `normalize` (mean, std in 0..255, channel_order) is for the reader's information: it happens inside the
    graph. `decoding` holds the rules by which its outputs become detections. `checkpoint_sha256` is the hash
    of the source file. `opset`, `lowering` and `samebox_version` are those of the export, None for a network
    that has not been exported. With `postprocess=False` the network returns its head outputs instead of
    detections. `categories` are None if the data set is unknown or does not have every class.
    """

    name: str
    class_names: tuple[str, ...]
    preprocess: Preprocess
    normalize: Mapping[str, Any]
    checkpoint_sha256: str
    opset: int | None = None
    lowering: str | None = None
    postprocess: bool = True
    decoding: Decoding = MMDETECTION
    categories: Categories | None = None
    samebox_version: str | None = None

    def to_json(self) -> str:
        """The record as one line of JSON; equal records give equal bytes."""
        values = asdict(self) | {"preprocess": self.preprocess.to_dict()}
        return json.dumps(values, sort_keys=True, separators=(",", ":"))

    def __post_init__(self) -> None:
        """Raises SameboxError for too many or too long names, or another number of ids than of classes."""
        rule = self.decoding.panoptic
        names = (*self.class_names, *(rule.stuff_class_names if rule else ()))
        if len(names) > MAX_CLASSES or max(map(len, (self.name, *names))) > MAX_NAME:
            raise SameboxError(
                f"class_names: more than {MAX_CLASSES} classes, or a name of over {MAX_NAME} characters"
            )
        counts = self.categories and (len(self.categories.ids), len(self.categories.stuff_ids))
        if counts and counts != (len(self.class_names), len(names) - len(self.class_names)):
            raise SameboxError("categories: not one id for each class")

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str], source: str) -> "Spec":
        """The record in the metadata of `source`, its texts made `printable`.

        Raises SameboxError if there is no record, or if a value has another type or is out of range.
        """
        if METADATA_KEY not in metadata:
            raise SameboxError(f"{source}: has no samebox metadata; export it with samebox export")
        text = metadata[METADATA_KEY]
        try:
            if len(text) > MAX_CHARACTERS:
                raise ValueError(f"{len(text)} characters")
            return from_json(cls, json.loads(text))
        except (ValueError, RecursionError, SameboxError) as error:
            raise SameboxError(
                f"{source}: its samebox metadata is damaged or from another version ({one_line(error)}); "
                "export it again"
            ) from None
