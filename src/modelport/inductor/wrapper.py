"""What a package's kernels read and write, from the C++ that calls them, which lies in the package as text.

PyTorch's profiler tells a kernel's name and times and no shapes. AOTInductor's wrapper calls the kernels one after the other,
with every tensor's shape written out. Where its text is not as expected nothing is told, rather than something wrong.
"""

from __future__ import annotations

import re
import zipfile
from dataclasses import dataclass, field
from pathlib import Path

_SOURCE = "wrapper.cpp"
_BODY = "::run_impl("
_LARGEST = 64 << 20
_INTS = re.compile(r"static constexpr int64_t (int_array_\d+)\[\] = \{([^}]*)\};")
_EMPTY = re.compile(
    r"aoti_torch_empty_strided\(\d+, (int_array_\d+), (int_array_\d+), cached_torch_dtype_(\w+), .*&(\w+)_handle\)"
)
_ASSERT = re.compile(
    r'assert_size_stride\((\w+), \{([^}]*)\}, \{([^}]*)\}, ".*"(?:, cached_torch_dtype_(\w+), "[^"]*")?\);'
)
_MOVE = re.compile(r"auto (\w+) = std::move\((\w+)\);")
_VIEW = re.compile(r"auto (\w+) = \w*\(?reinterpret_tensor_wrapper\((\w+), \d+, (int_array_\d+), (int_array_\d+),")
_CONSTANT = re.compile(r"constants_info_\[(\d+)\]\.(name|dtype|shape) = ([^;]*);")
_EXTERN = re.compile(r"AOTI_TORCH_ERROR_CODE_CHECK\((aoti_torch_(?:cpu|cuda)_\w+)\((.*)\)\);")
_GENERATED = re.compile(r"^(cpp_\w+)\((\(.*)\);$")
_DECLARED = re.compile(r"void\s+(cpp_\w+)\(([^)]*)\);")
_POINTER = re.compile(r"\((const )?\w+\*\)\((\w+)\.data_ptr\(\)\)")
_WORD = re.compile(r"(&?)\b([A-Za-z_]\w*?)(_handle)?\b")


@dataclass(frozen=True, slots=True)
class Tensor:
    """Shape and strides in PyTorch's order, the data type by PyTorch's name; `constant` for a weight."""

    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: str
    constant: bool = False


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a kernel. `reads` are the numbers of the calls whose results it reads."""

    kernel: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    reads: tuple[int, ...]


def read_calls(package: Path, input_dtype: str) -> tuple[Call, ...]:
    """The kernel calls of a package in the order of execution; empty where its wrapper does not read as expected.

    Args:
        package: a verified `.pt2`.
        input_dtype: of its input, which the wrapper does not say.
    """
    with zipfile.ZipFile(package) as archive:
        found = [
            entry for entry in archive.infolist() if entry.filename.endswith(_SOURCE) and entry.file_size < _LARGEST
        ]
        if len(found) != 1:
            return ()
        text = archive.read(found[0]).decode(errors="replace")
    return _Wrapper(text, input_dtype).calls()


@dataclass(slots=True)
class _Wrapper:
    """The text, and the tensors in it by their variables' names; a view stands for its `owner`."""

    text: str
    input_dtype: str
    tensors: dict[str, Tensor] = field(default_factory=dict)
    owner: dict[str, str] = field(default_factory=dict)
    parameters: dict[str, list[str]] = field(default_factory=dict)

    def calls(self) -> tuple[Call, ...]:
        self._constants()
        self.parameters = {name: text.split(",") for name, text in _DECLARED.findall(self.text)}
        lines = [line.strip() for line in self.text[self.text.rfind(_BODY) :].splitlines()]
        arrays = {match[1]: _numbers(match[2]) for match in _INTS.finditer(self.text)}
        for line in lines:
            self._declare(line, arrays)
        made: dict[str, int] = {}
        found: list[Call] = []
        for line in lines:
            call = self._call(line, made)
            if call is not None:
                for name in call[1]:
                    made[self._owner(name)] = len(found)
                found.append(call[0])
        return tuple(found)

    def _constants(self) -> None:
        facts: dict[str, dict[str, str]] = {}
        for number, what, value in _CONSTANT.findall(self.text):
            facts.setdefault(number, {})[what] = value
        for each in facts.values():
            if {"name", "dtype", "shape"} <= each.keys():
                dtype = each["dtype"].removeprefix("cached_torch_dtype_")
                self.tensors[each["name"].strip('"')] = Tensor(_numbers(each["shape"].strip("{}")), (), dtype, True)

    def _declare(self, line: str, arrays: dict[str, tuple[int, ...]]) -> None:
        if match := _EMPTY.search(line):
            self.tensors[match[4]] = Tensor(arrays[match[1]], arrays[match[2]], match[3])
        elif (match := _VIEW.search(line)) and match[2] in self.tensors:
            source = self.tensors[match[2]]
            self.tensors[match[1]] = Tensor(arrays[match[3]], arrays[match[4]], source.dtype, source.constant)
            self.owner[match[1]] = match[2]
        elif (match := _MOVE.search(line)) and match[2] in self.tensors:
            self.tensors[match[1]], self.owner[match[1]] = self.tensors[match[2]], match[2]
        elif match := _ASSERT.search(line):
            self.tensors.setdefault(
                match[1], Tensor(_numbers(match[2]), _numbers(match[3]), match[4] or self.input_dtype)
            )

    def _call(self, line: str, made: dict[str, int]) -> tuple[Call, list[str]] | None:
        """A call in this line, and the names of what it writes."""
        if match := _GENERATED.match(line):
            pointers = _POINTER.findall(match[2])
            told = self.parameters.get(match[1], [""] * len(pointers))  # in_out_ptr0: read and then written
            inputs = [
                name
                for (constant, name), parameter in zip(pointers, told, strict=False)
                if constant or ("in_out_ptr" in parameter and self._owner(name) in made)
            ]
            outputs = [name for constant, name in pointers if not constant]
        elif match := _EXTERN.search(line):
            words = _WORD.findall(match[2])
            inputs = [name for _, name, handle in words if not handle and name in self.tensors]
            outputs = [name for mark, name, handle in words if mark and handle]
            if not any(name in self.tensors for name in outputs) and inputs:  # it works in place, on its first argument
                self.tensors |= dict.fromkeys(outputs, self.tensors[inputs[0]])
                self.owner |= dict.fromkeys(outputs, inputs[0])
        else:
            return None
        reads = dict.fromkeys(made[self._owner(name)] for name in inputs if self._owner(name) in made)
        known = [[self.tensors[name] for name in names if name in self.tensors] for names in (inputs, outputs)]
        return Call(match[1], tuple(known[0]), tuple(known[1]), tuple(reads)), outputs

    def _owner(self, name: str) -> str:
        while name in self.owner:
            name = self.owner[name]
        return name


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part.strip().rstrip("L")) for part in text.split(",") if part.strip())
