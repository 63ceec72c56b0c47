"""A job's settings, read once from a TOML file on the server's own disk and checked at the edge.

Paths are relative to that file. The settings that decide the guarantee are in the plan, which every client checks;
those here only say where things lie, how long to wait, and how the released sums, public by then, become a model.
"""

import stat
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_type_hints

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from server.job_state import EVERYBODY_ELSE
from shared.canonical import finite, strict_json
from shared.catalogue import CatalogueSnapshot, catalogue_from_bytes
from shared.errors import BadSetting, MalformedMessage
from shared.plan import TrainingPlan, plan_from_json
from shared.ranking import FoldIn
from shared.recipes.readouts import FactorsSettings, WeightsSettings
from shared.roster import Roster, check_name


@dataclass(frozen=True, kw_only=True)
class ModelSettings:
    """One model made from the job's releases; as many read-outs as wanted cost no more privacy than one.

    name: in the registry. readout: None for `recon`, whose model is its item factors.
    """

    name: str
    readout: WeightsSettings | FactorsSettings | None
    fold_in: FoldIn


@dataclass(frozen=True, kw_only=True)
class JobSettings:
    """One job.

    plan: JSON as `shared.plan.plan_to_json` writes it. roster: signed roster, bytes. issuer_public_key: Ed25519 in hex,
    of whoever signs rosters. catalogue: snapshot, bytes. signing_key: the publisher's, Ed25519 in PEM, mode 0600.
    state: checkpoints, releases, events; one job a folder. registry: where models are published. models: one at least.
    nodes_seconds: how long to wait at the start for every tenant on the roster to be connected.
    collect_seconds, helpers_seconds: for a node's contribution, and for a helper's answer or the short messages of a
    pairwise round.
    retry_seconds: pause before another attempt. max_attempts: at one step; every attempt is charged to the clients.
    max_declared_users: most users that one tenant may declare, by its name or "*" for everybody else; a tenant above it
    is not counted, so that none takes the place of the others in the sum. Empty: only the plan's max_users bounds them.
    tuned_on_data: whether this job's settings were chosen by looking at the same users' data without charging for it.
    """

    plan: Path
    roster: Path
    issuer_public_key: str
    catalogue: Path
    signing_key: Path
    state: Path
    registry: Path
    models: tuple[ModelSettings, ...]
    tuned_on_data: bool
    nodes_seconds: float = 120.0
    collect_seconds: float = 600.0
    helpers_seconds: float = 300.0
    retry_seconds: float = 15.0
    max_attempts: int = 3
    max_declared_users: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("nodes_seconds", "collect_seconds", "helpers_seconds", "retry_seconds"):
            if finite(name, getattr(self, name)) < 0:
                raise BadSetting(f"{name} must not be below zero, got {getattr(self, name)}")
        if self.max_attempts < 1:
            raise BadSetting(f"max_attempts must be at least 1, got {self.max_attempts}")
        _check_limits(self.max_declared_users)
        if len(self.issuer_public_key) != 64 or not set(self.issuer_public_key) <= set("0123456789abcdef"):
            raise BadSetting("issuer_public_key must be 64 lower-case hex digits")


def load_settings(path: Path) -> JobSettings:
    """Read a job file. Raises BadSetting naming the file and the setting."""
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadSetting(
            f"job file {path} cannot be read ({error.strerror}); set the run's `job` to its path"
        ) from error
    except (ValueError, RecursionError) as error:
        raise BadSetting(f"{path}: not a TOML file: {error}") from error
    try:
        fields = {**document, "models": _models(document.get("models"))}
        for name, wanted in get_type_hints(JobSettings).items():
            if name in fields and wanted in (Path, str, bool, int, float):
                fields[name] = _typed(path, name, fields[name], wanted)
        return JobSettings(**fields)
    except (TypeError, ValueError, OverflowError, BadSetting) as error:
        text = str(error).replace("JobSettings.__init__() ", "")
        raise BadSetting(f"{path}: {text}") from error


def require_known_tenants(settings: JobSettings, roster: Roster) -> None:
    """Raise BadSetting for a limit on a tenant that the roster does not list: a misspelt name would limit nobody."""
    tenants = [member.name for member in roster.entries if "tenant" in member.roles]
    for name in settings.max_declared_users:
        if name not in (EVERYBODY_ELSE, *tenants):
            raise BadSetting(f"max_declared_users names {name}; the roster's tenants are {', '.join(sorted(tenants))}")


def load_plan(path: Path) -> TrainingPlan:
    """Raises BadSetting."""
    try:
        return plan_from_json(strict_json(_bytes(path)))
    except (ValueError, RecursionError, MalformedMessage) as error:
        raise BadSetting(f"{path}: {error}") from error


def load_catalogue(path: Path, digest: str) -> CatalogueSnapshot:
    """The snapshot that the plan names. Raises BadSetting, MalformedFile or CatalogueMismatch."""
    catalogue = catalogue_from_bytes(_bytes(path))
    catalogue.require(digest, "the plan")
    return catalogue


def load_signing_key(path: Path) -> Ed25519PrivateKey:
    """Raises BadSetting for a key that is missing, readable by others, or of another kind."""
    data = _bytes(path)
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o077:
        raise BadSetting(f"{path}: mode {mode:04o} lets others read the publisher's key; run: chmod 600 {path}")
    try:
        key = load_pem_private_key(data, None)
    except (ValueError, TypeError):
        raise BadSetting(f"{path}: no unencrypted private key in PEM can be read from it") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise BadSetting(f"{path}: an Ed25519 key is needed to sign models")
    return key


def load_roster_bytes(path: Path) -> bytes:
    """Raises BadSetting. Signature and validity are checked by `shared.roster.open_roster`."""
    return _bytes(path)


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise BadSetting(f"{path}: cannot be read ({error.strerror})") from error


def _typed(job: Path, name: str, value: Any, wanted: type) -> Any:
    if wanted is float and type(value) is int:
        value = float(value)
    if type(value) is not (str if wanted is Path else wanted):
        kind = {Path: "a path", str: "text", bool: "true or false", int: "a whole number", float: "a number"}[wanted]
        raise BadSetting(f"{name} must be {kind}, got {value!r}")
    return job.parent / str(value) if wanted is Path else value


def _check_limits(limits: Any) -> None:
    if not isinstance(limits, Mapping):
        raise BadSetting(f'max_declared_users must be a table like {{ north = 500, "*" = 200 }}, got {limits!r}')
    for name, most in limits.items():
        if name != EVERYBODY_ELSE:
            check_name(name)
        if type(most) is not int or most < 1:
            raise BadSetting(f"max_declared_users of {name} must be a whole number from 1, got {most!r}")


def _models(tables: Any) -> tuple[ModelSettings, ...]:
    if not isinstance(tables, list) or not tables or not all(isinstance(table, dict) for table in tables):
        raise BadSetting("at least one [[models]] table is needed")
    models = tuple(_model(table) for table in tables)
    if len({model.name for model in models}) != len(models):
        raise BadSetting("two [[models]] share a name")
    return models


def _model(table: dict[str, Any]) -> ModelSettings:
    unknown = set(table) - {"name", "readout", "fold_in"}
    if unknown or not isinstance(table.get("name"), str):
        raise BadSetting(
            "[[models]] takes name, readout and fold_in" + "".join(f", not {key}" for key in sorted(unknown))
        )
    return ModelSettings(
        name=table["name"], readout=_readout(table.get("readout")), fold_in=FoldIn(**dict(table.get("fold_in") or {}))
    )


def _readout(table: Any) -> WeightsSettings | FactorsSettings | None:
    if table is None:
        return None
    fields = dict(table)
    kind = fields.pop("kind", None)
    if kind == "weights":
        return WeightsSettings(**fields)
    if kind == "factors":
        return FactorsSettings(**fields)
    raise BadSetting(f'readout needs kind = "weights" or "factors", got {kind!r}')
