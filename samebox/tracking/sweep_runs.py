"""The run of a sweep in MLflow, and the nested runs of the forms at its points."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Metric, Param

from samebox.core.text import printable
from samebox.tracking.store import KEY_TAG, PARENT_TAG, delete_run, find_runs, open_store
from samebox.tracking.values import flat_metrics, form_tags, param_text

_SWEEP_TAG = "samebox.sweep"
_POINT_TAG = "samebox.point"


def open_sweep_run(name: str, *, store: str, tags: Mapping[str, str]) -> str:
    """The id of the run of the sweep `name`: its existing run, set to running, or a new one.

    The runs go to the place described at `open_store`.
    """
    name = printable(name)
    with open_store(store) as (client, experiment):
        for run in find_runs(client, experiment, {_SWEEP_TAG: name}):
            client.update_run(run.info.run_id, status="RUNNING")
            return run.info.run_id
        return client.create_run(experiment, tags={**tags, _SWEEP_TAG: name}, run_name=name).info.run_id


@dataclass(frozen=True)
class SweepForm:
    """A form at a point of a sweep: its metrics.json, or the reason why the point failed before it.

    `deltas`: its differences from the reference, as in `samebox.comparing.comparison.Row`.
    """

    runtime: str
    metrics: Mapping[str, Any] | None
    reason: str | None = None
    deltas: Mapping[str, float] = field(default_factory=dict)


def track_point(
    sweep: str,
    point: str,
    forms: Sequence[SweepForm],
    *,
    store: str,
    key: str,
    title: str,
    params: Mapping[str, Any],
    config: Mapping[str, Any],
    tags: Mapping[str, str],
) -> None:
    """Record the forms at a point as runs nested under the run whose id is `sweep`.

    All runs have the parameters `params` and `runtime`, and the whole `config` as config.json. A form without
    metrics is a failed run. `point` identifies the point within the sweep, and `key` is a hash of all its
    inputs: if all forms are already recorded under that key and none failed, nothing is recorded; otherwise
    the point's earlier runs are deleted first.
    """
    with open_store(store) as (client, experiment):
        earlier = find_runs(client, experiment, {PARENT_TAG: sweep, _POINT_TAG: point})
        complete = [run for run in earlier if run.info.status == "FINISHED" and run.data.tags[KEY_TAG] == key]
        if len(complete) == len(earlier) == len(forms):
            return
        for run in earlier:
            delete_run(client, run)
        point_tags = {**tags, PARENT_TAG: sweep, _POINT_TAG: point, KEY_TAG: key}
        for form in forms:
            name = f"{title} {form.runtime}".lstrip()
            run = client.create_run(experiment, tags={**point_tags, **_tags(form)}, run_name=name)
            _log_form(client, run.info.run_id, form, params, config)


def finish_sweep_run(sweep: str, *, store: str, files: Sequence[Path], points: int, failed: int) -> None:
    """Log the files and the numbers of points to the run whose id is `sweep`, and finish it."""
    with open_store(store) as (client, _):
        for path in files:
            client.log_artifact(sweep, str(path))
        client.log_metric(sweep, "points", points)
        client.log_metric(sweep, "points_failed", failed)
        client.set_terminated(sweep)


def _log_form(
    client: MlflowClient, run: str, form: SweepForm, params: Mapping[str, Any], config: Mapping[str, Any]
) -> None:
    """Log a form to its run. The status is set last, so that a finished run is complete."""
    now = int(time.time() * 1000)
    metrics = {} if form.metrics is None else flat_metrics(form.metrics) | dict(form.deltas)
    client.log_batch(
        run,
        metrics=[Metric(name, value, now, 0) for name, value in metrics.items()],
        params=[
            Param(name, param_text(value)) for name, value in {**params, "runtime": form.runtime}.items()
        ],
    )
    client.log_dict(run, dict(config), "config.json")
    if form.metrics is not None:
        client.log_dict(run, dict(form.metrics), "metrics.json")
    client.set_terminated(run, "FAILED" if form.metrics is None else "FINISHED")


def _tags(form: SweepForm) -> dict[str, str]:
    if form.metrics is None:
        return {"runtime": form.runtime, "status": "failed", "reason": printable(form.reason)}
    return form_tags(form.metrics)
