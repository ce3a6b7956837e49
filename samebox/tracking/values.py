"""The metrics, parameters and tags of a form in MLflow."""

from collections.abc import Mapping
from typing import Any

from mlflow.utils.validation import MAX_PARAM_VAL_LENGTH

from samebox.core.text import printable


def flat_metrics(metrics: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of metrics.json under flat names, without those that were not measured.

    `bbox/AP` is at batch 1, `bbox/AP_batch4` at batch 4. Times are `network_ms_median`, in milliseconds.
    """
    flat = {name: metrics[name] for name in ("images_per_second", "peak_mb", "device_peak_mb", "artifact_mb")}
    for batch, by_kind in (metrics["score"] or {}).items():
        suffix = "" if batch == "1" else f"_batch{batch}"
        for kind, stats in by_kind.items():
            numbers = {name: value for name, value in stats.items() if name != "per_class"}
            flat |= {f"{kind}/{name}{suffix}": value for name, value in numbers.items()}
    for step, times in (metrics["timing"] or {}).items():
        flat |= {f"{step}_ms_{name}": value for name, value in times.items()}
    return {name: value for name, value in flat.items() if value is not None}


def form_tags(metrics: Mapping[str, Any]) -> dict[str, str]:
    """The runtime, data set, status, reason and hardware of a form."""
    names = ("runtime", "dataset", "status", "reason")
    tags = {name: printable(metrics[name]) for name in names if metrics[name]}
    return tags | {f"hardware.{name}": printable(value) for name, value in metrics["hardware"].items()}


def param_text(value: Any) -> str:
    """A value as the printable text of a parameter, cut to the length that MLflow accepts."""
    return printable(str(value)[:MAX_PARAM_VAL_LENGTH])
