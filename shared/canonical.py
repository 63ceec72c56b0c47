"""Canonical JSON: one value, one sequence of bytes, so that digests and signatures are about values."""

import hashlib
import json
import math
from typing import Any


def canonical_json(value: Any) -> bytes:
    """UTF-8 JSON with sorted keys and no white space.

    Floats keep Python's shortest round-trip form; NaN and infinities raise ValueError (they are not JSON).
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def sha256_hex(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def finite(name: str, value: float) -> float:
    """`value` as a float; ValueError naming the field if it is NaN or infinite."""
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"{name} must be a finite number, got {value}")
    return number
