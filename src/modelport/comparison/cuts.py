"""Which tensors of two networks are compared, and where the network is cut for the search.

Error travels along edges, and a network has branches, so looking at one tensor says nothing of the others. A *cut* after
the k-th tensor is the set of tensors made so far that something later still reads: whatever went wrong before the cut and
matters to the scores passes through one of them.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import FormatError
from .network import Network, Operator, Shape

_POINTWISE = frozenset(
    (
        *("Add", "BatchNormalization", "Clip", "Elu", "Gelu", "HardSigmoid", "HardSwish", "LeakyRelu", "Mish", "Mul"),
        *("PRelu", "Relu", "Selu", "Sigmoid", "Softplus", "Sub", "Swish", "Tanh"),
    )
)
_FUSED_WITH_FOLLOWERS = frozenset({"Add", "BatchNormalization", "Conv", "ConvTranspose", "Gemm", "MatMul"})
_FEWEST = 2  # tensors in common, the scores among them


@dataclass(frozen=True, kw_only=True, slots=True)
class Common:
    """Tensors that A and B have in common.

    Attributes:
        names: in A's topological order; the scores last.
        b_names: what B calls them: the same, but for the scores.
        other_shape: names that both have, with another shape.
    """

    names: tuple[str, ...]
    b_names: dict[str, str]
    other_shape: tuple[str, ...]


def match(a: Network, b: Network, shapes: dict[str, Shape | None], names: str) -> Common:
    """Match the tensors of two networks by name.

    Args:
        a, b: the networks; operators and their order are A's.
        shapes: of A's float tensors that can be looked at.
        names: A and B, for errors.

    Raises:
        FormatError: they have nothing in common but the scores, or mostly differ in shape.
    """
    both = [name for name in shapes if name in b.shapes and name != a.output and name in a.makers]
    other = tuple(name for name in both if not _alike(shapes[name], b.shapes[name]))
    if len(other) * 2 > len(both):
        raise FormatError(
            f"{names}: {len(other)} of {len(both)} tensors of the same name have another shape (first: {other[0]!r}, "
            f"{_show(shapes[other[0]])} and {_show(b.shapes[other[0]])}): two different models; compare two stages of the same one"
        )
    alike = set(both) - set(other)
    leading = _leading_to(a, a.output)
    found = [name for name in a.makers if name in alike and name in leading] + [a.output]
    if len(found) < _FEWEST:
        raise FormatError(
            f"{names}: no tensor name in common besides input and scores (A has {len(shapes)}, such as {_example(shapes)}; B has "
            f"{len(b.shapes)}, such as {_example(b.shapes)}), so layers cannot be matched: two different models, or two exports: "
            "compare files made from the same export, with the same opset"
        )
    return Common(
        names=tuple(found),
        b_names={name: name for name in found[:-1]} | {a.output: b.output},
        other_shape=other,
    )


class Cuts:
    """Tensors in topological order, what each is made from, and the cuts between them."""

    def __init__(self, network: Network, names: tuple[str, ...]) -> None:
        """`names` are tensors of the network that lead to the last of them, the scores."""
        self.network, self.names = network, names
        self.place = {name: place for place, name in enumerate(names)}
        known = set(names) | {network.input}
        self.parents = {name: _parents(network, name, known) for name in names}
        last = dict.fromkeys(names, 0)
        for name, parents in self.parents.items():
            for parent in parents:
                if parent != network.input:
                    last[parent] = max(last[parent], self.place[name])
        self._last = last

    def __len__(self) -> int:
        return len(self.names)

    def after(self, count: int) -> tuple[str, ...]:
        """The cut after the first `count` tensors: those that a later one is made from; the scores after all."""
        if count == len(self.names):
            return self.names[-1:]
        return tuple(name for name in self.names[:count] if self._last[name] >= count)

    def operators(self, name: str) -> list[Operator]:
        """The operators between a tensor's parents and itself."""
        return self.network.operators_between(self.parents[name], name)


def unfused(network: Network, names: tuple[str, ...], *others: Network) -> tuple[str, ...]:
    """The tensors that engines do not fuse away: not those between a convolution (sum, product) and its activation.

    Looking at one of these would make the engine compute in another way than it does unobserved.
    """
    inner = {name for name in names if any(_inside(graph, name) for graph in (network, *others))}
    return tuple(name for name in names if name not in inner or name == network.output)


def _inside(network: Network, name: str) -> bool:
    maker, readers = network.makers.get(name), network.readers.get(name, [])
    if maker is None or maker.kind not in _FUSED_WITH_FOLLOWERS or not readers:
        return False
    return all(reader.kind in _POINTWISE for reader in readers)


def _leading_to(network: Network, name: str) -> set[str]:
    found, left = set(), [name]
    while left:
        current = left.pop()
        if current not in found:
            found.add(current)
            left += network.makers[current].reads if current in network.makers else ()
    return found


def _parents(network: Network, name: str, known: set[str]) -> tuple[str, ...]:
    found: dict[str, None] = {}
    seen, left = {name}, list(network.makers[name].reads)
    while left:
        current = left.pop(0)
        if current in seen:
            continue
        seen.add(current)
        if current in known:
            found[current] = None
        else:
            left += network.makers[current].reads
    return tuple(found)


def _alike(a: Shape | None, b: Shape | None) -> bool:
    """Whether two shapes may be the same; a batch is not compared."""
    if a is None or b is None:
        return True
    return len(a) == len(b) and all(x == y or x is None or y is None for x, y in zip(a[1:], b[1:], strict=True))


def _example(shapes: dict[str, Shape | None]) -> str:
    return repr(next(iter(shapes), "none"))


def _show(shape: Shape | None) -> str:
    return "unknown" if shape is None else "x".join("?" if size is None else str(size) for size in shape) or "scalar"
