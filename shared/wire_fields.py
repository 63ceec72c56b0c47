"""Fields of a frame taken one by one, each checked: what the codecs of all messages are made of."""

from collections.abc import Callable, Mapping
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.errors import BadSetting, MalformedMessage
from shared.roster import check_name

Inputs = Mapping[str, NDArray[Any]]

_INPUT_TYPES: dict[str, np.dtype[Any]] = {
    "int32": np.dtype("<i4"),
    "int64": np.dtype("<i8"),
    "float32": np.dtype("<f4"),
    "float64": np.dtype("<f8"),
}
_LARGEST_INTEGER = 2**53


class Fields:
    """A frame's fields, each taken once and checked; whatever is left over is an error."""

    def __init__(self, header: Mapping[str, Any], sections: Mapping[str, bytes]) -> None:
        self._header = dict(header)
        self._sections = dict(sections)

    def take(self, name: str) -> Any:
        if name not in self._header:
            raise MalformedMessage(f"field {name!r} is missing")
        return self._header.pop(name)

    def section(self, name: str) -> bytes:
        if name not in self._sections:
            raise MalformedMessage(f"section {name!r} is missing")
        return self._sections.pop(name)

    def end(self) -> None:
        for name in (*self._header, *self._sections):
            raise MalformedMessage(f"{name[:80]!r} does not belong to this message")

    def integer(self, name: str, least: int = 0) -> int:
        value = self.take(name)
        if type(value) is not int or not least <= value < _LARGEST_INTEGER:
            raise MalformedMessage(f"{name} must be a whole number from {least}")
        return value

    def party(self, name: str) -> str:
        try:
            return check_name(self.take(name))
        except BadSetting as error:
            raise MalformedMessage(f"{name}: {error}") from error

    def text(self, name: str, most: int) -> str:
        value = self.take(name)
        if not isinstance(value, str) or len(value) > most:
            raise MalformedMessage(f"{name} must be text of at most {most} characters")
        return value

    def digits(self, name: str, size: int) -> bytes:
        value = self.take(name)
        if not isinstance(value, str) or len(value) != 2 * size or value.strip("0123456789abcdef"):
            raise MalformedMessage(f"{name} must be {size} bytes in hex")
        return bytes.fromhex(value)

    def mapping(self, name: str) -> dict[str, Any]:
        value = self.take(name)
        if not isinstance(value, dict):
            raise MalformedMessage(f"{name} must be an object")
        return value

    def objects(self, name: str, most: int) -> list["Fields"]:
        value = self.take(name)
        if not isinstance(value, list) or len(value) > most or not all(isinstance(each, dict) for each in value):
            raise MalformedMessage(f"{name} must be a list of at most {most} objects")
        return [Fields(each, {}) for each in value]


ToFrame = Callable[[Any], tuple[dict[str, Any], dict[str, bytes]]]
FromFields = Callable[[Fields], Any]


def inputs_to(inputs: Inputs) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Public arrays as a description for the header, and their sections."""
    described: dict[str, Any] = {}
    sections = {}
    for name, array in inputs.items():
        kind, sections[f"input.{name}"] = array_bytes(name, array)
        described[name] = {"type": kind, "shape": list(array.shape)}
    return described, sections


def inputs_from(fields: Fields) -> dict[str, NDArray[Any]]:
    """Inverse of `inputs_to`, the description in the field "inputs"; the arrays are read-only."""
    inputs = {}
    for name, description in fields.mapping("inputs").items():
        if not isinstance(description, dict):
            raise MalformedMessage("inputs must describe each array by an object")
        inputs[name] = _array(Fields(description, {}), fields.section(f"input.{name}"))
    return inputs


def array_bytes(name: str, array: NDArray[Any]) -> tuple[str, bytes]:
    if array.dtype.name not in _INPUT_TYPES:
        raise MalformedMessage(f"input {name!r} has type {array.dtype}; the types sent are {', '.join(_INPUT_TYPES)}")
    return array.dtype.name, np.ascontiguousarray(array, dtype=_INPUT_TYPES[array.dtype.name]).tobytes()


def _array(fields: Fields, data: bytes) -> NDArray[Any]:
    kind, shape = fields.text("type", 16), fields.take("shape")
    fields.end()
    if kind not in _INPUT_TYPES or not isinstance(shape, list) or not 1 <= len(shape) <= 2:
        raise MalformedMessage("an input must be a vector or a matrix of a type that is sent")
    if not all(type(size) is int and 0 <= size <= len(data) for size in shape):
        raise MalformedMessage("an input's shape does not fit its bytes")
    if prod(shape) * _INPUT_TYPES[kind].itemsize != len(data):
        raise MalformedMessage("an input's shape does not fit its bytes")
    array: NDArray[Any] = np.frombuffer(data, dtype=_INPUT_TYPES[kind]).reshape(shape)
    if array.dtype.kind == "f" and not np.all(np.isfinite(array)):
        raise MalformedMessage("an input holds a value that is not finite")
    return array
