"""PyTorch's intermediate tensors under the names that they have in the exported ONNX file.

Both of torch's exporters write down the module that an operator comes from: TorchScript's in the operator's name
(`/stages/stages.0/conv_exp/conv/Conv`), dynamo's in its metadata. The one tensor that leaves (or enters) all operators of a
module is the module's output (or input). Where several modules lay claim to a tensor, the last one to see it is right: a
convolution's result, into which the exporter has folded the normalisation, is what the activation after it gets.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import onnx
from onnx import numpy_helper

_FOLDED = ("Conv", "ConvTranspose", "Gemm")  # into which a normalisation may be folded
_SCOPES = "pkg.torch.onnx.name_scopes"  # metadata of torch's dynamo exporter


@dataclass(frozen=True, slots=True)
class Spot:
    """A tensor in PyTorch: what a module (by its path) gets or gives."""

    module: str
    end: Literal["input", "output"]


@dataclass(frozen=True, slots=True)
class _Seen:
    """A tensor that passed a spot: its shape, and what identifies the tensor object while the network runs."""

    shape: tuple[int, ...]
    identity: int


@dataclass(frozen=True, slots=True)
class _Place:
    """The module that an operator begins in, and the one that it ends in: into a convolution, the normalisation after it
    may be folded. None where the file does not say."""

    begin: str | None
    end: str | None


class TorchTaps:
    """Runs a network and returns chosen tensors by the names they have in an ONNX file exported from it.

    Attributes:
        spots: for each tensor of the ONNX file that could be found in PyTorch, where it is.
    """

    def __init__(self, network: Any, model: onnx.ModelProto, example: np.ndarray) -> None:
        """`model` is the exported file with its weights; `example` is one batch, N x channels x height x width."""
        self._network = network
        modules = dict(network.named_modules())
        seen = self._trace(example)
        order = {spot: place for place, spot in enumerate(seen)}
        self.spots: dict[str, Spot] = {}
        for name, spots in _claims(model, _places(model, modules, seen), modules).items():
            if known := [spot for spot in spots if spot in order]:
                self.spots[name] = max(known, key=order.__getitem__)
        self.shapes = {name: seen[spot].shape for name, spot in self.spots.items()}

    def run(self, batch: np.ndarray, names: Iterable[str]) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """The chosen tensors, and the scores, of one batch."""
        import torch

        wanted: dict[Spot, list[str]] = {}
        for name in names:
            wanted.setdefault(self.spots[name], []).append(name)
        found: dict[str, np.ndarray] = {}

        def keep(spot: Spot, tensor: Any) -> None:
            for name in wanted.get(spot, ()):
                found[name] = tensor.detach().clone().numpy()  # a copy: activations may work in place

        with torch.inference_mode(), _hooks(self._network, keep, {spot.module for spot in wanted}):
            scores = self._network(torch.from_numpy(np.ascontiguousarray(batch)))
        return found, scores.numpy()

    def _trace(self, example: np.ndarray) -> dict[Spot, _Seen]:
        """Every spot that exactly one tensor passes once, in the order of time."""
        import torch

        seen: dict[Spot, _Seen] = {}
        often: set[Spot] = set()
        alive = []  # so that identities stay unique

        def note(spot: Spot, tensor: Any) -> None:
            if spot in seen:
                often.add(spot)
            alive.append(tensor)
            seen[spot] = _Seen(tuple(tensor.shape), id(tensor))

        with torch.inference_mode(), _hooks(self._network, note):
            self._network(torch.from_numpy(np.ascontiguousarray(example)))
        return {spot: found for spot, found in seen.items() if spot not in often}


def runtime_version() -> str:
    """Version of PyTorch."""
    import torch

    return torch.__version__


@contextmanager
def _hooks(network: Any, take: Any, modules: set[str] | None = None) -> Iterator[None]:
    """Call `take(spot, tensor)` for the single tensors that modules get and give."""
    handles = []

    def before(path: str) -> Any:
        def hook(_: Any, arguments: tuple[Any, ...]) -> None:
            if len(arguments) == 1 and _is_tensor(arguments[0]):
                take(Spot(path, "input"), arguments[0])

        return hook

    def after(path: str) -> Any:
        def hook(_: Any, __: Any, result: Any) -> None:
            if _is_tensor(result):
                take(Spot(path, "output"), result)

        return hook

    try:
        for path, module in network.named_modules():
            if path and (modules is None or path in modules):
                handles.append(module.register_forward_pre_hook(before(path)))
                handles.append(module.register_forward_hook(after(path)))
        yield
    finally:
        for handle in handles:
            handle.remove()


def _is_tensor(value: Any) -> bool:
    import torch

    return isinstance(value, torch.Tensor) and value.dtype == torch.float32


def _places(model: onnx.ModelProto, modules: dict[str, Any], seen: dict[Spot, _Seen]) -> list[_Place]:
    """Where each operator comes from."""
    weights = _weights(model)
    takers = {found.identity: spot.module for spot, found in seen.items() if spot.end == "input"}
    places = []
    for node in model.graph.node:
        scope = _scope(node, modules)
        begin = end = scope
        if node.op_type in _FOLDED and len(node.input) > 1 and scope is not None:
            # dynamo gives a folded convolution the normalisation's place, and its weight still has the convolution's name.
            named = node.input[1].rpartition(".")[0]
            if _is_norm(modules.get(scope)) and named in modules:
                begin = named
            elif _changed(modules.get(scope), weights.get(node.input[1])):
                given = seen.get(Spot(scope, "output"))
                end = takers.get(given.identity) if given else None
                end = end if end is not None and _is_norm(modules[end]) else None
        places.append(_Place(begin, end))
    return places


def _scope(node: onnx.NodeProto, modules: dict[str, Any]) -> str | None:
    """Path of the innermost module that an operator comes from; None where the file does not say."""
    for entry in node.metadata_props:
        if entry.key == _SCOPES:
            try:
                paths = [path for path in ast.literal_eval(entry.value) if path in modules]
            except (ValueError, SyntaxError):
                return None
            return paths[-1] if paths else None
    if not node.name.startswith("/"):
        return None
    path = before = ""
    for part in node.name.split("/")[1:-1]:
        # A container's child is written with the container's name: /stages/stages.0 is the module stages.0.
        child = part.removeprefix(f"{before}.") if before else part
        path, before = f"{path}.{child}" if path else child, part
        if path not in modules:
            return None
    return path


def _weights(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    """Constants by name; TorchScript writes equal ones once, with an Identity for each other use."""
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Identity" and node.input[0] in tensors:
            tensors[node.output[0]] = tensors[node.input[0]]
    used = {node.input[1] for node in model.graph.node if node.op_type in _FOLDED and len(node.input) > 1}
    return {name: numpy_helper.to_array(tensor) for name, tensor in tensors.items() if name in used}


def _is_norm(module: Any) -> bool:
    return module is not None and "norm" in type(module).__name__.lower()


def _changed(module: Any, values: np.ndarray | None) -> bool:
    """Whether the file's weight is not the module's own, so that something was folded into it."""
    own = getattr(module, "weight", None)
    if own is None or values is None:
        return False
    return values.shape != tuple(own.shape) or not np.allclose(values, own.detach().numpy(), rtol=1e-6, atol=0)


def _claims(model: onnx.ModelProto, places: list[_Place], modules: dict[str, Any]) -> dict[str, list[Spot]]:
    """For each tensor that an operator makes, the modules whose only result, or only input, it is."""
    nodes = model.graph.node
    maker = {name: number for number, node in enumerate(nodes) for name in node.output if node.op_type != "Constant"}
    readers: dict[str, list[int]] = {}
    for number, node in enumerate(nodes):
        for name in node.input:
            readers.setdefault(name, []).append(number)
    image, ends = model.graph.input[0].name, {value.name for value in model.graph.output}
    claims: dict[str, list[Spot]] = {}
    for path, inside in _members(places, modules).items():
        leaving = {
            name
            for number in inside
            for name in nodes[number].output
            if name in ends or any(reader not in inside for reader in readers.get(name, []))
        }
        entering = {
            name
            for number in inside
            for name in nodes[number].input
            if name == image or (name in maker and maker[name] not in inside)
        }
        if len(leaving) == 1 and _within(places[maker.get(name := leaving.pop(), -1)].end, path):
            claims.setdefault(name, []).append(Spot(path, "output"))
        entries = [reader for name in entering for reader in readers[name] if reader in inside]
        if len(entering) == 1 and image not in entering and all(_within(places[n].begin, path) for n in entries):
            claims.setdefault(entering.pop(), []).append(Spot(path, "input"))
    return claims


def _members(places: list[_Place], modules: dict[str, Any]) -> dict[str, set[int]]:
    """For each module but the whole network, the numbers of the operators that come from it or from modules in it."""
    members: dict[str, set[int]] = {}
    for number, place in enumerate(places):
        for innermost in (place.begin, place.end):
            path = innermost
            while path:
                members.setdefault(path, set()).add(number)
                path = path.rpartition(".")[0]
    return {path: members[path] for path in modules if path in members}


def _within(path: str | None, module: str) -> bool:
    return path is not None and (path == module or path.startswith(f"{module}."))
