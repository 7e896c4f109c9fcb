"""The history as MLflow's runs: an experiment, a run for each entry, its figures as metrics and its document as an artifact."""

from __future__ import annotations

import json
import re
from datetime import datetime
from typing import Any

from ..errors import EngineUnavailableError, OutputError
from ..results import Result
from ..results.history import HistoryRow
from ..telemetry import switch_off
from .store import History
from .wanted import Wanted

ID_TAG = "modelport.id"
_NAME = re.compile(r"[^\w\-. /]", re.ASCII)  # what MLflow allows in a metric's name, everywhere
_LONGEST_TAG = 5000


class Exported(Result):
    """What was exported. `exported`: ids of entries; `present`: how many were there already."""

    exported: tuple[str, ...]
    present: int


def export_to_mlflow(history: History, wanted: Wanted, *, uri: str, experiment: str = "modelport") -> Exported:
    """Copy entries to MLflow, oldest first. An entry that is there already, by its id's tag, is passed over.

    Args:
        history: an open history.
        wanted: which entries.
        uri: MLflow's tracking URI.
        experiment: made where it is not there.

    Raises:
        EngineUnavailableError: MLflow is not installed.
        OutputError: MLflow refuses.
    """
    client, refused = _client(uri)
    done: list[str] = []
    try:
        number = _experiment(client, experiment)
        rows = history.rows(wanted)
        missing = [row for row in reversed(rows) if not _present(client, number, row)]
        for row in missing:
            _write(client, number, row, history)
            done.append(row.id)
    except refused as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise OutputError(f"MLflow at {uri}: {reason}; {len(done)} entries were exported before") from error
    return Exported(exported=tuple(done), present=len(rows) - len(missing))


def _client(uri: str) -> tuple[Any, tuple[type[Exception], ...]]:
    """MLflow's client, and what it raises."""
    switch_off()
    try:
        from mlflow import MlflowClient
        from mlflow.exceptions import MlflowException
    except ImportError as error:
        raise EngineUnavailableError(
            f"MLflow is not installed: pip install 'modelport[mlflow]' ({error.name or error} is missing)"
        ) from error
    refused = (MlflowException, OSError)
    try:
        return MlflowClient(tracking_uri=uri), refused
    except refused as error:
        raise OutputError(f"MLflow at {uri}: {(str(error).splitlines() or [''])[0]}") from error


def _experiment(client: Any, name: str) -> str:
    found = client.get_experiment_by_name(name)
    return str(found.experiment_id if found is not None else client.create_experiment(name))


def _present(client: Any, experiment: str, row: HistoryRow) -> bool:
    return bool(client.search_runs([experiment], filter_string=f"tags.`{ID_TAG}` = '{row.id}'", max_results=1))


def _write(client: Any, experiment: str, row: HistoryRow, history: History) -> None:
    started = int(datetime.fromisoformat(row.started).timestamp() * 1000)
    tags = {ID_TAG: row.id, "modelport.kind": row.kind, "modelport.verdict": row.verdict, "modelport.place": row.place}
    tags |= {"modelport.machine": row.machine}
    run = client.create_run(
        experiment,
        start_time=started,
        run_name=f"{row.name} {row.short}",
        tags={name: value[:_LONGEST_TAG] for name, value in tags.items() if value is not None},
    )
    number = run.info.run_id
    try:
        client.log_param(number, "name", row.name)
        client.log_param(number, "model", row.model or "")
        for name, value in metrics(row).items():
            client.log_metric(number, name, value, timestamp=started)
        document = history.entry(row.id).jsonable()
        client.log_text(number, json.dumps(document, indent=1, ensure_ascii=False), "entry.json")
    except BaseException:
        client.delete_run(number)  # no half of an entry, which would count as there
        raise
    client.set_terminated(number, status="FINISHED" if row.verdict != "failed" else "FAILED")


def metrics(row: HistoryRow) -> dict[str, float]:
    """An entry's figures by MLflow's names: `TARGET/top1`, `CONFIGURATION/images_per_s`, `CONFIGURATION/median_ms`."""
    found: dict[str, float | None] = {}
    for item in row.accuracies:
        found |= {
            f"{item.target}/top1": item.top1,
            f"{item.target}/top5": item.top5,
            f"{item.target}/e2e_images_per_s": item.e2e,
        }
    for speed in row.speeds:
        found[f"{speed.configuration}/images_per_s"] = speed.throughput
        found[f"{speed.configuration}/median_ms"] = speed.median_ms
    return {_NAME.sub(" ", name): value for name, value in found.items() if value is not None}
