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
_LONGER = {"Offline": "expect more images a second", "Server": "ask for more queries a second"}
_AGAIN = "the model became faster after the warmup: run it again"
_PERCENTILES = ("50.00", "90.00", "95.00", "97.00", "99.00", "99.90")


class DetailLog:
    """The records of `mlperf_log_detail.txt`; of several with one key, the last."""

    def __init__(self, path: Path) -> None:
        """Read it.

        Raises:
            FormatError: it cannot be read, or is not LoadGen's.
        """
        self._path, self._values = path, dict[str, Any]()
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

    def number(self, key: str) -> float:
        """A record's value as a number.

        Raises:
            FormatError: there is none.
        """
        value = self.get(key)
        try:
            if not isinstance(value, bool | None):
                return float(value)
        except (TypeError, ValueError, OverflowError):
            pass
        raise FormatError(
            f"{self._path}: has no number under {key!r}; it is damaged, or of a LoadGen that writes other logs (6.0 is known)"
        )

    def summary(self, scenario: Scenario) -> dict[str, Any]:
        """Those fields of a result that LoadGen tells.

        Raises:
            FormatError: a number is missing that belongs to the scenario.
        """
        performance = self.valid is not None
        queries = int(self.number("result_query_count")) if performance else None
        return {
            "loadgen_version": printable(str(self.get("loadgen_version"))),
            "valid": self.valid,
            "reasons": tuple(self.reasons(scenario)),
            "errors": tuple(self.errors),
            "figure": self.figure(scenario),
            "queries": queries,
            "samples": queries and queries * int(self.number("effective_samples_per_query")),
            "latency_ms": self.latencies_ms(scenario) if performance else {},
            "settings": self.settings,
        }

    @property
    def valid(self) -> bool | None:
        """LoadGen's verdict; None of an accuracy run."""
        found = self.get("result_validity")
        return None if found is None else found == "VALID"

    @property
    def settings(self) -> dict[str, bool | int | float | str]:
        """The effective settings, without the prefix."""
        start = "effective_"
        known = {key.removeprefix(start): value for key, value in self._values.items() if key.startswith(start)}
        return {key: value for key, value in known.items() if isinstance(value, bool | int | float | str)}

    def latencies_ms(self, scenario: Scenario) -> dict[str, float]:
        """Least, mean, most, and percentiles: of a query in MultiStream, of a sample elsewhere."""
        of_query, query = ("_per_query", "_query") if scenario == "MultiStream" else ("", "")
        keys = {name: f"result_{name}{query}_latency_ns" for name in ("min", "mean", "max")}
        keys |= {f"p{float(p):g}": f"result_{p}_percentile{of_query}_latency_ns" for p in _PERCENTILES}
        return {name: self.number(key) / 1e6 for name, key in keys.items() if self.get(key) is not None}

    def figure(self, scenario: Scenario) -> LoadGenFigure | None:
        """What the scenario measures. Of the percentiles, LoadGen's early-stopping estimate where it makes one."""
        if self.valid is None:
            return None
        if scenario == "Offline":
            return LoadGenFigure(name="throughput", value=self.number("result_samples_per_second"), unit="samples/s")
        if scenario == "Server":
            value = self.number("result_completed_samples_per_sec")
            return LoadGenFigure(name="queries completed", value=value, unit="queries/s")
        percentile = self._percentile
        name = f"{percentile:g}th percentile of latency"
        key = "early_stopping_latency_ss" if scenario == "SingleStream" else "early_stopping_latency_ms"
        if self.get(key):
            value = self.number(key) / 1e6
            return LoadGenFigure(name=f"{name} (early stopping estimate)", value=value, unit="ms")
        return LoadGenFigure(name=name, value=self._latency_ms(scenario), unit="ms")

    @property
    def _percentile(self) -> float:
        return round(self.number("effective_target_latency_percentile") * 100, 2)

    def _latency_ms(self, scenario: Scenario) -> float:
        """Latency at the percentile that is asked for."""
        of_query = "_per_query" if scenario == "MultiStream" else ""
        return self.number(f"result_{self._percentile:.2f}_percentile{of_query}_latency_ns") / 1e6

    def reasons(self, scenario: Scenario) -> list[str]:
        """Why a run is not valid, with the numbers that were needed; empty of one that is."""
        if self.valid is not False:
            return []
        found = []
        late = self.get("result_perf_constraints_met") is False
        if late:
            found.append(
                f"{self._percentile:g} % of the queries took up to {self._latency_ms(scenario):,.2f} ms, the bound is "
                f"{self.number('effective_target_latency_ns') / 1e6:g} ms: ask for fewer queries a second"
            )
        if self.get("result_min_duration_met") is False:
            least = self.number("effective_min_duration_ms") / 1000
            found.append(f"it ended before {least:g} s, the least that is asked for: {_LONGER.get(scenario, _AGAIN)}")
        if self.get("result_min_queries_met") is False:
            least = self.number("effective_min_query_count")
            answered = self.number("result_query_count")
            found.append(f"{answered:,.0f} queries were answered, at least {least:,.0f} are asked for")
        if self.get("early_stopping_met") is False and not late:  # with too many late ones, more queries would not help
            told = printable(" ".join(str(self.get("early_stopping_result") or "").replace(" * ", " ").split()))
            found.append(f"too few queries for the percentile to be sure; LoadGen: {told}")
        return found or [printable(str(self.get("result_invalid_reason") or "LoadGen does not say why").strip())]
