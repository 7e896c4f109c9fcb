"""Export to MLflow: to a real tracking directory where MLflow is installed, and one line where it is not."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import histories
import pytest
from histories import bench_entry, steady

from modelport.errors import EngineUnavailableError, OutputError
from modelport.history.mlflow import export_to_mlflow, metrics
from modelport.history.record import of_run
from modelport.history.store import History, open_history
from modelport.history.wanted import Wanted


@pytest.fixture
def history(tmp_path: Path):
    run, _ = of_run(histories.run(latencies=[steady(4e-3)], passed=False), tmp_path)
    with open_history(tmp_path / "h.db", create=True) as found:
        found.add(bench_entry(steady(4e-3), started="2026-11-26T08:00:00+00:00"))
        found.add(run)
        yield found


@pytest.fixture
def uri(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    pytest.importorskip(
        "mlflow", reason="MLflow is not installed: pip install 'modelport[mlflow]'", exc_type=ImportError
    )
    monkeypatch.setenv(
        "MLFLOW_ALLOW_FILE_STORE", "true"
    )  # newer versions want a database, which is in the whole mlflow only
    return (tmp_path / "mlruns").as_uri()


@pytest.mark.filterwarnings("ignore::FutureWarning:mlflow", "ignore::DeprecationWarning", "ignore::UserWarning:mlflow")
class TestInstalled:
    def test_each_entry_is_a_run_once(self, history: History, uri: str) -> None:
        from mlflow import MlflowClient

        first = export_to_mlflow(history, Wanted(), uri=uri, experiment="ours")
        assert (len(first.exported), first.present) == (2, 0)
        again = export_to_mlflow(history, Wanted(), uri=uri, experiment="ours")
        assert (again.exported, again.present) == ((), 2)

        client = MlflowClient(tracking_uri=uri)
        runs = client.search_runs([client.get_experiment_by_name("ours").experiment_id])
        by_kind = {run.data.tags["modelport.kind"]: run for run in runs}
        assert set(by_kind) == {"run", "bench"}
        run = by_kind["run"]
        assert run.data.tags["modelport.id"] == first.exported[1]
        assert run.data.metrics["null-f32/top1"] == pytest.approx(0.9)
        assert run.data.metrics["null-f32  batch 1/median_ms"] == pytest.approx(4.0, rel=1e-3)
        assert run.info.status == "FAILED"  # its gate did
        assert run.data.params["model"] == "tiny"
        artifact = client.download_artifacts(run.info.run_id, "entry.json")
        assert json.loads(Path(artifact).read_text(encoding="utf-8"))["kind"] == "run"

    def test_a_place_that_cannot_be(self, history: History, uri: str) -> None:
        with pytest.raises(OutputError, match="MLflow at nonsense://x: "):
            export_to_mlflow(history, Wanted(), uri="nonsense://x")


def test_without_mlflow_one_line_says_what_to_install(history: History, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(EngineUnavailableError, match=r"MLflow is not installed: pip install 'modelport\[mlflow\]'"):
        export_to_mlflow(history, Wanted(), uri="file:/nowhere")


def test_figures_by_names_that_mlflow_takes(history: History) -> None:
    names = [name for row in history.rows() for name in metrics(row)]
    assert "null-f32/e2e_images_per_s" in names
    assert all(set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789_-. /") for name in names)
