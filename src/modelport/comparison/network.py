"""The graph of an ONNX file as a network of tensors: what makes each, what reads it, and pieces cut out of it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnx.external_data_helper import (
    convert_model_to_external_data,
    load_external_data_for_model,
    write_external_data_tensors,
)

from ..errors import FormatError
from ..graph import ClassifierGraph

Shape = tuple[int | None, ...]


@dataclass(frozen=True, slots=True)
class Operator:
    """A node of the graph.

    Attributes:
        name: the node's name, or its first result's where it has none.
        node: as in the file.
        place: its number there.
        reads: tensors that it reads, those that only its subgraphs read included; without constants.
    """

    name: str
    node: onnx.NodeProto
    place: int
    reads: tuple[str, ...]

    @property
    def kind(self) -> str:
        """The operator's type."""
        return self.node.op_type


@dataclass(frozen=True, kw_only=True, slots=True)
class Network:
    """A classifier's graph.

    Attributes:
        path: the file it was read from.
        input, output: names of the image's and the scores' tensors.
        makers: for each tensor that depends on the image, its operator, in topological order.
        readers: for each of these and the input, the operators that read it.
        shapes: of float tensors among them, batch first; None where a dimension or the whole is not known.
    """

    path: Path
    input: str
    output: str
    makers: dict[str, Operator]
    readers: dict[str, list[Operator]]
    shapes: dict[str, Shape | None]
    _model: onnx.ModelProto = field(repr=False)
    _folder: Path

    @classmethod
    def read(cls, graph: ClassifierGraph, size: tuple[int, int, int], folder: Path, path: Path | None = None) -> Self:
        """Read the classifier's file, or the rewritten one at `path`; both have the same input and output.

        Args:
            graph: the classifier.
            size: channels, height, width of the image.
            folder: where its weights are put, once; graphs that are cut out of it must be saved there.
            path: None is the classifier's own.

        Raises:
            FormatError: its shapes contradict each other.
        """
        path = path or graph.path
        model = onnx.load(path)
        if model.functions:
            from onnx import inliner

            model = inliner.inline_local_functions(model)
        model = _fixed_input(model, size)
        _move_weights(model, folder)
        try:
            inferred = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
        except onnx.shape_inference.InferenceError as error:
            raise FormatError(
                f"{path}: its shapes contradict each other: {str(error).strip().splitlines()[0]}"
            ) from error
        makers, readers = _wire(model.graph, graph.input_name)
        values = {value.name: value for value in [*inferred.value_info, *inferred.output]}
        shapes = {
            name: _shape(values[name])
            for name in makers
            if name in values and values[name].type.tensor_type.elem_type == TensorProto.FLOAT
        }
        return cls(
            path=path,
            input=graph.input_name,
            output=graph.output_name,
            makers=makers,
            readers=readers,
            shapes=shapes,
            _model=model,
            _folder=folder,
        )

    def tapped(self, names: Iterable[str], batch: int) -> onnx.ModelProto:
        """A copy whose outputs are the scores and these tensors, for this batch size."""
        model = onnx.ModelProto()
        model.CopyFrom(self._model)
        _fix_batch(model.graph, batch)
        have = {value.name for value in model.graph.output}
        for name in names:
            if name not in have:
                model.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, None))
        return model

    def whole(self) -> onnx.ModelProto:
        """A copy with its weights in it."""
        model = onnx.ModelProto()
        model.CopyFrom(self._model)
        load_external_data_for_model(model, str(self._folder))
        return model

    def region(self, inputs: Collection[str], output: str) -> onnx.ModelProto:
        """The operators that make one tensor from these (float tensors), as a graph of their own."""
        kept = self._between(inputs, output)
        kept |= self._constants_of(kept)
        ordered = [node for place, node in enumerate(self._model.graph.node) if place in kept]
        read = {name for node in ordered for name in _reads(node)}
        graph = helper.make_graph(
            ordered,
            "region",
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in inputs if name in read],
            [helper.make_tensor_value_info(output, TensorProto.FLOAT, None)],
            [tensor for tensor in self._model.graph.initializer if tensor.name in read],
        )
        return helper.make_model(graph, opset_imports=self._model.opset_import, ir_version=self._model.ir_version)

    def operators_between(self, inputs: Collection[str], output: str) -> list[Operator]:
        """The operators that make one tensor from these, in order."""
        places = self._between(inputs, output)
        found = {operator.place: operator for operator in self.makers.values() if operator.place in places}
        return list(found.values())

    def weights(self, operator: Operator) -> dict[int, np.ndarray]:
        """The constants that an operator reads, by the number of its input."""
        constants = {
            tensor.name: tensor for tensor in self._model.graph.initializer
        }  # a tensor's data may lie in the folder
        constants |= {
            node.output[0]: node.attribute[0].t
            for node in self._model.graph.node
            if node.op_type == "Constant" and node.attribute[0].name == "value"
        }
        return {
            index: numpy_helper.to_array(constants[name], str(self._folder))
            for index, name in enumerate(operator.node.input)
            if name in constants
        }

    def _between(self, inputs: Collection[str], output: str) -> set[int]:
        """Numbers of the operators that make one tensor from these."""
        found: set[int] = set()
        left = [output]
        while left:
            operator = self.makers.get(left.pop())
            if operator is not None and operator.place not in found:
                found.add(operator.place)
                left += [name for name in operator.reads if name not in inputs]
        return found

    def _constants_of(self, places: set[int]) -> set[int]:
        """Numbers of the operators that make what these read, of constants alone."""
        nodes = self._model.graph.node
        makers = {name: place for place, node in enumerate(nodes) for name in node.output if name not in self.makers}
        found: set[int] = set()
        left = [name for place in places for name in _reads(nodes[place])]
        while left:
            place = makers.get(left.pop())
            if place is not None and place not in found:
                found.add(place)
                left += _reads(nodes[place])
        return found


def _wire(graph: onnx.GraphProto, source: str) -> tuple[dict[str, Operator], dict[str, list[Operator]]]:
    makers: dict[str, Operator] = {}
    readers: dict[str, list[Operator]] = {source: []}
    for place, node in enumerate(graph.node):
        reads = tuple(dict.fromkeys(name for name in _reads(node) if name in readers))
        if not reads:
            continue
        operator = Operator(node.name or node.output[0], node, place, reads)
        for name in reads:
            readers[name].append(operator)
        for name in filter(None, node.output):
            makers[name], readers[name] = operator, []
    return makers, readers


def _reads(node: onnx.NodeProto) -> list[str]:
    """Tensors that a node reads, in its subgraphs too (names that these define themselves do no harm)."""
    return [
        *filter(None, node.input),
        *(name for graph in _subgraphs(node) for inner in graph.node for name in _reads(inner)),
    ]


def _subgraphs(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def _fixed_input(model: onnx.ModelProto, size: tuple[int, int, int]) -> onnx.ModelProto:
    """Weights are no inputs; height and width are those of the images."""
    constants = {tensor.name for tensor in model.graph.initializer}
    kept = [value for value in model.graph.input if value.name not in constants]
    del model.graph.input[:]
    model.graph.input.extend(kept)
    dims = kept[0].type.tensor_type.shape.dim
    if kept[0].type.tensor_type.elem_type == TensorProto.UINT8:
        size = (*size[1:], size[0])
    for dim, length in zip(list(dims)[1:], size, strict=True):
        dim.dim_value = length
    return model


def _move_weights(model: onnx.ModelProto, folder: Path) -> None:
    """Put the weights into a file beside the graphs to come, so that each of these is small."""
    location = f"weights-{len(list(folder.iterdir()))}"
    convert_model_to_external_data(model, location=location)
    write_external_data_tensors(model, str(folder))


def _fix_batch(graph: onnx.GraphProto, batch: int) -> None:
    for value in [*graph.input, *graph.output]:
        if value.type.tensor_type.shape.dim:
            value.type.tensor_type.shape.dim[0].dim_value = batch


def _shape(value: onnx.ValueInfoProto) -> Shape | None:
    tensor = value.type.tensor_type
    if not tensor.HasField("shape"):
        return None
    return tuple(dim.dim_value if dim.HasField("dim_value") else None for dim in tensor.shape.dim)
