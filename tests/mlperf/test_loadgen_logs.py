"""LoadGen's logs, read: the verdict with its reasons, and the answers of an accuracy run."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from modelport.data.source import Sample, Source
from modelport.errors import FormatError
from modelport.mlperf.answers import ANSWER, encode, read_answers
from modelport.mlperf.logs import DetailLog

SOURCE = Source("here", tuple(Sample(f"{name}.png", Path(f"{name}.png")) for name in "ab"))


def detail(tmp_path, **records: object) -> DetailLog:
    records = {"loadgen_version": "6.0.17 @ abc", **records}
    lines = ["a line that is none of theirs\n"]
    for key, value in records.items():
        is_error = key.startswith("error")
        record = {"key": key, "value": value, "metadata": {"is_error": is_error, "is_warning": False}}
        lines.append(f":::MLLOG {json.dumps(record)}\n")
    (tmp_path / "detail.txt").write_text("".join(lines))
    return DetailLog(tmp_path / "detail.txt")


def test_a_valid_run(tmp_path):
    log = detail(
        tmp_path, result_validity="VALID", result_query_count=3, effective_samples_per_query=8,
        effective_target_latency_percentile=0.99, early_stopping_latency_ms=4_000_000,
        result_min_query_latency_ns=1_000_000, **{"result_99.00_percentile_per_query_latency_ns": 3_500_000},
    )  # fmt: skip
    summary = log.summary("MultiStream")
    told = [summary[name] for name in ("valid", "queries", "samples", "loadgen_version", "reasons")]
    assert told == [True, 3, 24, "6.0.17 @ abc", ()]
    assert summary["latency_ms"] == {"min": 1.0, "p99": 3.5}
    assert summary["settings"] == {"samples_per_query": 8, "target_latency_percentile": 0.99}
    figure = summary["figure"]
    assert (figure.name, figure.value) == ("99th percentile of latency (early stopping estimate)", 4.0)


def test_where_there_is_no_estimate_the_percentile_is_told(tmp_path):
    log = detail(
        tmp_path, result_validity="INVALID", effective_target_latency_percentile=0.9, early_stopping_latency_ss=0,
        early_stopping_met=False, early_stopping_result=" * Only processed 3 queries.  * Need 64.",
        **{"result_90.00_percentile_latency_ns": 2_000_000},
    )  # fmt: skip
    figure = log.figure("SingleStream")
    assert (figure.name, figure.value) == ("90th percentile of latency", 2.0)
    assert log.reasons("SingleStream") == [
        "too few queries for the percentile to be sure; LoadGen: Only processed 3 queries. Need 64."
    ]


def test_each_reason_has_its_numbers(tmp_path):
    log = detail(
        tmp_path, result_validity="INVALID", result_perf_constraints_met=False, result_min_duration_met=False,
        result_min_queries_met=False, result_query_count=5, effective_min_query_count=100, effective_min_duration_ms=2000,
        effective_target_latency_percentile=0.99, effective_target_latency_ns=15_000_000, early_stopping_met=False,
        error_runtime="ran\nout", **{"result_99.00_percentile_latency_ns": 20_000_000},
    )  # fmt: skip
    assert log.errors == ["ran out"]
    assert log.reasons("Server") == [
        "99 % of the queries took up to 20.00 ms, the bound is 15 ms: ask for fewer queries a second",
        "it ended before 2 s, the least that is asked for: ask for more queries a second",
        "5 queries were answered, at least 100 are asked for",
    ]


def test_a_verdict_without_a_reason_we_know_is_told_in_loadgens_words(tmp_path):
    log = detail(tmp_path, result_validity="INVALID", result_invalid_reason="The moon was full. ")
    assert log.reasons("Offline") == ["The moon was full."]


@pytest.mark.parametrize("text", ["", "nothing", ":::MLLOG {", ':::MLLOG {"key": "a"}', ":::MLLOG 7"])
def test_what_is_no_log(tmp_path, text):
    (tmp_path / "detail.txt").write_text(text)
    with pytest.raises(FormatError, match=r"detail\.txt: (is not a log of LoadGen's|a line of it is not a record)"):
        DetailLog(tmp_path / "detail.txt")


@pytest.mark.parametrize("value", [None, True, "many", [1], 10**400], ids=str)
def test_a_number_that_is_missing_is_named(tmp_path, value):
    log = detail(tmp_path, result_validity="VALID", result_query_count=value)
    with pytest.raises(
        FormatError, match=r"detail\.txt: has no number under 'result_query_count'; it is damaged, or of a"
    ):
        log.summary("Offline")


def test_an_accuracy_run_has_no_figures(tmp_path):
    summary = detail(tmp_path, effective_scenario="Offline").summary("Offline")
    assert (summary["valid"], summary["figure"], summary["queries"], summary["latency_ms"]) == (None, None, None, {})


# -- answers


def accuracy_log(tmp_path, scores: np.ndarray, places: list[int]) -> Path:
    entries = [
        {"seq_id": row, "qsl_idx": place, "data": answer.tobytes().hex().upper()}
        for row, (place, answer) in enumerate(zip(places, encode(scores), strict=True))
    ]
    (tmp_path / "accuracy.json").write_text(json.dumps(entries))
    return tmp_path / "accuracy.json"


def test_answers_come_back_in_the_sources_order(tmp_path):
    scores = np.array([[0, 1, 2, 3, 4, 5], [9, 8, 7, 6, 5, 4], [0, 0, 0, 0, 0, 1]], np.float32)
    first, second = read_answers(accuracy_log(tmp_path, scores, [1, 0, 1]), SOURCE)  # place 1 was asked twice
    assert (first.sample.key, first.top.tolist(), first.top_scores.tolist()) == (
        "a.png",
        [0, 1, 2, 3, 4],
        [9, 8, 7, 6, 5],
    )
    assert (second.sample.key, second.top.tolist(), second.error) == ("b.png", [5, 4, 3, 2, 1], None)
    assert ANSWER.itemsize == 40


def test_fewer_classes_than_five_and_scores_that_are_none(tmp_path):
    scores = np.array([[1, 3, 2], [1, np.nan, 2]], np.float32)
    first, second = read_answers(accuracy_log(tmp_path, scores, [0, 1]), SOURCE)
    assert (first.top.tolist(), first.top_scores.tolist()) == ([1, 2, 0], [3, 2, 1])
    assert (second.top.size, second.error) == (
        0,
        "the model answered with scores that are not finite (NaN or infinity)",
    )


def test_the_first_four_bytes_are_the_class_as_mlcommons_script_reads_it():
    (answer,) = encode(np.array([[0, 0, 7]], np.float32))
    assert np.frombuffer(answer.tobytes(), np.int32)[0] == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[{"qsl_idx": 0, "data": "00"}]', "the answer to image 0 has 1 bytes, expected 40"),
        ('[{"qsl_idx": 0, "data": "xy"}]', "is not LoadGen's accuracy log: ValueError"),
        ('[{"data": "00"}]', "is not LoadGen's accuracy log: KeyError"),
        ("[7]", "is not LoadGen's accuracy log: TypeError"),
        ("[", "not valid JSON"),
        ("[]", r"holds no answer to 2 of 2 images \(first: a\.png\)"),
    ],
)
def test_a_damaged_accuracy_log(tmp_path, text, message):
    (tmp_path / "accuracy.json").write_text(text)
    with pytest.raises(FormatError, match=message):
        list(read_answers(tmp_path / "accuracy.json", SOURCE))
