"""What class of work an operator's type is, whatever the engine calls it: OpenVINO, ONNX Runtime, Ascend, ONNX."""

from __future__ import annotations

from ..results.operators import Kind

# Names are compared in lower case, without what a quantised or fused variant puts in front.
_PREFIXES = ("qlinear", "fused", "dynamicquantize", "nhwc")
CONVOLUTIONS = frozenset(
    (
        *("conv", "conv2d", "conv2dcompress", "convinteger", "convolution", "convtranspose", "conv2dbackpropinputd"),
        *("convolutionbackpropdata", "deconvolution", "deformableconv", "depthwiseconv2d", "depthwiseconv2dd"),
        *("groupconvolution", "groupconvolutionbackpropdata"),
    )
)
_MATMULS = frozenset(
    (
        *("batchmatmul", "batchmatmulv2", "fullyconnected", "fullyconnection", "gemm", "matmul", "matmulinteger"),
        *("matmulintegertofloat", "matmulnbits", "matmulv2", "matmulv3", "qgemm"),
    )
)
_POOLINGS = frozenset(
    (
        *(
            "adaptiveavgpool",
            "adaptivemaxpool",
            "averagepool",
            "avgpool",
            "avgpoolv2",
            "globalaveragepool",
            "globalavgpool",
        ),
        *("globalmaxpool", "maxpool", "maxpoolv2", "maxpoolv3", "pooling", "reduce", "reducemax", "reducemaxd"),
        *("reducemean", "reducemeand", "reducemin", "reducesum", "reducesumd"),
    )
)
DIVIDERS = frozenset(
    (
        *("asstrided", "gather", "gatherd", "gatherelements", "gathernd", "gatherv2", "gatherv2d", "slice", "sliced"),
        *(
            "slicev2",
            "split",
            "splitd",
            "splitv",
            "splitvd",
            "stridedslice",
            "stridedsliced",
            "unpack",
            "variadicsplit",
        ),
    )
)
SPLITS = DIVIDERS - {"asstrided", "gather", "gatherd", "gatherelements", "gathernd", "gatherv2", "gatherv2d"}
JOINERS = frozenset({"concat", "concatd", "concatenation", "concatv2", "concatv2d", "pack"})
LAYOUTS = frozenset(
    {"reorder", "reorderinput", "reorderoutput", "transdata", "transdatarnn", "transpose", "transposed", "permute"}
)
CASTS = frozenset({"cast", "convert"})
QUANTIZERS = frozenset(
    {
        "ascendantiquant",
        "ascenddequant",
        "ascendquant",
        "dequantizelinear",
        "dynamicquantizelinear",
        "fakequantize",
        "quantizelinear",
    }
)
SHAPES = frozenset({"expanddims", "flatten", "flattenv2", "reshape", "squeeze", "unsqueeze"})
PADS = frozenset({"pad", "padd", "padv2", "padv3", "padv3d"})
_COPIES = frozenset(
    (
        *("broadcast", "broadcasttod", "depthtospace", "dropout", "expand", "expandd", "identity", "memcpyasync"),
        *("shufflechannels", "spacetodepth", "tensormove", "tile", "tiled"),
    )
)
_MOVEMENTS = DIVIDERS | JOINERS | LAYOUTS | CASTS | QUANTIZERS | SHAPES | PADS | _COPIES
ACTIVATIONS = frozenset(
    (
        *(
            "clip",
            "clipbyvalue",
            "clamp",
            "elu",
            "gelu",
            "hardsigmoid",
            "hardswish",
            "hswish",
            "leakyrelu",
            "mish",
            "prelu",
        ),
        *("quickgelu", "relu", "relu6", "sigmoid", "silu", "softplus", "swish", "tanh"),
    )
)
_ELEMENTWISE = ACTIVATIONS | frozenset(
    (
        *("abs", "accumulatenv2", "add", "adds", "addv2", "batchnorm", "batchnormalization", "biasadd", "bninference"),
        *(
            "bninferenced",
            "div",
            "eltwise",
            "erf",
            "exp",
            "fusedmuladd",
            "log",
            "max",
            "maximum",
            "min",
            "minimum",
            "mul",
        ),
        *("muladd", "muls", "multiply", "neg", "pow", "power", "realdiv", "reciprocal", "softmax", "softmaxv2", "sqrt"),
        *("square", "sub", "subgraph", "subtract", "sum"),
    )
)


def plain_type(name: str) -> str:
    """An operator's type as the tables here spell it."""
    text = name.lower().replace("_", "")
    for prefix in _PREFIXES:
        if text not in QUANTIZERS:
            text = text.removeprefix(prefix) or text
    return text


def kind_of(name: str) -> Kind:
    """The class of work of an operator's type; `other` where it is not known."""
    text = plain_type(name)
    tables: tuple[tuple[Kind, frozenset[str]], ...] = (
        ("convolution", CONVOLUTIONS),
        ("matmul", _MATMULS),
        ("pooling", _POOLINGS),
        ("movement", _MOVEMENTS),
        ("elementwise", _ELEMENTWISE),
    )
    return next((kind for kind, table in tables if text in table), "other")
