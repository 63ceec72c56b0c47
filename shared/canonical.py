"""Canonical JSON: one value, one sequence of bytes, so that digests and signatures are about values."""

import hashlib
import json
import math
from collections.abc import Sequence
from typing import Any, NoReturn


def canonical_json(value: Any) -> bytes:
    """UTF-8 JSON with sorted keys and no white space.

    Floats keep Python's shortest round-trip form; NaN and infinities raise ValueError (they are not JSON).
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def strict_json(data: str | bytes) -> Any:
    """The value of a JSON text in which every object has each key once, and in which no number is NaN or infinite.

    Of a repeated key one reader takes the first and another the last: they would see two contents under one signature.
    Raises ValueError, or RecursionError for deep nesting.
    """
    return json.loads(data, object_pairs_hook=_once, parse_constant=_refuse_constant)


def _once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("an object has a key twice")
    return found


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def sha256_hex(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def finite(name: str, value: float) -> float:
    """`value` as a float; ValueError naming the field if it is NaN or infinite."""
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"{name} must be a finite number, got {value}")
    return number
