"""`optimize`: what is written, what is proven, how it is decided, and what is refused."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import models
import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from PIL import Image
from rewritable import PREPROCESS, SPEC, small, timing

pytest.importorskip("onnxscript", reason="onnxscript is not installed: pip install 'modelport[optimize]'")
pytest.importorskip("onnxruntime", reason="ONNX Runtime is not installed")

import onnx_ir

from modelport.engines.base import CompileOptions
from modelport.engines.compiler import compile_model
from modelport.engines.null import FAULT
from modelport.errors import CompileError, DataError, FormatError, InferenceError, OutputError
from modelport.files import digest
from modelport.graph import passes, read_classifier
from modelport.graph.passes.split_convolutions import SplitConvolutions
from modelport.measure import rewrites
from modelport.measure.equality import Equality, samples_for
from modelport.measure.optimize import OptimizeOptions, optimize, record_path
from modelport.measure.paired import TurnOptions
from modelport.results import OptimizationResult, PairedTiming
from modelport.spec import Precision

QUICK = TurnOptions(rounds=6, seconds=0, processes=2)
BY_RULE = ["fold_normalization", "simplify", "split_convolutions"]


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    """The small classifier. Not to be written to."""
    return models.save(small(), tmp_path_factory.mktemp("source") / "small.onnx")


@pytest.fixture
def pretended(monkeypatch) -> list[tuple[str, str]]:
    """Timings without a clock: files 3 and 4 win by 5 %, file 6 does the first time, everything else is noise."""
    asked = []

    def pretend(before: Path, after: Path, options: TurnOptions) -> PairedTiming:
        asked.append((before.name, after.name))
        wins = after.name in "34" or (after.name == "6" and asked.count(asked[-1]) == 1)
        return timing(1.05, 0.01) if wins else timing(1.01, 0.03)

    monkeypatch.setattr(rewrites, "time_in_turn", pretend)
    monkeypatch.setattr(rewrites, "compile_model", lambda onnx, output, **_: SimpleNamespace(path=output))
    return asked


def outcomes(result: OptimizationResult) -> dict[str, str]:
    return {decision.name: decision.outcome for decision in result.decisions}


@pytest.mark.parametrize("target", ["ascend", "null", "openvino"])
def test_by_rule(source, tmp_path, target, require_engine):
    result = optimize(source, tmp_path / "out.onnx", options=OptimizeOptions(target=target, measure=target == "ascend"))

    assert result.kept == tuple(BY_RULE)
    assert set(outcomes(result).values()) == {"kept", "rejected"}
    assert result.decisions[3].reason == "trades one cost for another: not applied unmeasured, unless --passes names it"
    assert (result.measured, result.engine_version, result.total) == (False, None, None)
    assert ("cannot measure Ascend" in result.basis) == (target == "ascend")
    assert result.operators_before["Split"] == 1
    assert {"Split", "Identity", "BatchNormalization"} & set(result.operators_after) == set()
    assert result.precision == ("fp16" if target == "ascend" else "f32")


def test_what_is_written_is_the_same_classifier(source, tmp_path):
    result = optimize(source, tmp_path / "out.onnx", options=OptimizeOptions(target="ascend"))

    before, after = read_classifier(source), read_classifier(tmp_path / "out.onnx")
    assert (after.spec, after.opset, after.batch_size, after.num_classes) == (SPEC, 11, None, 6)
    assert (after.input_name, after.output_name) == (before.input_name, before.output_name)
    assert {entry.key: entry.value for entry in onnx.load(tmp_path / "out.onnx").metadata_props}["theirs"] == "kept"
    assert result.output_sha256 == digest(tmp_path / "out.onnx") != result.source_sha256 == digest(source)
    assert record_path(tmp_path / "out.onnx") == tmp_path / "out.optimization.json"
    assert OptimizationResult.read(tmp_path / "out.optimization.json") == result
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.onnx", "out.optimization.json"]
    model = compile_model(tmp_path / "out.onnx", tmp_path / "compiled", engine="onnxruntime", options=CompileOptions())
    assert model.manifest.model == SPEC


def test_every_kept_rewrite_is_proven_against_the_source(source, tmp_path):
    options = OptimizeOptions(target="ascend", passes=[*passes.names()[:-1], "merge_groups:16"])

    result = optimize(source, tmp_path / "out.onnx", options=options)

    assert len(result.kept) == 5
    for decision in result.decisions:
        assert decision.parity.against == "small.onnx"
        assert decision.parity.samples == result.noise_samples == 8
        assert decision.parity.relative_error <= result.tolerance == 1e-5
        assert decision.parity.scale > 0.1
        assert decision.operators_before != decision.operators_after or decision.name == "merge_groups:16"
    graph = read_classifier(source)
    proof = Equality(graph, samples_for((3, 12, 10))).prove(tmp_path / "out.onnx")
    assert proof.relative_error == result.decisions[-1].parity.relative_error


def test_real_images_are_proven_on_too(source, tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    for number in range(20):
        Image.fromarray(np.full((20, 20, 3), number * 12, np.uint8)).save(folder / f"{number}.png")

    result = optimize(source, tmp_path / "out.onnx", options=OptimizeOptions(target="ascend", images=folder))

    assert (result.images, result.decisions[0].parity.samples) == (16, 24)
    samples = samples_for((3, 12, 10), folder, PREPROCESS)
    assert np.array_equal(samples, samples_for((3, 12, 10), folder, PREPROCESS))
    assert len({float(sample.mean()) for sample in samples}) == 24
    (folder / "3.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"3\.png: cannot be used for the proof: "):
        samples_for((3, 12, 10), folder, PREPROCESS)


def test_kept_where_it_wins(source, tmp_path, pretended):
    result = optimize(source, tmp_path / "out.onnx", options=OptimizeOptions(target="null"))

    expected = dict.fromkeys((choice.graph_pass.label for choice in passes.select()), "rejected")
    expected |= {"split_convolutions": "kept", "sum_concat_convolution": "kept"}
    assert outcomes(result) == expected
    # Each is timed against what was kept before it, what wins once more; at the end, all together against the source.
    assert pretended == [
        ("source", "1"), ("source", "2"), *[("source", "3")] * 2, *[("3", "4")] * 2, ("4", "5"), *[("4", "6")] * 2, ("4", "7"),
        ("source", "4"),
    ]  # fmt: skip
    decisions = {decision.name: decision for decision in result.decisions}
    assert decisions["simplify"].reason == "within noise"
    assert decisions["split_convolutions"].reason == "faster, confirmed by a second timing"
    assert decisions["split_convolutions"].timing.ratio == pytest.approx(1.05)
    assert (len(decisions["split_convolutions"].timing.ratios), decisions["split_convolutions"].timing.processes) == (
        24,
        4,
    )
    assert decisions["merge_groups:16"].reason == "faster at first, within noise when timed again"
    assert result.total.ratio == pytest.approx(1.05)
    kinds = {node.op_type for node in onnx.load(tmp_path / "out.onnx").graph.node}
    assert not {"Split", "Concat"} & kinds
    assert {"BatchNormalization", "Identity"} <= kinds


@pytest.mark.parametrize(
    ("ratio", "spread", "verdict"),
    [
        (1.05, 0.01, (True, "faster")),
        (1.05, 0.2, (False, "within noise")),
        (1.008, 0.001, (False, "faster by less than 1 %")),
        (0.9, 0.01, (False, "slower")),
        (1.0, 0.0, (False, "within noise")),
    ],
)
def test_the_rule(ratio, spread, verdict):
    assert rewrites.judge(timing(ratio, spread), 0.01) == verdict


def test_noise_around_the_truth_is_rarely_kept():
    """Pairs of the same model: the rule keeps at most 2.5 % of them, even without a least gain."""
    rng = np.random.default_rng(1)
    found = [
        PairedTiming(before_s=tuple(rng.lognormal(0, 0.05, 12)), after_s=tuple(rng.lognormal(0, 0.05, 12)), processes=2)
        for _ in range(400)
    ]

    assert sum(rewrites.judge(item, 0)[0] for item in found) <= 20
    assert any(rewrites.judge(item, 0)[0] for item in found)


def test_really_measured(source, tmp_path):
    """Every step for real; what wins depends on the machine, so nothing is asserted of it."""
    options = OptimizeOptions(target="onnxruntime", batch_size=2, passes=["split_convolutions"], turns=QUICK)

    result = optimize(source, tmp_path / "out.onnx", options=options)

    (decision,) = result.decisions
    assert decision.outcome in ("kept", "rejected")
    visits = decision.timing.processes // 2  # what wins at first is timed a second time
    assert visits in (1, 2)
    assert len(decision.timing.ratios) == 6 * visits
    assert decision.timing.processes == len(decision.timing.hygiene) == 2 * visits
    assert min(decision.timing.before_s + decision.timing.after_s) > 0
    assert result.measured
    assert (result.batch_size, result.rounds, result.environment.cores > 0) == (2, 6, True)
    assert (result.total is None) == (decision.outcome == "rejected")
    assert result.engine_version is not None


def test_nothing_kept_writes_the_source_as_it_was(source, tmp_path, monkeypatch):
    monkeypatch.setattr(rewrites, "time_in_turn", lambda *_: timing(0.95, 0.01))
    monkeypatch.setattr(rewrites, "compile_model", lambda onnx, output, **_: SimpleNamespace(path=output))

    result = optimize(source, tmp_path / "out.onnx", options=OptimizeOptions(target="null"))

    assert result.kept == ()
    assert {decision.reason for decision in result.decisions} == {"slower"}
    assert (tmp_path / "out.onnx").read_bytes() == source.read_bytes()
    assert result.output_sha256 == result.source_sha256


def test_an_optimised_graph_again(source, tmp_path):
    optimize(source, tmp_path / "once.onnx", options=OptimizeOptions(target="ascend"))

    result = optimize(
        tmp_path / "once.onnx", tmp_path / "twice.onnx", options=OptimizeOptions(target="ascend", passes=BY_RULE)
    )

    assert set(outcomes(result).values()) == {"not-applicable"}
    assert (tmp_path / "twice.onnx").read_bytes() == (tmp_path / "once.onnx").read_bytes()


def test_weights_in_another_file_are_written_into_the_output(tmp_path):
    model = small()
    tensor = next(tensor for tensor in model.graph.initializer if tensor.name == "stem")
    (tmp_path / "stem.bin").write_bytes(tensor.raw_data)
    onnx.external_data_helper.set_external_data(tensor, location="stem.bin")
    tensor.ClearField("raw_data")
    path = models.save(model, tmp_path / "outside.onnx")
    (tmp_path / "elsewhere").mkdir()

    for passes_ in (["split_convolutions"], ["merge_groups"]):  # kept, and not
        output = tmp_path / "elsewhere" / f"{passes_[0]}.onnx"
        result = optimize(path, output, options=OptimizeOptions(target="ascend", passes=passes_))
        assert result.output_sha256 == digest(output)
        assert Equality(read_classifier(path), samples_for((3, 12, 10))).prove(output).passed


def test_a_rewrite_that_computes_something_else_is_refuted(source, tmp_path, monkeypatch):
    """The proof can fail: one weight of a part is changed by 1 %."""
    rewrite = SplitConvolutions._rewrite

    def faulty(self, model):
        found = rewrite(self, model)
        weight = next(value for name, value in model.graph.initializers.items() if "part0" in name)
        array = weight.const_value.numpy().copy()
        array[np.unravel_index(np.abs(array).argmax(), array.shape)] *= 1.01
        weight.const_value = onnx_ir.tensor(array, name=weight.name)
        return found

    monkeypatch.setattr(SplitConvolutions, "_rewrite", faulty)

    result = optimize(source, tmp_path / "out.onnx", options=OptimizeOptions(target="ascend"))

    assert outcomes(result)["split_convolutions"] == "refuted"
    decision = result.decisions[2]
    assert not decision.parity.passed
    assert decision.reason.startswith("its scores differ from the original's by up to 0.0")
    assert decision.reason.endswith("of the largest score, tolerance 1e-05")
    assert result.operators_after["Split"] == 1


def test_a_rewrite_whose_graph_is_broken_is_refuted(source, tmp_path, monkeypatch):
    rewrite = SplitConvolutions._rewrite

    def faulty(self, model):
        model.metadata_props.clear()
        return rewrite(self, model)

    monkeypatch.setattr(SplitConvolutions, "_rewrite", faulty)

    result = optimize(source, tmp_path / "out.onnx", options=OptimizeOptions(target="ascend"))

    assert result.decisions[2].outcome == "refuted"
    assert result.decisions[2].reason == "split_convolutions changed the graph's metadata"


def test_a_batch_that_became_fixed_is_noticed(tmp_path):
    """The proof runs batches of 3 and of 1."""
    source = models.save(small(), tmp_path / "small.onnx")
    model = small()
    model.graph.node[-1].CopyFrom(helper.make_node("Reshape", ["p", "shape"], ["scores"]))
    model.graph.initializer.append(numpy_helper.from_array(np.array([3, 6]), "shape"))
    equality = Equality(read_classifier(source), samples_for((3, 12, 10)))

    with pytest.raises(InferenceError, match="ONNX Runtime failed"):
        equality.prove(models.save(model, tmp_path / "fixed.onnx"))


@pytest.mark.parametrize("fault", ["infer-signal:4", "infer-raise:2"])
def test_a_candidate_that_cannot_be_run(source, tmp_path, monkeypatch, fault):
    monkeypatch.setenv(FAULT, fault)
    options = OptimizeOptions(target="null", passes=["split_convolutions"], turns=QUICK)

    result = optimize(source, tmp_path / "out.onnx", options=options)

    (decision,) = result.decisions
    assert decision.outcome == "failed"
    assert ("SIGSEGV" if "signal" in fault else FAULT) in decision.reason
    assert result.output_sha256 == result.source_sha256


def test_a_fixed_batch(tmp_path):
    path = models.save(small(batch=4), tmp_path / "fixed.onnx")

    result = optimize(path, tmp_path / "out.onnx", options=OptimizeOptions(target="openvino", measure=False))

    assert (result.batch_size, result.decisions[0].parity.samples) == (4, 8)
    with pytest.raises(FormatError, match="its batch is fixed at 4, cannot compile it for 2"):
        optimize(path, tmp_path / "o.onnx", options=OptimizeOptions(target="openvino", measure=False, batch_size=2))


def test_a_file_without_a_spec(tmp_path):
    path = models.save(small(spec=None), tmp_path / "foreign.onnx")

    result = optimize(path, tmp_path / "out.onnx", options=OptimizeOptions(target="ascend"))

    assert (result.model, len(result.kept)) == (None, 3)
    with pytest.raises(FormatError, match=r"foreign\.onnx: carries no preprocessing"):
        optimize(path, tmp_path / "measured.onnx", options=OptimizeOptions(target="null"))
    options = OptimizeOptions(target="null", preprocess=PREPROCESS, passes=["sum_concat_convolution"], measure=False)
    assert optimize(path, tmp_path / "told.onnx", options=options).model.preprocess == PREPROCESS


REFUSED = {
    "int8": (
        OptimizeOptions(target="openvino", precision=Precision.INT8),
        CompileError,
        "holds float32 weights: optimise it at another --precision of OpenVINO, then compile the result",
    ),
    "a precision it lacks": (
        OptimizeOptions(target="onnxruntime", precision=Precision.BF16),
        CompileError,
        "ONNX Runtime does not offer bf16 here",
    ),
    "unknown pass": (
        OptimizeOptions(target="null", passes=["simplfy"]),
        ValueError,
        "no pass is called 'simplfy'; did you mean 'simplify'?",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(source, tmp_path, case):
    options, error, message = REFUSED[case]

    with pytest.raises(error, match=message):
        optimize(source, tmp_path / "out.onnx", options=options)
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_float_classifier_is_refused(tmp_path):
    options = OptimizeOptions(target="ascend")
    with pytest.raises(FormatError, match=r"has 2 inputs \(image, mask\); an image classifier has one"):
        optimize(models.save(models.two_inputs(), tmp_path / "two.onnx"), tmp_path / "out.onnx", options=options)
    model = small()
    model.graph.node.insert(0, helper.make_node("QuantizeLinear", ["image", "one"], ["q"]))
    model.graph.initializer.append(numpy_helper.from_array(np.float32(1), "one"))
    with pytest.raises(FormatError, match=r"is quantised: optimise the float32 file, then quantise the result"):
        optimize(models.save(model, tmp_path / "quantised.onnx"), tmp_path / "out.onnx", options=options)
    infinite = models.save(small(gain=8e37), tmp_path / "infinite.onnx")
    with pytest.raises(
        InferenceError, match="its own scores are not finite on these inputs, so no rewrite can be held"
    ):
        optimize(infinite, tmp_path / "out.onnx", options=options)
    assert not (tmp_path / "out.onnx").exists()


@pytest.mark.parametrize("existing", ["out.onnx", "out.optimization.json"])
def test_existing_output_is_kept(source, tmp_path, existing):
    (tmp_path / existing).write_text("mine")
    options = OptimizeOptions(target="ascend", passes=["simplify"])

    with pytest.raises(OutputError, match=f"{existing} exists already: choose another output, or pass --force"):
        optimize(source, tmp_path / "out.onnx", options=options)
    assert (tmp_path / existing).read_text() == "mine"
    optimize(source, tmp_path / "out.onnx", options=options, force=True)
    assert read_classifier(tmp_path / "out.onnx").spec == SPEC
