"""The MLflow server or store that holds the runs."""

import logging
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import mlflow
from filelock import FileLock
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.exceptions import MlflowException

from samebox.core.errors import SameboxError

EXPERIMENT = "samebox"
KEY_TAG = "samebox.key"  # a hash of all inputs of a run
PARENT_TAG = "mlflow.parentRunId"  # MLflow's own tag of a nested run

_FILE_STORE = "sqlite:///"
_PLAIN = re.compile(r"[\w .:=+-]*")  # values that a filter takes without escaping


@contextmanager
def open_store(store: str) -> Iterator[tuple[MlflowClient, str]]:
    """A client, and the id of the experiment that holds all runs.

    The client is that of the server `MLFLOW_TRACKING_URI` if that is set, else of `store` (sqlite:///PATH,
    with artifacts next to it). MLflow writes the address that it is given into the environment, where a later
    call would take it for the user's setting; so MLflow's setting is restored afterwards. Raises SameboxError
    for errors of MLflow.
    """
    for name in ("mlflow", "alembic"):  # they log every table that a new store gets
        logging.getLogger(name).setLevel(logging.WARNING)
    server = os.environ.get("MLFLOW_TRACKING_URI")
    mlflow.set_tracking_uri(server or store)
    try:
        yield _open_server() if server else _open_file(store)
    except MlflowException as error:
        reason = str(error).splitlines()[0]
        raise SameboxError(f"{server or store}: MLflow refuses ({reason}); check the tracking URI") from error
    finally:
        mlflow.set_tracking_uri(server)


def _open_server() -> tuple[MlflowClient, str]:
    """A client of the user's server, which determines where artifacts are stored, and the experiment's id."""
    client = MlflowClient()
    experiment = client.get_experiment_by_name(EXPERIMENT)
    return client, experiment.experiment_id if experiment else client.create_experiment(EXPERIMENT)


def _open_file(store: str) -> tuple[MlflowClient, str]:
    """A client of a file, created if it does not exist, and the experiment's id.

    Raises SameboxError for a path with a question mark, behind which the options of an address begin.
    """
    if "?" in store:
        raise SameboxError(f"{store}: MLflow's store cannot have ? in its path; give another paths.store")
    folder = Path(store.removeprefix(_FILE_STORE)).resolve().parent
    folder.mkdir(parents=True, exist_ok=True)
    # the first process to open a new file creates its tables; two at the same time would fail
    with FileLock(folder / ".mlflow.lock"):
        client = MlflowClient()
        if experiment := client.get_experiment_by_name(EXPERIMENT):
            return client, experiment.experiment_id
        root = (folder / "mlartifacts").as_uri()
        return client, client.create_experiment(EXPERIMENT, artifact_location=root)


def find_runs(client: MlflowClient, experiment: str, tags: Mapping[str, str]) -> list[Run]:
    """All runs with the tags. MLflow's filters have no escape for quotes, so odd values are compared here."""
    plain = {name: value for name, value in tags.items() if _PLAIN.fullmatch(value)}
    clauses = " and ".join(f"tags.`{name}` = '{value}'" for name, value in plain.items())
    runs: list[Run] = []
    token: str | None = None
    while True:
        page = client.search_runs([experiment], clauses, page_token=token)
        runs += [run for run in page if tags.items() <= run.data.tags.items()]
        token = page.token
        if not token:
            return runs


def delete_run(client: MlflowClient, run: Run) -> None:
    """Delete a run and its logged models."""
    run_id, experiment = run.info.run_id, run.info.experiment_id
    for model in client.search_logged_models([experiment], f"source_run_id = '{run_id}'"):
        client.delete_logged_model(model.model_id)
    client.delete_run(run_id)
