"""LoadGen's detailed log, read: a JSON record in each line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..errors import FormatError
from ..printable import printable
from ..results import LoadGenFigure, Scenario
from ..schema import JSON_ERRORS, read_text

DETAIL, ACCURACY = "mlperf_log_detail.txt", "mlperf_log_accuracy.json"
_MARK = ":::MLLOG "
_PERCENTILES = ("50.00", "90.00", "95.00", "97.00", "99.00", "99.90")


class DetailLog:
    """The records of `mlperf_log_detail.txt`; of several with one key, the last."""

    def __init__(self, path: Path) -> None:
        """Read it.

        Raises:
            FormatError: it cannot be read, or is not LoadGen's.
        """
        self._values: dict[str, Any] = {}
        self.errors: list[str] = []
        for line in read_text(path).splitlines():
            if not line.startswith(_MARK):
                continue
            try:
                record = json.loads(line.removeprefix(_MARK))
                key, value, is_error = record["key"], record["value"], record["metadata"]["is_error"]
            except (*JSON_ERRORS, LookupError, TypeError) as error:
                raise FormatError(f"{path}: a line of it is not a record of LoadGen's: {error}") from error
            self._values[key] = value
            if is_error:
                self.errors.append(printable(" ".join(str(value).split())))
        if "loadgen_version" not in self._values:
            raise FormatError(f"{path}: is not a log of LoadGen's")

    def get(self, key: str) -> Any:
        """A record's value; None where there is none."""
        return self._values.get(key)

    @property
    def version(self) -> str:
        """LoadGen's version and commit."""
        return str(self.get("loadgen_version"))

    @property
    def valid(self) -> bool | None:
        """LoadGen's verdict; None of an accuracy run."""
        found = self.get("result_validity")
        return None if found is None else found == "VALID"

    @property
    def settings(self) -> dict[str, Any]:
        """The effective settings, without the prefix."""
        start = "effective_"
        return {key.removeprefix(start): value for key, value in self._values.items() if key.startswith(start)}

    @property
    def samples(self) -> int | None:
        """Samples that were answered."""
        queries = self.get("result_query_count")
        return queries * self.get("effective_samples_per_query") if queries is not None else None

    def latencies_ms(self, scenario: Scenario) -> dict[str, float]:
        """Least, mean, most, and percentiles: of a query in MultiStream, of a sample elsewhere."""
        of_query, query = ("_per_query", "_query") if scenario == "MultiStream" else ("", "")
        keys = {name: f"result_{name}{query}_latency_ns" for name in ("min", "mean", "max")}
        keys |= {f"p{float(p):g}": f"result_{p}_percentile{of_query}_latency_ns" for p in _PERCENTILES}
        return {name: value / 1e6 for name, key in keys.items() if (value := self.get(key)) is not None}

    def figure(self, scenario: Scenario) -> LoadGenFigure | None:
        """What the scenario measures. Of the percentiles, LoadGen's early-stopping estimate where it makes one."""
        if self.valid is None:
            return None
        if scenario == "Offline":
            return LoadGenFigure(name="throughput", value=self.get("result_samples_per_second"), unit="samples/s")
        if scenario == "Server":
            value = self.get("result_completed_samples_per_sec")
            return LoadGenFigure(name="queries completed", value=value, unit="queries/s")
        percentile = round(self.get("effective_target_latency_percentile") * 100, 2)
        name = f"{percentile:g}th percentile of latency"
        estimate = self.get("early_stopping_latency_ss" if scenario == "SingleStream" else "early_stopping_latency_ms")
        if estimate:
            return LoadGenFigure(name=f"{name} (early stopping estimate)", value=estimate / 1e6, unit="ms")
        return LoadGenFigure(name=name, value=self.latencies_ms(scenario)[f"p{percentile:g}"], unit="ms")

    def reasons(self, scenario: Scenario) -> list[str]:
        """Why a run is not valid, with the numbers that were needed; empty of one that is."""
        if self.valid is not False:
            return []
        found, settings = [], self.settings
        if self.get("result_perf_constraints_met") is False:
            percentile, bound = settings["target_latency_percentile"] * 100, settings["target_latency_ns"] / 1e6
            reached = self.latencies_ms(scenario).get(f"p{percentile:g}", float("nan"))
            found.append(
                f"{percentile:g} % of the queries took up to {reached:,.2f} ms, the bound is {bound:g} ms: ask for fewer queries a second"
            )
        if self.get("result_min_duration_met") is False:
            hint = {"Offline": "expect more images a second", "Server": "ask for more queries a second"}.get(
                scenario, "the model became faster after the warmup: run it again"
            )
            found.append(
                f"it ended before {settings['min_duration_ms'] / 1000:g} s, the least that is asked for: {hint}"
            )
        if self.get("result_min_queries_met") is False:
            found.append(
                f"{self.get('result_query_count'):,} queries were answered, at least {settings['min_query_count']:,} are asked for"
            )
        if self.get("early_stopping_met") is False:
            told = str(self.get("early_stopping_result") or "").replace(" * ", " ")
            found.append(f"too few queries for the percentile to be sure; LoadGen: {' '.join(told.split())}")
        return found or [str(self.get("result_invalid_reason") or "LoadGen does not say why").strip()]
