"""What travels with a network, so that whoever holds the file alone can run it."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from samebox.core.errors import SameboxError
from samebox.record.decoding import MMDETECTION, Decoding
from samebox.record.preprocess import Preprocess

METADATA_KEY = "samebox"
# Beside it, of a file in another precision: what was asked, and how many products are of each precision
PRECISION_KEY = "samebox_precision"


@dataclass(frozen=True)
class Spec:
    """One record a network: written into an ONNX file's metadata, beside an engine, and into reports.

    `normalize` (mean, std in 0..255, channel_order) is for the reader's information: it happens inside
    the graph. `decoding` tells how its outputs are read. `checkpoint_sha256` is the hash of the source file.
    `opset` and `lowering` are None for a network that has not been exported. Without `postprocess` it gives
    the maps of its heads, not detections.
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

    def to_json(self) -> str:
        """The record as one line of JSON, the same bytes for the same record."""
        values = asdict(self) | {"preprocess": self.preprocess.to_dict()}
        return json.dumps(values, sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str], source: str) -> "Spec":
        """The record in a file's metadata. Raises SameboxError where `source` has none that reads."""
        if METADATA_KEY not in metadata:
            raise SameboxError(f"{source}: carries no samebox metadata; export it with pipelines.export")
        try:
            values = json.loads(metadata[METADATA_KEY])
            values["class_names"] = tuple(values["class_names"])
            values["preprocess"] = Preprocess.from_dict(values["preprocess"])
            values["decoding"] = Decoding.from_dict(values.get("decoding", {}))
            return cls(**values)
        except (ValueError, KeyError, TypeError):
            raise SameboxError(
                f"{source}: its samebox metadata is damaged or another version's; export it anew"
            ) from None
