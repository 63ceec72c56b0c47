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

# Fields of a plan that are worked out, or taken from the catalogue.
_NOT_SET = ("mu", "catalogue_digest", "num_items")


def plan_from_file(path: Path, catalogue: Path) -> TrainingPlan:
    """The plan with the least noise for the epsilon that the file states. Raises BadSetting or MalformedFile."""
    settings = _read(path)
    snapshot = read_catalogue(catalogue)
    try:
        recipe = _recipe(settings.pop("recipe", None))
        known = {each.name: each.type for each in fields(TrainingPlan) if each.name not in (*_NOT_SET, "recipe")}
        optional = {each.name for each in fields(TrainingPlan) if each.default is not MISSING}
        settings = _checked(settings, known, "", "a plan", optional)
        return make_plan(recipe=recipe, catalogue_digest=snapshot.digest, num_items=snapshot.num_items, **settings)
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
    except ValueError as error:
        raise BadSetting(f"{path}: not a TOML file: {error}") from error


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
        good, kind = type(value) in (int, float) and math.isfinite(value), "a finite number"
    elif wanted == tuple[str, ...]:
        good, kind = isinstance(value, list) and all(type(each) is str for each in value), "a list of texts"
    else:
        good, kind = type(value) is str, "text"
    if not good:
        raise BadSetting(f"{name} must be {kind}, got {value!r:.80}")
    if wanted is float:
        return float(value)
    return tuple(value) if isinstance(value, list) else value
