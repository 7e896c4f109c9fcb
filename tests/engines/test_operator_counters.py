"""Operator counters of every engine that has some: all of the network, once, with its shapes, its origin and its time."""

from __future__ import annotations

import csp
import models
import numpy as np
import pytest

from modelport import engines
from modelport.engines.onnxruntime_trace import read_trace
from modelport.engines.session import SessionOptions
from modelport.errors import InferenceError
from modelport.graph.source import SOURCE_FILE, SourceGraph
from modelport.spec import Precision

ENGINES = ["onnxruntime", "openvino"]
COUNTING = SessionOptions(profile=True)


@pytest.fixture(scope="module")
def times(csp_model):
    """`times(engine)`: one block of four rounds of the small network."""
    found = {}

    def profile(engine):
        if engine not in found:
            with engines.open_model(csp_model(engine), COUNTING) as session:
                found[engine] = session.profile(session.random_batch(), warmup=2, rounds=4)
        return found[engine]

    return profile


@pytest.mark.parametrize("engine", ENGINES)
def test_each_computing_node_is_in_one_operator(times, engine):
    operators = times(engine).operators
    sources = [name for operator in operators for name in operator.source]

    assert len(set(sources)) == len(sources)
    assert set(csp.NODES) - set(sources) <= {"Flatten_15"}  # changes no byte: not executed, or a Reshape
    for operator in operators:
        assert len(operator.source_types) == len(operator.source)
    fused = next(operator for operator in operators if "Conv_5" in operator.source)
    assert fused.source == ("Conv_5", "LeakyRelu_6")
    assert fused.source_types == ("Conv", "LeakyRelu")


@pytest.mark.parametrize("engine", ENGINES)
def test_operators_have_names_tensors_and_the_executed_precision(times, engine):
    operators = times(engine).operators
    names = [operator.name for operator in operators]
    conv = next(operator for operator in operators if "Conv_7" in operator.source)

    assert len(set(names)) == len(names)
    assert conv.precision is Precision.F32
    assert conv.inputs[0].shape == conv.outputs[0].shape == (2, 32, 32, 32)
    assert conv.weight is not None
    assert conv.weight.elements == 32 * 4 * 9
    assert conv.kernel
    assert {operator.precision for operator in operators} <= {Precision.F32, None}


@pytest.mark.parametrize("engine", ENGINES)
def test_the_dataflow_leads_from_the_first_operator_to_the_last(times, engine):
    operators = times(engine).operators
    seen: set[str] = set()
    for operator in operators:
        assert operator.reads is not None
        assert set(operator.reads) <= seen, "an operator reads what is executed later"
        seen.add(operator.name)
    read = {name for operator in operators for name in operator.reads or ()}
    assert [operator.name for operator in operators if operator.name not in read] == [operators[-1].name]
    split = next(operator for operator in operators if "Split_4" in operator.source)
    assert sum(split.name in (operator.reads or ()) for operator in operators) >= 2


@pytest.mark.parametrize("engine", ENGINES)
def test_times_are_of_the_rounds_that_were_asked_for(times, engine):
    found = times(engine)

    assert len(found.latencies_s) == 4
    assert found.durations_us.shape in [(4, len(found.operators)), (1, len(found.operators))]
    assert (found.durations_us >= 0).all()
    assert found.durations_us.sum() > 0


@pytest.mark.parametrize("engine", ENGINES)
def test_operators_gaps_and_counters_make_up_a_round(csp_model, engine):
    """Of the same rounds, and the least disturbed block. Where the engine tells no gaps, they are missing from the sum."""
    with engines.open_model(csp_model(engine), COUNTING) as session:
        ratios = []
        for _ in range(5):
            found = session.profile(session.random_batch(), warmup=2, rounds=10)
            inside = found.durations_us.sum(axis=1).mean() + found.counter_us * len(found.operators)
            gaps = 0.0 if found.gaps_us is None else found.gaps_us.sum(axis=1).mean()
            ratios.append((inside + gaps) / (np.mean(found.latencies_s) * 1e6))

    assert (0.85 if engine == "onnxruntime" else 0.3) < max(ratios) <= 1.05  # rounds of half a millisecond


@pytest.mark.parametrize("engine", ENGINES)
def test_a_second_block_begins_afresh(csp_model, engine):
    with engines.open_model(csp_model(engine), COUNTING) as session:
        batch = session.random_batch()
        first, second = (session.profile(batch, warmup=1, rounds=2) for _ in range(2))
        scores = session.infer(batch)

    assert [operator.name for operator in first.operators] == [operator.name for operator in second.operators]
    with engines.open_model(csp_model(engine)) as plain:
        np.testing.assert_allclose(scores, plain.infer(batch), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("engine", ENGINES)
def test_the_offline_model_keeps_the_graph_it_came_from(csp_model, engine):
    model = csp_model(engine)

    assert tuple(SourceGraph.read(model.file(SOURCE_FILE)).nodes) == csp.NODES


@pytest.mark.parametrize("engine", ENGINES)
def test_pixels_as_input_have_their_layout(tiny_onnx, require_engine, tmp_path, engine):
    from modelport.engines.base import CompileOptions
    from modelport.engines.compiler import compile_model

    require_engine(engine)
    model = compile_model(tiny_onnx, tmp_path / "m", engine=engine, options=CompileOptions(input_dtype="uint8"))
    with engines.open_model(model, COUNTING) as session:
        operators = session.profile(session.random_batch(), warmup=1, rounds=1).operators

    first = operators[0]
    assert (first.inputs[0].shape, first.inputs[0].layout, first.inputs[0].dtype) == ((1, *models.SIZE), "NHWC", "u8")


def test_an_engine_without_counters_is_refused(compiled):
    with pytest.raises(
        InferenceError, match=r"the null engine has no operator counters; compile it for an engine that has"
    ):
        engines.open_model(compiled("null"), COUNTING)


@pytest.mark.parametrize("engine", ENGINES)
def test_wrong_use_is_refused(csp_model, engine):
    with engines.open_model(csp_model(engine)) as session:
        with pytest.raises(InferenceError, match="was opened without counters"):
            session.profile(session.random_batch())
    with engines.open_model(csp_model(engine), COUNTING) as session:
        with pytest.raises(InferenceError, match="got float32 1x3x32x32, expected float32 2x3x32x32"):
            session.profile(np.zeros((1, 3, 32, 32), np.float32))
        with pytest.raises(ValueError, match="warmup and rounds must be at least 1, got 0 and 5"):
            session.profile(session.random_batch(), warmup=0)
    with pytest.raises(InferenceError, match="the session is closed"):
        session.profile(session.random_batch())


def test_operators_are_timed_in_one_stream():
    with pytest.raises(ValueError, match="profile takes one stream and one device"):
        SessionOptions(profile=True, streams=2)


@pytest.mark.parametrize("text", ["", "{", "[]", '[{"name": "model_run", "ts": 0, "dur": 5}]', '[{"ts": 1}]'])
def test_a_trace_without_operators_is_an_error(tmp_path, text):
    (tmp_path / "trace.json").write_text(text)

    with pytest.raises(InferenceError, match="ONNX Runtime's profile"):
        read_trace(tmp_path / "trace.json", 0)


def test_operators_inside_another_are_part_of_it(tmp_path):
    (tmp_path / "trace.json").write_text(
        '[{"name": "model_run", "ts": 10, "dur": 100},'
        '{"name": "if_kernel_time", "ts": 12, "dur": 40}, {"name": "inner_kernel_time", "ts": 20, "dur": 10},'
        '{"name": "gemm_kernel_time", "ts": 55, "dur": 5}]'
    )

    trace = read_trace(tmp_path / "trace.json", 0)

    assert trace.durations_us.tolist() == [[40.0, 5.0]]
    assert trace.gaps_us.tolist() == [[2.0, 3.0]]
