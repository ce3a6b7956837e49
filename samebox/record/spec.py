"""The record that travels with a network: the file alone is enough to run it."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from samebox.core.errors import SameboxError
from samebox.record.decoding import MMDETECTION, Decoding
from samebox.record.preprocess import Preprocess

METADATA_KEY = "samebox"
# A second key, in files of another precision: the precision asked for, and the products by precision
PRECISION_KEY = "samebox_precision"


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

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str], source: str) -> "Spec":
        """The record in the metadata of `source`. Raises SameboxError if there is no valid record."""
        if METADATA_KEY not in metadata:
            raise SameboxError(f"{source}: has no samebox metadata; export it with samebox export")
        try:
            values = json.loads(metadata[METADATA_KEY])
            values["class_names"] = tuple(values["class_names"])
            values["preprocess"] = Preprocess.from_dict(values["preprocess"])
            values["decoding"] = Decoding.from_dict(values.get("decoding", {}))
            values["categories"] = _categories(values.get("categories"))
            return cls(**values)
        except (ValueError, KeyError, TypeError):
            raise SameboxError(
                f"{source}: its samebox metadata is damaged or from another version; export it again"
            ) from None


def _categories(values: Mapping[str, Any] | None) -> Categories | None:
    if values is None:
        return None
    return Categories(values["dataset"], tuple(values["ids"]), tuple(values["stuff_ids"]))
