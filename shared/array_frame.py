"""A frame out of the array that carries it, read strictly: numpy's own reader would allocate what a header declares.

    0x93 "NUMPY" 1 0 | header length u16, little-endian | header, ending in a line feed | bytes

The header is the text of a dictionary, as numpy writes it for one dimension of unsigned bytes.
"""

import re

from shared.errors import MalformedMessage

_START = b"\x93NUMPY\x01\x00"
_HEADER = re.compile(
    rb"\{'descr': *'[|<>=]?u1', *'fortran_order': *(?:False|True), *'shape': *\((0|[1-9][0-9]{0,12}),\),? *\} *\n"
)


def frame_of_array(data: bytes) -> bytes:
    """The bytes of a vector of bytes in numpy's format, version 1.0; raises MalformedMessage for anything else."""
    start = len(_START) + 2
    size = int.from_bytes(data[len(_START) : start], "little")
    header, frame = data[start : start + size], data[start + size :]
    found = _HEADER.fullmatch(header) if data.startswith(_START) and len(header) == size else None
    if found is None or int(found[1]) != len(frame):
        raise MalformedMessage("a message's array is no vector of bytes")
    return frame
