"""The envelope of every message: one JSON header and named runs of bytes, with one encoding for one content.

    magic "ZHIY" | version u8 | kind u8 | header length u32 | header | sections u16 |
    each section: name length u8 | name | length u64 | bytes          (all integers big-endian)

The header is canonical JSON and the names rise, so re-encoding a decoded frame gives the same bytes. Lengths are
checked against the frame before anything is copied, and the header is short: a frame cannot make its reader allocate
more than its own size and some 100 MiB.
"""

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from shared.canonical import canonical_json, strict_json
from shared.errors import MalformedMessage

MAGIC = b"ZHIY"
VERSION = 1
MAX_FRAME_BYTES = 2**30
MAX_HEADER_BYTES = 4 * 2**20
MAX_SECTIONS = 64
_START = struct.Struct(">4sBBI")


@dataclass(frozen=True, kw_only=True)
class Frame:
    """kind: 1 to 255. header: a JSON object. sections: name -> bytes; names are 1 to 255 bytes of ASCII."""

    kind: int
    header: Mapping[str, Any]
    sections: Mapping[str, bytes]


def pack_frame(frame: Frame) -> bytes:
    """The frame's bytes; raises MalformedMessage for a frame that `unpack_frame` would refuse."""
    try:
        header = canonical_json(dict(frame.header))
    except (TypeError, ValueError, RecursionError) as error:
        raise MalformedMessage(f"a message's header is not JSON: {error}") from error
    if not 1 <= frame.kind <= 255:
        raise MalformedMessage(f"a message's kind must be from 1 to 255, got {frame.kind}")
    _limit("header", len(header), MAX_HEADER_BYTES)
    _limit("number of sections", len(frame.sections), MAX_SECTIONS)
    parts = [_START.pack(MAGIC, VERSION, frame.kind, len(header)), header, struct.pack(">H", len(frame.sections))]
    for name, data in sorted(frame.sections.items()):
        parts += [_section_start(name, len(data)), data]
    _limit("frame", sum(map(len, parts)), MAX_FRAME_BYTES)
    return b"".join(parts)


def unpack_frame(data: bytes) -> Frame:
    """Inverse of `pack_frame`. Raises MalformedMessage for every other sequence of bytes."""
    _limit("frame", len(data), MAX_FRAME_BYTES)
    reader = _Reader(data)
    magic, version, kind, header_size = _START.unpack(reader.take(_START.size))
    if magic != MAGIC or version != VERSION or kind == 0:
        raise MalformedMessage(f"not a message of protocol version {VERSION}")
    _limit("header", header_size, MAX_HEADER_BYTES)
    header = _parse_header(reader.take(header_size))
    (count,) = struct.unpack(">H", reader.take(2))
    _limit("number of sections", count, MAX_SECTIONS)
    sections: dict[str, bytes] = {}
    last = ""
    for _ in range(count):
        name = _section_name(reader.take(reader.take(1)[0]))
        if name <= last:
            raise MalformedMessage("a message's sections must be in order, each once")
        (size,) = struct.unpack(">Q", reader.take(8))
        sections[name], last = reader.take(size), name
    reader.end()
    return Frame(kind=kind, header=header, sections=sections)


class _Reader:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self._position = 0

    def take(self, size: int) -> bytes:
        if size > len(self._data) - self._position:
            raise MalformedMessage(f"a message ends {size - len(self._data) + self._position} bytes early")
        start, self._position = self._position, self._position + size
        return self._data[start : self._position]

    def end(self) -> None:
        if self._position != len(self._data):
            raise MalformedMessage(f"{len(self._data) - self._position} bytes follow the end of a message")


def _parse_header(raw: bytes) -> dict[str, Any]:
    try:
        header = strict_json(raw)
        # One content, one encoding: this also refuses white space, odd escapes and keys in another order.
        if not isinstance(header, dict) or canonical_json(header) != raw:
            raise ValueError("it is not a canonical JSON object")
    except (ValueError, RecursionError) as error:
        raise MalformedMessage(f"a message's header cannot be read: {error}") from error
    return header


def _section_start(name: str, size: int) -> bytes:
    encoded = name.encode("ascii", errors="replace")
    _section_name(encoded)
    return bytes([len(encoded)]) + encoded + struct.pack(">Q", size)


def _section_name(raw: bytes) -> str:
    if not 1 <= len(raw) <= 255 or not all(0x21 <= byte <= 0x7E and byte != 0x3F for byte in raw):
        raise MalformedMessage("a message has a section with a name that cannot be used")
    return raw.decode("ascii")


def _limit(what: str, size: int, most: int) -> None:
    if size > most:
        raise MalformedMessage(f"{what}: {size} is more than the {most} allowed")
