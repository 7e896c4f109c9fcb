"""A corpus of awkward images, each with the fate that it must meet: classified, or listed with its reason.

Made in code: what encoders write (colour spaces, depths, profiles, animations), what goes wrong on the way (cut off, emptied,
misnamed), what is made to harm (bombs), and what a file system can hold beside files (pipes, loops, directories).
"""

from __future__ import annotations

import io
import os
import socket
import struct
import sys
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms, PngImagePlugin

SIZE = (97, 61)


@dataclass(frozen=True)
class Awkward:
    """One entry of the corpus.

    Attributes:
        name: of the file, in the system's bytes.
        make: the file's bytes, or what puts the entry at a path.
        reason: None where it is classified; else a part of the reason that it is listed with.
    """

    name: bytes
    make: bytes | Callable[[Path], object]
    reason: str | None = None

    @property
    def key(self) -> str:
        """The name in results, worked out apart from the code under test."""
        text, shown = self.name.decode(errors="surrogateescape"), []
        for character in text:
            if 0xDC80 <= ord(character) <= 0xDCFF:
                shown.append(f"\\x{ord(character) - 0xDC00:02x}")
            elif character.isprintable():
                shown.append(character)
            else:
                shown.append({"\n": "\\n", "\r": "\\r", "\t": "\\t"}.get(character) or _code(ord(character)))
        return "".join(shown)

    def put(self, folder: Path) -> Path:
        """Make it in a folder."""
        path = Path(os.fsdecode(os.path.join(os.fsencode(folder), self.name)))
        if callable(self.make):
            self.make(path)
        else:
            path.write_bytes(self.make)
        return path


def _code(number: int) -> str:
    return f"\\x{number:02x}" if number < 0x100 else f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"


def picture(size: tuple[int, int] = SIZE, mode: str = "RGB") -> Image.Image:
    """Smooth colours with an edge in them, so that a wrong orientation, colour space or frame shows."""
    across, down = np.meshgrid(np.linspace(0, 1, size[0]), np.linspace(0, 1, size[1]))
    pixels = np.stack([across, down, (across > down) * 0.8], axis=-1)
    return Image.fromarray((pixels * 255).astype(np.uint8)).convert(mode)


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    """An image as a file's bytes."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def chunk(kind: bytes, body: bytes) -> bytes:
    """One chunk of a PNG, its checksum right."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(width: int, height: int, *more: bytes, pixels: bytes = b"") -> bytes:
    """A PNG whose header declares this size, with these chunks before its (compressed) pixels."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    body = b"".join(more) + chunk(b"IDAT", zlib.compress(pixels)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + header + body


def tiff(width: int, height: int, *, strip: int = 3, offset: int = 8, bits: int = 8) -> bytes:
    """A TIFF of one uncompressed grey strip, whose directory declares this."""
    tags = [
        (256, 4, width), (257, 4, height), (258, 3, bits), (259, 3, 1), (262, 3, 1),
        (273, 4, offset), (277, 3, 1), (278, 4, height), (279, 4, strip),
    ]  # fmt: skip
    directory = struct.pack("<H", len(tags)) + b"".join(
        struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in tags
    )
    return b"II*\0" + struct.pack("<I", 16) + b"\x80" * 8 + directory + b"\0" * 4


def bmp(width: int, height: int) -> bytes:
    """A BMP that declares this size and holds no pixels."""
    return (
        b"BM"
        + struct.pack("<IHHI", 54, 0, 0, 54)
        + struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0)
    )


def gif(width: int, height: int, *, frame: tuple[int, int] | None = None) -> bytes:
    """A GIF that declares this screen, with one frame of this size without its pixels."""
    across, down = frame or (width, height)
    screen = b"GIF89a" + struct.pack("<HHBBB", width, height, 0x80, 0, 0) + b"\0\0\0\xff\xff\xff"
    return screen + b"," + struct.pack("<HHHHB", 0, 0, across, down, 0) + b"\x02\x02\x4c\x01\x00;"


def webp(width: int, height: int) -> bytes:
    """A WebP whose extended header declares this canvas, with a small picture on it."""
    inner = encoded(picture((8, 8)), "WEBP", lossless=True)[12:]
    canvas = struct.pack("<I", width - 1)[:3] + struct.pack("<I", height - 1)[:3]
    body = b"WEBP" + b"VP8X" + struct.pack("<I", 10) + b"\0" * 4 + canvas + inner
    return b"RIFF" + struct.pack("<I", len(body)) + body


def exif(orientation: int) -> bytes:
    """An EXIF block that says how the camera was held."""
    block = Image.Exif()
    block[0x0112] = orientation
    return block.tobytes()


def ycck() -> bytes:
    """A CMYK JPEG whose Adobe marker says that it is stored as YCCK, as Photoshop writes it."""
    data = encoded(picture(mode="CMYK"), "JPEG")
    place = data.index(b"Adobe")
    return data[: place + 11] + b"\x02" + data[place + 12 :]


def many_scans(count: int) -> bytes:
    """A JPEG that repeats the scan of its pixels, each of which a decoder would go through."""
    data = encoded(picture(), "JPEG", progressive=True)
    start = data.rindex(b"\xff\xda")
    return data[:start] + data[start:-2] * count + b"\xff\xd9"


def text_bomb(count: int, size: int) -> bytes:
    """A PNG with so many texts of this size, each compressed to a thousandth of it."""
    text = chunk(b"zTXt", b"Comment\0\0" + zlib.compress(b"a" * size, 9))
    return png(1, 1, *[text] * count, pixels=b"\0\x80\x80\x80")


def profile_bomb() -> bytes:
    """A PNG whose colour profile unpacks to 10 MiB."""
    return png(1, 1, chunk(b"iCCP", b"p\0\0" + zlib.compress(bytes(10 << 20), 9)), pixels=b"\0\x80\x80\x80")


def pixel_bomb() -> bytes:
    """A PNG of 90 million black pixels, well formed, in about a thousandth of their size."""
    squeeze, row = zlib.compressobj(1), bytes(3 * 9_500 + 1)
    packed = b"".join(squeeze.compress(row) for _ in range(9_500)) + squeeze.flush()
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 9_500, 9_500, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", packed) + chunk(b"IEND", b"")


def animated(kind: str) -> bytes:
    """Ten frames; the first is the picture."""
    others = [Image.new("RGB", SIZE, (25 * frame, 0, 0)) for frame in range(1, 10)]
    return encoded(picture(), kind, save_all=True, append_images=others, lossless=True)


def cut(kind: str, share: float) -> bytes:
    """The first part of an image."""
    data = encoded(picture((300, 200)), kind)
    return data[: int(len(data) * share)]


def without_end() -> bytes:
    """A JPEG that lacks only its end marker."""
    return encoded(picture(), "JPEG")[:-2]


def with_corrupt_exif() -> bytes:
    block = exif(1)
    return encoded(picture(), "JPEG", exif=block[:-6])


def wide() -> Image.Image:
    """Sixteen bits a pixel, using the whole range."""
    return Image.fromarray(np.asarray(picture(mode="L")).astype(np.uint16) * 257)


def sparse(size: int) -> Callable[[Path], object]:
    """A file with a hole: nothing on disk, `size` bytes to read."""

    def make(path: Path) -> None:
        with open(path, "wb") as file:
            file.truncate(size)

    return make


def _socket(path: Path) -> None:
    """A socket's path may have 108 bytes: bound from beside it."""
    before = os.getcwd()
    os.chdir(path.parent)
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(path.name)
    finally:
        os.chdir(before)


def _loop(path: Path) -> None:
    other = path.with_name("other-end-of-the-loop")
    path.symlink_to(other)
    other.symlink_to(path)


def _good(kind: str = "PNG", mode: str = "RGB", **options: object) -> bytes:
    return encoded(picture(mode=mode), kind, **options)


def _transparent() -> bytes:
    image = picture().convert("RGBA")
    image.putalpha(picture(mode="L"))
    return encoded(image, "PNG")


def _srgb() -> bytes:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def _text_chunk() -> PngImagePlugin.PngInfo:
    info = PngImagePlugin.PngInfo()
    info.add_text("Comment", "<script>alert(1)</script>\x1b[2J", zip=True)
    return info


DAMAGED = "is damaged: "
UNREADABLE = "is not an image that Pillow can read"
BOMB = "is too large to be decoded safely"
THIN = "too long and thin"


def formats() -> Iterator[Awkward]:
    """Unusual, and right."""
    yield Awkward(b"grey.jpg", _good("JPEG", "L"))
    yield Awkward(b"cmyk.jpg", _good("JPEG", "CMYK"))
    yield Awkward(b"ycck.jpg", ycck())
    yield Awkward(b"stored-as-rgb.jpg", _good("JPEG", keep_rgb=True))
    yield Awkward(b"progressive.jpg", _good("JPEG", progressive=True))
    yield Awkward(b"restart-markers.jpg", _good("JPEG", restart_marker_blocks=2))
    yield Awkward(b"subsampled-4-1-1.jpg", _good("JPEG", subsampling="4:1:1"))
    yield Awkward(b"quality-1.jpg", _good("JPEG", quality=1))
    yield Awkward(b"trailing-bytes.jpg", _good("JPEG") + b"<html>" * 50)
    yield Awkward(b"without-end.jpg", without_end(), DAMAGED)
    for orientation in (3, 6, 8):
        yield Awkward(f"exif-{orientation}.jpg".encode(), _good("JPEG", exif=exif(orientation)))
    yield Awkward(b"exif-corrupt.jpg", with_corrupt_exif())
    yield Awkward(b"icc.jpg", _good("JPEG", icc_profile=_srgb()))
    yield Awkward(b"icc-garbage.jpg", _good("JPEG", icc_profile=b"no profile" * 100))
    yield Awkward(b"two-pictures.jpg", encoded(picture(), "MPO", save_all=True, append_images=[picture().rotate(180)]))
    yield Awkward(b"palette.png", encoded(picture().quantize(16), "PNG"))
    yield Awkward(b"transparent.png", _transparent())
    yield Awkward(b"grey-alpha.png", _good("PNG", "LA"))
    yield Awkward(b"one-bit.png", _good("PNG", "1"))
    yield Awkward(b"sixteen-bit.png", encoded(wide(), "PNG"))
    yield Awkward(b"sixteen-bits.tiff", encoded(wide(), "TIFF"))
    yield Awkward(b"float.tiff", encoded(picture(mode="F"), "TIFF"))
    yield Awkward(b"lzw.tiff", _good("TIFF", compression="tiff_lzw"))
    yield Awkward(b"jpeg-in.tiff", _good("TIFF", compression="jpeg"))
    yield Awkward(b"pages.tiff", encoded(picture(), "TIFF", save_all=True, append_images=[picture().rotate(180)]))
    yield Awkward(b"text.png", encoded(picture(), "PNG", pnginfo=_text_chunk()))
    yield Awkward(b"animated.gif", animated("GIF"))
    yield Awkward(b"animated-too.webp", animated("WEBP"))
    yield Awkward(b"animated-png.png", animated("PNG"))
    yield Awkward(b"lossy.webp", _good("WEBP"))
    yield Awkward(b"grey-map.pgm", _good("PPM", "L"))
    yield Awkward(b"plain-text.ppm", b"P3 2 2 255  255 0 0  0 255 0  0 0 255  9 9 9\n")
    yield Awkward(b"bits.bmp", _good("BMP", "1"))
    yield Awkward(b"one-pixel.png", encoded(picture((1, 1)), "PNG"))
    yield Awkward(b"one-pixel-jpeg.jpg", encoded(picture((1, 1)), "JPEG"))
    yield Awkward(b"png-named.jpg", _good("PNG"))
    yield Awkward(b"jpeg-named.png", _good("JPEG"))
    yield Awkward(b"webp-named.gif", _good("WEBP", lossless=True))


def damaged() -> Iterator[Awkward]:
    """Cut off at every kind of place, emptied, or something else altogether."""
    for share in (0.02, 0.3, 0.6, 0.97):
        yield Awkward(f"cut-at-{int(share * 100)}.jpg".encode(), cut("JPEG", share), DAMAGED)
    for kind in ("PNG", "GIF", "BMP", "TIFF", "WEBP", "PPM"):
        yield Awkward(f"cut-{kind.lower()}.{kind.lower()}".encode(), cut(kind, 0.5), DAMAGED)
    yield Awkward(b"only-two-bytes.jpg", b"\xff\xd8", UNREADABLE)
    yield Awkward(b"only-a-header.png", b"\x89PNG\r\n\x1a\n", UNREADABLE)
    yield Awkward(b"zero-bytes.jpg", b"", "the file is empty (0 bytes)")
    yield Awkward(b"zeros.png", bytes(5000), UNREADABLE)
    yield Awkward(b"web-page.jpg", b"<html><body>404 Not Found</body></html>", UNREADABLE)
    yield Awkward(b"script.jpg", b"#!/bin/sh\necho hello\n", UNREADABLE)
    yield Awkward(b"drawing.png", b"<svg xmlns='http://www.w3.org/2000/svg'/>", UNREADABLE)
    yield Awkward(b"postscript.jpg", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", UNREADABLE)
    yield Awkward(b"pickle.jpg", b"\x80\x04cos\nsystem\n(S'true'\ntR.", UNREADABLE)
    yield Awkward(b"lfs-pointer.jpg", b"version https://git-lfs.github.com/spec/v1\n", UNREADABLE)
    yield Awkward(b"wrong-checksum.png", _good("PNG").replace(b"IDAT", b"IDAT\xff", 1), DAMAGED)


def bombs() -> Iterator[Awkward]:
    """Small files that would take much memory or time."""
    yield Awkward(
        b"bomb.png", pixel_bomb(), "9500x9500 pixels are over the safe limit of 89478485 (a decompression bomb?)"
    )
    yield Awkward(b"declared.png", png(60_000, 60_000), BOMB)
    yield Awkward(b"declared-too.png", png((1 << 31) - 1, (1 << 31) - 1), BOMB)
    yield Awkward(b"declared-tiff.tiff", tiff(50_000, 50_000), BOMB)
    yield Awkward(b"declared-wide.tiff", tiff(0xFFFFFFFF, 2), BOMB)
    yield Awkward(b"declared-gif.gif", gif(65_535, 65_535), BOMB)
    yield Awkward(b"declared-frame.gif", gif(10, 10, frame=(65_535, 65_535)), BOMB)
    yield Awkward(b"declared-bmp.bmp", bmp(40_000, 40_000), BOMB)
    yield Awkward(b"declared-webp.webp", webp(16_384, 16_384), BOMB)
    yield Awkward(b"declared-ppm.ppm", b"P6 99999 99999 255\n" + bytes(30), BOMB)
    yield Awkward(b"text-bomb.png", text_bomb(1, 10 << 20), "MAX_TEXT_CHUNK")
    yield Awkward(b"texts-bomb.png", text_bomb(80, 1_000_000), "MAX_TEXT_MEMORY")
    yield Awkward(b"profile-bomb.png", profile_bomb(), "MAX_TEXT_CHUNK")
    yield Awkward(b"scans.jpg", many_scans(2_000), "scans")
    yield Awkward(b"strip-across.png", encoded(Image.new("RGB", (20_000, 1)), "PNG"), THIN)
    yield Awkward(b"strip-down.png", encoded(Image.new("RGB", (1, 20_000)), "PNG"), THIN)
    yield Awkward(b"huge-file.jpg", sparse(3 << 30), "cannot be read: has more than 268,435,456 bytes")
    yield Awkward(b"strip-outside.tiff", tiff(97, 61, strip=97 * 61, offset=0xFFFFFFF0), DAMAGED)


def names() -> Iterator[Awkward]:
    """Good pictures with names that a table, a page or a terminal could take for something else."""
    good = _good()
    for name in (
        b"line\nbreak.png", b"carriage\rreturn.png", b"tab\there.png", b"bell\x07.png", b"clear-screen\x1b[2J\x1b[31m.png",
        b"single'quote.png", b'double"quote.png', b"back`tick.png", b"back\\slash.png", b"dollar$(touch hacked).png",
        b"<script>alert(1)<script>.png", b"<img src=x onerror=alert(1)>.png", b"&lt;b&gt;.png", b"{{ 7*7 }}.png",
        b"pipe|table.png", b"[link](javascript:alert(1)).png", b"a,comma;semicolon.png", b"=cmd.png",
        b"not-utf8-\xff\xfe.png", b"latin-\xe9t\xe9.png", b"--option.png", b"%s%n%d.png", b"two  spaces .png", b"~.png",
        "right-to-left-\u202egnp.png".encode(), "line-separator-\u2028x.png".encode(), "\u4e2d\u6587\u540d.png".encode(),
        "emoji-\U0001f600.png".encode(), "next-line-\u0085x.png".encode(), b"[bold red]markup.png", b"NUL.png", b"*?.png",
        b"L" * 251 + b".png",
    ):  # fmt: skip
        yield Awkward(name, good)


def places() -> Iterator[Awkward]:
    """What is no file, under an image's name."""
    yield Awkward(b"a-directory.jpg", Path.mkdir, "cannot be read: Is a directory")
    yield Awkward(b"dangling.jpg", lambda path: path.symlink_to("nowhere"), "cannot be read: No such file or directory")
    yield Awkward(b"loop.jpg", _loop, "cannot be read: Too many levels of symbolic links")
    yield Awkward(b"pipe.jpg", os.mkfifo, "cannot be read: is a pipe, a socket or a device, not a file")
    yield Awkward(b"socket.jpg", _socket, "cannot be read: ")
    yield Awkward(b"endless.jpg", lambda path: path.symlink_to("/dev/zero"), "is a pipe, a socket or a device")
    yield Awkward(b"terminal.jpg", lambda path: path.symlink_to("/dev/null"), "is a pipe, a socket or a device")


@cache
def corpus() -> tuple[Awkward, ...]:
    """All of it, under names that differ up to the first dot."""
    files = [*formats(), *damaged(), *bombs()]
    if sys.platform == "linux":  # other file systems refuse such names
        files += [*names(), *places()]
    return tuple(files)
