"""Where files are: a `Path`, or what reads like one in a store that fsspec knows, such as `s3://bucket/folder`."""

from __future__ import annotations

import glob
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import product
from math import prod
from pathlib import Path, PurePosixPath
from typing import IO, Any, NamedTuple
from urllib.parse import unquote, urlsplit

from ... import limits
from ...errors import DataError

_GROUP = re.compile(r"\{([^{}]*)\}")  # in a pattern
_RANGE = re.compile(r"(\d{1,9})\.\.(\d{1,9})")
_BLOCK = 1 << 16  # bytes of a store that are asked for at once where headers are looked for
_TIMES = ("LastModified", "mtime", "last_modified", "updated", "created")  # what the stores call it


class Known(NamedTuple):
    """What a listing or an index says of a file, as `os.stat` would."""

    st_size: int | None
    st_mtime_ns: int


@dataclass(frozen=True, slots=True)
class Remote:
    """A file or folder in a store. It has those of `Path`'s methods that sources need, and raises OSError as they do.

    Attributes:
        url: such as `s3://bucket/folder/1.jpg`.
        known: what a listing said of it; None: not asked yet.
    """

    url: str
    known: Known | None = field(default=None, compare=False)

    def __str__(self) -> str:
        return self.url

    @property
    def name(self) -> str:
        return PurePosixPath(self.url).name

    @property
    def suffix(self) -> str:
        return PurePosixPath(self.url).suffix

    @property
    def parent(self) -> Remote:
        return Remote(self.url.rstrip("/").rpartition("/")[0])

    def __truediv__(self, name: str) -> Remote:
        return Remote(f"{self.url.rstrip('/')}/{name}")

    def read_bytes(self) -> bytes:
        with _translated(self.url):
            return self._fs.cat_file(self._key)

    def read_range(self, start: int, stop: int) -> bytes:
        """The bytes from `start` to before `stop`."""
        with _translated(self.url):
            return self._fs.cat_file(self._key, start=start, end=stop)

    def open(self, mode: str = "rb") -> IO[bytes]:
        with _translated(self.url):
            return self._fs.open(self._key, mode, block_size=_BLOCK)

    def stat(self) -> Known:
        if self.known is not None:
            return self.known
        with _translated(self.url):
            return _known(self._fs.info(self._key))

    def settled(self) -> Remote:
        """Itself, with what is known of it, so that it is not asked for at each image."""
        return replace(self, known=self.stat())

    def is_dir(self) -> bool:
        return self._kind() == "directory"

    def is_file(self) -> bool:
        return self._kind() == "file"

    def iterdir(self) -> Iterator[Remote]:
        """Its files and folders; a listing tells all of them at once, what they are included."""
        with _translated(self.url):
            found = self._fs.ls(self._key, detail=True)
        for entry in found:
            name = PurePosixPath(entry["name"]).name
            if entry["name"].rstrip("/") != self._key.rstrip("/"):
                yield Remote((self / name).url, _known(entry))

    def matches(self) -> list[str]:
        """URLs that its URL, taken for a pattern, matches; sorted."""
        with _translated(self.url):
            return [self._fs.unstrip_protocol(name) for name in sorted(self._fs.glob(self._key))]

    def _kind(self) -> str | None:
        if self.known is not None:
            return "file" if self.known.st_size is not None else "directory"
        try:
            with _translated(self.url):
                return self._fs.info(self._key)["type"]
        except FileNotFoundError:
            return None

    @property
    def _fs(self) -> Any:
        return _open_store(self.url)[0]

    @property
    def _key(self) -> str:
        return _open_store(self.url)[1]


Place = Path | Remote


def as_place(text: Path | str) -> Place:
    """A place as it is written: a path, or a URL."""
    if "://" not in (url := str(text)):
        return Path(text)
    if not url.startswith("file://"):
        return Remote(url)
    try:
        return Path(unquote(urlsplit(url).path))
    except ValueError as error:
        raise DataError(f"{url}: is no URL of a file ({error})") from error


def read_range(place: Place, start: int, size: int) -> bytes:
    """Some of a file's bytes.

    Raises:
        OSError: it cannot be read, ends before, or is larger than any image that is decoded.
    """
    if size > limits.IMAGE_BYTES:
        raise OSError(f"has {size:,} bytes, more than {limits.IMAGE_BYTES:,}")
    if isinstance(place, Remote):
        data = place.read_range(start, start + size)
    else:
        with place.open("rb") as file:
            file.seek(start)  # which refuses a negative place
            data = file.read(max(size, 0))
    if len(data) != size:
        raise OSError(
            f"{place} ends at byte {start + len(data):,}, this image's last is {start + size:,}: it was cut off"
        )
    return data


def expanded(text: str) -> list[str]:
    """The names that a pattern stands for, in order: `{000..099}`, `{a,b}`, `*`, `?`, `[ab]`. A file of that very name is meant itself.

    Raises:
        DataError: nothing has such a name.
    """
    if "://" not in text and Path(text).exists():
        return [text]
    if (count := prod(_count(group) for group in _GROUP.findall(text))) > limits.PATTERN_NAMES:
        raise DataError(
            f"{text}: stands for {count:,} names, more than {limits.PATTERN_NAMES:,}; name the folder instead"
        )
    found = [found for name in _braces(text) for found in _globbed(name)]
    if not found:
        raise DataError(f"{text}: stands for nothing; a range counts upwards, such as {{000..099}}")
    return found


def _braces(text: str) -> list[str]:
    head, *rest = _GROUP.split(text)  # text between groups, and what the groups hold, in turn
    choices = [[option + tail for option in _options(group)] for group, tail in zip(rest[::2], rest[1::2], strict=True)]
    return ["".join([head, *chosen]) for chosen in product(*choices)]


def _count(group: str) -> int:
    numbers = _RANGE.fullmatch(group)
    return max(0, int(numbers[2]) - int(numbers[1]) + 1) if numbers else group.count(",") + 1


def _options(group: str) -> list[str]:
    if numbers := _RANGE.fullmatch(group):
        first, last = numbers.groups()
        return [f"{number:0{len(first)}}" for number in range(int(first), int(last) + 1)]
    return group.split(",")


def _globbed(text: str) -> list[str]:
    place = as_place(text)
    if not re.search(r"[*\[]" if isinstance(place, Remote) else r"[*?\[]", text):  # a `?` in a URL begins its query
        return [text]
    with reporting(text):
        found = place.matches() if isinstance(place, Remote) else sorted(glob.glob(str(place)))
    if not found:
        raise DataError(f"{text}: nothing has such a name")
    return found


@contextmanager
def reporting(where: object) -> Iterator[None]:
    """What a place refuses meanwhile, as a DataError that names it."""
    try:
        yield
    except OSError as error:
        raise DataError(
            f"{error.filename or where}: cannot be read: {' '.join(str(error.strerror or error).split())}"
        ) from error


@contextmanager
def _translated(url: str) -> Iterator[None]:
    """Whatever a store raises, as an OSError; a store that cannot be used here, as a DataError that says what to install."""
    try:
        yield
    except ImportError as error:
        extra = "s3" if url.startswith("s3") else "remote"
        raise DataError(f"{url}: {error}; `pip install 'modelport[{extra}]'`") from error
    except OSError:
        raise
    except Exception as error:  # each store's library has its own
        raise OSError(f"{type(error).__name__}: {' '.join(str(error).split())}") from error


def _open_store(url: str) -> tuple[Any, str]:
    """The store, and the URL's name in it; fsspec keeps its stores."""
    from fsspec.core import url_to_fs

    return url_to_fs(url)


def _known(info: dict[str, Any]) -> Known:
    changed = next((info[name] for name in _TIMES if info.get(name) is not None), 0)
    if isinstance(changed, datetime):
        changed = changed.timestamp()
    stamp = int(changed * 1e9) if isinstance(changed, int | float) else zlib.crc32(str(changed).encode())
    return Known(info["size"] if info["type"] == "file" else None, stamp)
