"""policy.toml: reading it strictly, and writing it with a comment above every key."""

import json
import math
import tomllib
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from client.policy import LocalPolicy, PinnedHelper
from shared.errors import BadSetting


def load_policy(path: Path) -> LocalPolicy:
    """Read policy.toml. Raises BadSetting naming the file and, where one is at fault, the key."""
    try:
        return policy_from(tomllib.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise BadSetting(f"{path}: the file is missing; `zhiyin client init` writes one") from None
    except (OSError, ValueError, RecursionError) as error:
        raise BadSetting(f"{path}: it cannot be read as TOML: {error}") from error
    except BadSetting as error:
        raise BadSetting(f"{path}: {error}") from None


def policy_from(values: Mapping[str, Any]) -> LocalPolicy:
    """A policy from parsed TOML; unknown keys and other types raise BadSetting naming the key."""
    known = {entry.name: entry.type for entry in fields(LocalPolicy)}
    for key in values:
        _require(key in known, key, f"is not a setting; the settings are {', '.join(known)}")
    _require("name" in values, "name", "is missing")
    return LocalPolicy(**{key: _typed(key, known[key], value) for key, value in values.items()})


def render_policy(policy: LocalPolicy) -> str:
    """TOML that `load_policy` reads back to an equal policy, with each field's documentation as its comment."""
    parts = ["# What this client insists on. A server that asks for less protection is refused.\n"]
    for entry in fields(policy):
        comment = "\n".join(f"# {line}" for line in entry.metadata["doc"].split("\n"))
        value = getattr(policy, entry.name)
        body = _render_helpers(value) if entry.name == "helpers" else f"{entry.name} = {_render(value)}"
        parts.append(f"{comment}\n{body}".rstrip() + "\n")
    return "\n".join(parts)


def _typed(key: str, kind: Any, value: Any) -> Any:
    if kind is float:
        # An integer of TOML may be too large for a float, which no float is.
        fits = type(value) is float or (type(value) is int and abs(value) < 2**53)
        _require(fits and not math.isnan(value), key, "must be a number")
        return float(value)
    if kind is int:
        _require(type(value) is int, key, "must be a whole number")
        return value
    if kind is str:
        _require(type(value) is str, key, "must be text")
        return value
    if key == "helpers":
        return _helpers(value)
    _require(isinstance(value, list) and all(type(entry) is str for entry in value), key, "must be a list of texts")
    return tuple(value)


def _helpers(value: Any) -> dict[str, PinnedHelper]:
    _require(isinstance(value, dict), "helpers", "must be tables like [helpers.NAME]")
    for name, table in value.items():
        _require(isinstance(table, dict), f"helpers.{name}", "must be a table with signing")
        for key in table:
            known = "is certified by the helper itself and no longer pinned: take the line out"
            _require(key != "sealing", f"helpers.{name}.sealing", known)
            _require(key == "signing", f"helpers.{name}.{key}", "is not a setting; give signing")
        _require(type(table.get("signing")) is str, f"helpers.{name}.signing", "must be 64 hex digits")
    return {name: PinnedHelper(**table) for name, table in value.items()}


def _require(condition: bool, key: str, what: str) -> None:
    if not condition:
        raise BadSetting(f"setting {key} {what}")


def _render(value: Any) -> str:
    if isinstance(value, tuple):
        return "[" + ", ".join(map(_render, value)) + "]"
    return json.dumps(value) if isinstance(value, str) else repr(value)


def _render_helpers(helpers: Mapping[str, PinnedHelper]) -> str:
    return "\n\n".join(
        f"[helpers.{json.dumps(name)}]\nsigning = {_render(pin.signing)}" for name, pin in helpers.items()
    )
