"""Estimated work, against what is worked out by hand; and what the roofline makes of it."""

from __future__ import annotations

import csp
import pytest

from modelport.measure.cost import estimate_bytes, estimate_flops, group_count, kernel_size, limit
from modelport.measure.kinds import kind_of
from modelport.results import MachinePeaks, Operator, OperatorFacts, OperatorTensor
from modelport.spec import Precision

PEAKS = MachinePeaks(engine="openvino", operations={Precision.F32: 100e9, Precision.INT8: 400e9}, bandwidth=10e9)


def tensor(*shape, dtype="f32", layout=None, constant=False):
    return OperatorTensor(shape=shape, dtype=dtype, layout=layout, constant=constant)


def weight(*shape, **more):
    return tensor(*shape, **more, constant=True)


def facts(kind, inputs, outputs, precision=Precision.F32, **more):
    return OperatorFacts(
        name=kind, type=kind, kernel="k", precision=precision, inputs=tuple(inputs), outputs=tuple(outputs), **more
    )


DATA, MADE = tensor(2, 32, 8, 8), tensor(2, 64, 8, 8)


@pytest.mark.parametrize(
    ("given", "flops"),
    [
        (facts("Conv", [DATA, weight(64, 32, 3, 3), weight(64)], [MADE]), 2 * (2 * 64 * 64) * 32 * 9),
        (facts("FusedConv", [DATA, weight(64, 4, 3, 3)], [MADE]), 2 * (2 * 64 * 64) * 4 * 9),
        (facts("GroupConvolution", [DATA, weight(8, 8, 4, 3, 3)], [MADE]), 2 * (2 * 64 * 64) * 4 * 9),
        (facts("ConvTranspose", [DATA, weight(32, 64, 2, 2)], [tensor(2, 64, 16, 16)]), 2 * (2 * 32 * 64) * 64 * 4),
        (facts("QLinearConv", [DATA, weight(64, 32, 1, 1, dtype="i8"), weight(1)], [MADE]), 2 * (2 * 64 * 64) * 32),
        (
            facts("Conv2D", [tensor(1, 2, 8, 8, 16, layout="NC1HWC0"), tensor(18, 4, 16, 16, layout="FRACTAL_Z")],
                  [tensor(1, 4, 8, 8, 16, layout="NC1HWC0")]),
            2 * (64 * 64) * 32 * 9,
        ),
        (facts("Gemm", [tensor(2, 128), weight(10, 128), weight(10)], [tensor(2, 10)]), 2 * 2 * 10 * 128),
        (facts("MatMul", [tensor(2, 128), weight(128, 10)], [tensor(2, 10)]), 2 * 2 * 10 * 128),
        (facts("MatMul", [tensor(4, 7, 16), tensor(4, 16, 9)], [tensor(4, 7, 9)]), 2 * 4 * 7 * 9 * 16),
        (
            facts("MatMulV2", [tensor(8, 1, 16, 16, layout="FRACTAL_NZ"), tensor(8, 1, 16, 16, layout="FRACTAL_NZ")],
                  [tensor(1, 1, 16, 16, layout="FRACTAL_NZ")]),
            2 * 256 * 128,
        ),
        (facts("MaxPool", [DATA], [tensor(2, 32, 4, 4)]), 2 * 32 * 64),
        (facts("Add", [DATA, DATA], [DATA]), 2 * 32 * 64),
        (facts("Subgraph", [DATA], [DATA], source=("a", "b"), source_types=("Sub", "Mul")), 2 * (2 * 32 * 64)),
        (facts("TransData", [DATA], [DATA]), 0),
        (facts("Teleport", [DATA], [DATA]), None),
        (facts("Conv", [DATA], [MADE]), None),
        (facts("Conv2D", [], []), None),
    ],
)  # fmt: skip
def test_operations(given, flops):
    assert estimate_flops(given) == flops


@pytest.mark.parametrize(
    ("given", "size"),
    [
        (facts("Conv", [DATA, weight(64, 32, 3, 3), weight(64)], [MADE]), 4 * (4096 + 18432 + 64 + 8192)),
        (  # the plugin keeps f32 weights in the graph and computes with packed bf16 ones
            facts("Convolution", [tensor(2, 32, 8, 8, dtype="bf16"), weight(64, 32, 1, 1)],
                  [tensor(2, 64, 8, 8, dtype="bf16")], Precision.BF16),
            2 * (4096 + 2048 + 8192),
        ),
        (facts("Split", [MADE, weight(dtype="i64")], [DATA, DATA]), 4 * (8192 + 8192)),
        (facts("StridedSliceD", [MADE], [DATA]), 4 * (4096 + 4096)),  # it does not read what it leaves out
        (facts("Cast", [DATA], [tensor(2, 32, 8, 8, dtype="f16")]), 4096 * (4 + 2)),
        (facts("Add", [DATA, DATA], [DATA]), 3 * 4 * 4096),
        (facts("Add", [tensor(4, dtype="complex64")], [tensor(4)]), None),
        (facts("Cast", [tensor(4, dtype="complex64")], [tensor(4)]), None),
        (facts("Add", [], []), None),
    ],
)  # fmt: skip
def test_bytes(given, size):
    assert estimate_bytes(given) == size


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_a_network_has_its_operations_on_every_engine(csp_profile, engine):
    operators = csp_profile(engine).operators
    for name, flops in csp.FLOPS.items():
        (operator,) = (each for each in operators if name in each.source)
        assert operator.flops == 2 * flops, name  # of two images
    assert all(operator.bytes is not None for operator in operators)
    assert [operator.type for operator in operators if operator.kind == "other"] == []


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_groups_and_kernels_are_told_from_the_shapes(csp_profile, engine):
    operators = {name: each for each in csp_profile(engine).operators for name in each.source}

    assert {name: group_count(operators[name]) for name in csp.CONVOLUTIONS} == dict.fromkeys(csp.CONVOLUTIONS, 1) | {
        "Conv_7": 8
    }
    assert [name for name in csp.CONVOLUTIONS if kernel_size(operators[name]) == (3, 3)] == ["Conv_0", "Conv_7"]


def test_a_devices_own_layout_keeps_groups_and_kernel_to_itself():
    blocks = facts("Conv2D", [tensor(1, 2, 8, 8, 16, layout="NC1HWC0"), tensor(18, 4, 16, 16, layout="FRACTAL_Z")], [])

    assert group_count(blocks) is kernel_size(blocks) is None


def operator(flops, size, kind="convolution", precision=Precision.F32):
    return Operator(
        **dict(facts("Conv", [DATA], [MADE], precision)), kind=kind, start_us=0, durations_us=(100.0,), share=1, flops=flops,
        bytes=size,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("given", "limit_us", "bound"),
    [
        (operator(1e6, 10_000), 10.0, "compute"),
        (operator(1e6, 10_000, precision=Precision.INT8), 2.5, "compute"),
        (operator(1e5, 500_000), 50.0, "memory"),
        (operator(0.0, 500_000, "movement"), 50.0, "memory"),
        (operator(1e6, None), None, None),
        (operator(1e6, 10_000, precision=Precision.FP16), None, None),  # its peak was not measured
        (operator(1e4, 10_000, "elementwise", None), 1.0, "memory"),
    ],
)
def test_the_limit_is_the_larger_of_arithmetic_and_memory(given, limit_us, bound):
    found = limit(given, PEAKS)

    assert (found.limit_us, found.bound) == (None if limit_us is None else pytest.approx(limit_us), bound)
    assert found.limit_share == (None if limit_us is None else pytest.approx(limit_us / 100))


def test_achieved_figures():
    found = operator(1e6, 10_000)

    assert found.gflops == pytest.approx(10)
    assert found.gigabytes_s == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("QLinearLeakyRelu", "elementwise"), ("FusedConv", "convolution"), ("NhwcMaxPool", "pooling"), ("QGemm", "matmul"),
        ("QLinearConcat", "movement"), ("StridedSliceD", "movement"), ("TransData", "movement"), ("QuantizeLinear", "movement"),
        ("DynamicQuantizeLinear", "movement"), ("BatchMatMulV2", "matmul"), ("Reduce_Mean", "pooling"), ("Teleport", "other"),
        ("", "other"),
    ],
)  # fmt: skip
def test_types_of_all_engines_are_classified(name, kind):
    assert kind_of(name) == kind
