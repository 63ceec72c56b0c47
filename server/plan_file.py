"""plan.toml, from which an operator makes a plan: what is wrong in it is one line with file, field and choices."""

import math
import tomllib
from collections.abc import Collection, Mapping
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

from shared.catalogue import CatalogueSnapshot, catalogue_from_bytes
from shared.errors import BadSetting, CapacityExceeded, MalformedFile
from shared.plan import RECIPES, CooccurrencePlan, ReconPlan, TrainingPlan, make_plan
from shared.secagg.graph import choose_degree, share_of

# Fields of a plan that are worked out, or taken from the catalogue.
_NOT_SET = ("mu", "catalogue_digest", "num_items", "num_parties", "degree", "threshold", "colluding")
_PAIRWISE = {"num_parties": int, "corrupt": float, "dropped": float, "privacy_bits": int, "recovery_bits": int}
_BITS = {"privacy_bits": 40, "recovery_bits": 20}
_MOST_BITS = 1_000


def plan_from_file(path: Path, catalogue: Path) -> TrainingPlan:
    """The plan with the least noise for the epsilon that the file states. Raises BadSetting or MalformedFile.

    Of a pairwise plan the file says how many tenants are invited, and which shares of them may collude and drop out.
    """
    settings = _read(path)
    snapshot = read_catalogue(catalogue)
    try:
        recipe = _recipe(settings.pop("recipe", None))
        pairwise = _pairwise(settings)
        known = {each.name: each.type for each in fields(TrainingPlan) if each.name not in (*_NOT_SET, "recipe")}
        optional = {each.name for each in fields(TrainingPlan) if each.default is not MISSING}
        settings = _checked(settings, known, "", "a plan", optional)
        worked_out: dict[str, Any] = {"catalogue_digest": snapshot.digest, "num_items": snapshot.num_items, **pairwise}
        return make_plan(recipe=recipe, **worked_out, **settings)
    except (BadSetting, CapacityExceeded, ValueError) as error:
        raise BadSetting(f"{path}: {str(error).removeprefix('plan: ')}") from error


def read_catalogue(path: Path) -> CatalogueSnapshot:
    """A snapshot from a file; MalformedFile naming the file."""
    try:
        return catalogue_from_bytes(path.read_bytes())
    except OSError as error:
        raise MalformedFile(f"{path}: the catalogue snapshot cannot be read ({error.strerror})") from error
    except MalformedFile as error:
        raise MalformedFile(f"{path}: {error}") from error


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadSetting(f"{path}: cannot be read ({error.strerror})") from error
    except (ValueError, RecursionError) as error:
        raise BadSetting(f"{path}: not a TOML file: {error}") from error


def _pairwise(settings: dict[str, Any]) -> dict[str, int]:
    """Takes the table [pairwise] out of `settings`, and works out the terms of the round from it."""
    if settings.get("topology") != "pairwise":
        if "pairwise" in settings:
            raise BadSetting('a [pairwise] table goes with topology = "pairwise"')
        return {}
    table = settings.pop("pairwise", None)
    if not isinstance(table, dict):
        raise BadSetting('topology "pairwise" needs a [pairwise] table, with num_parties, corrupt and dropped')
    asked = {**_BITS, **_checked(table, _PAIRWISE, "[pairwise] ", "[pairwise]", _BITS)}
    settings.setdefault("helpers", [])
    for name in _BITS:
        if not 1 <= asked[name] <= _MOST_BITS:
            raise BadSetting(f"[pairwise] {name} must be from 1 to {_MOST_BITS}, got {asked[name]}")
    num_parties, corrupt = asked.pop("num_parties"), asked["corrupt"]
    try:
        degree, threshold = choose_degree(num_parties, **asked)
    except BadSetting as error:
        raise BadSetting(
            f"[pairwise] {error}; invite more tenants or assume less of them: the tenants' policies must allow it"
        ) from error
    colluding = share_of(corrupt, num_parties)
    return {"num_parties": num_parties, "degree": degree, "threshold": threshold, "colluding": colluding}


def _recipe(table: Any) -> CooccurrencePlan | ReconPlan:
    names = ", ".join(RECIPES)
    if not isinstance(table, dict):
        raise BadSetting(f"a [recipe] table is needed, with a name ({names}) and the recipe's own fields")
    settings = dict(table)
    name = settings.pop("name", None)
    if not isinstance(name, str) or name not in RECIPES:
        raise BadSetting(f"[recipe] name must be one of {names}, got {name!r}")
    kind = RECIPES[name]
    known = {each.name: each.type for each in fields(kind)}
    checked = _checked(settings, known, "[recipe] ", f"recipe {name}")
    try:
        return kind(**checked)
    except ValueError as error:
        raise BadSetting(f"[recipe] {error}") from error


def _checked(
    settings: Mapping[str, Any], known: Mapping[str, Any], where: str, what: str, optional: Collection[str] = ()
) -> dict[str, Any]:
    choices = f"the fields of {what} are {', '.join(known)}"
    for name in settings:
        if name not in known:
            raise BadSetting(f"{where}{name} is not known; {choices}")
    for name in known:
        if name not in settings and name not in optional:
            raise BadSetting(f"{where}{name} is missing; {choices}")
    return {name: _typed(f"{where}{name}", value, known[name]) for name, value in settings.items()}


def _typed(name: str, value: Any, wanted: Any) -> Any:
    if wanted is int:
        good, kind = type(value) is int and abs(value) < 2**53, "a whole number"
    elif wanted is float:
        number = type(value) is float or (type(value) is int and abs(value) < 2**53)
        good, kind = number and math.isfinite(value), "a finite number"
    elif wanted == tuple[str, ...]:
        good, kind = isinstance(value, list) and all(type(each) is str for each in value), "a list of texts"
    else:
        good, kind = type(value) is str, "text"
    if not good:
        raise BadSetting(f"{name} must be {kind}, got {value!r:.80}")
    if wanted is float:
        return float(value)
    return tuple(value) if isinstance(value, list) else value
