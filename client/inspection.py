"""What the home holds (`status`) and whether it is fit to run (`doctor`). Counts and names of files, no user's data."""

import importlib.util
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from client.durable_files import others_may_read
from client.home import CATALOGUE_FILE, KEYS_FOLDER, POLICY_FILE, STORE_FILE, ClientHome, open_ledger, read_catalogue
from client.policy_file import load_policy
from client.recommend import installed_model
from client.rosters import kept_roster, notices
from client.store import Store, StoreCounts
from client.vault import Vault
from shared.artifact import Artifact
from shared.errors import CatalogueMismatch, ZhiyinError


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One check of the doctor. severity: "ok", "warning" (works, but read it) or "error" (refused)."""

    check: str
    severity: str
    message: str


def status(home: ClientHome, *, now: int) -> dict[str, Any]:
    """A JSON object: party, store counts, privacy spent and left, list of parties, model or why it is not usable.

    now: Unix seconds.
    """
    policy, counts = home.policy, _counts(home)
    spent = home.ledger.spent_epsilon(policy.delta)
    entries = home.ledger.entries()
    artifact, refused = _model(home)
    return {
        "home": str(home.folder),
        "name": home.name,
        "serve_as": list(policy.serve_as),
        "store": {"users": counts.num_users, "items": counts.num_items, "events": counts.num_events},
        "catalogue": {
            "version": home.catalogue.version,
            "digest": home.catalogue.digest,
            "items": home.catalogue.num_items,
        },
        "privacy": {
            "releases": sum(entry.kind == "release" for entry in entries),
            "answers_as_helper": sum(entry.kind == "answer" for entry in entries),
            "epsilon_spent": _finite(spent),
            "epsilon_budget": _finite(policy.epsilon),
            "epsilon_left": _finite(max(0.0, policy.epsilon - spent)) if math.isfinite(spent) else 0.0,
            "delta": policy.delta,
            "unit": "user with their whole history",
            "adjacency": "add or remove one user",
        },
        "keys": {"signing": home.vault.signing_public, "sealing": home.vault.sealing_public},
        "roster": _roster(home),
        "warnings": notices(home, now),
        "model": None
        if artifact is None
        else {
            "name": artifact.name,
            "version": artifact.version,
            "recipe": artifact.recipe,
            "created": artifact.created,
            "epsilon": artifact.privacy.epsilon,
            "delta": artifact.privacy.delta,
        },
        "model_refused": refused,
    }


def _counts(home: ClientHome) -> StoreCounts:
    return StoreCounts(num_users=0, num_items=0, num_events=0) if home.histories is None else home.histories.counts()


def _roster(home: ClientHome) -> dict[str, Any] | None:
    newest, kept = home.ledger.newest_roster(home.policy.issuer_public_key), kept_roster(home)
    if newest is None:
        return None
    known = kept is not None and kept.digest == newest.digest.hex()
    expires_at = kept.expires_at if kept is not None and known else None
    return {"epoch": newest.epoch, "digest": newest.digest.hex(), "expires_at": expires_at}


def _model(home: ClientHome) -> tuple[Artifact | None, str]:
    # A model that cannot be used must not hide what was spent.
    try:
        return installed_model(home), ""
    except CatalogueMismatch:
        return None, "it is for another catalogue; install one made for this snapshot"
    except ZhiyinError as error:
        return None, str(error)


def too_many_users(home: ClientHome) -> str:
    """What to tell the owner of a home that answers no job because it holds more users than declared, else empty.

    For this machine only: it depends on the histories.
    """
    users, declared = _counts(home).num_users, home.policy.declared_users
    if users <= declared:
        return ""
    return (
        f"the store holds more users than declared_users states ({declared}), so every contribution is refused; "
        "raise it in policy.toml to a round number above them"
    )


def diagnose(folder: Path, *, now: int) -> list[Finding]:
    """Every check, also after one has failed; each failure carries the mend. now: Unix seconds."""
    folder = folder.absolute()
    parts: list[tuple[str, Callable[[], Any]]] = [
        ("policy", lambda: load_policy(folder / POLICY_FILE)),
        ("catalogue", lambda: read_catalogue(folder / CATALOGUE_FILE)),
        ("store", lambda: _store(folder)),
        ("ledger", lambda: open_ledger(folder, load_policy(folder / POLICY_FILE))),
        ("keys", lambda: Vault.open(folder / KEYS_FOLDER)),
    ]
    findings = [_attempt(name, check) for name, check in parts]
    if any(finding.severity == "error" for finding in findings):
        return findings
    try:
        home = ClientHome.open(folder)
    except ZhiyinError as error:
        return [*findings, Finding(check="home", severity="error", message=str(error))]
    expiring = (Finding(check="roster", severity="warning", message=line) for line in notices(home, now))
    clock = _attempt("clock", lambda: home.at(now))
    model = _attempt("model", lambda: installed_model(home))
    return [*findings, clock, model, *expiring, *_settings(home), *_surroundings(home)]


def _store(folder: Path) -> Store | None:
    return Store.open(folder / STORE_FILE) if load_policy(folder / POLICY_FILE).serves_tenant else None


def _attempt(name: str, check: Callable[[], Any]) -> Finding:
    try:
        check()
    except (ZhiyinError, OSError) as error:
        return Finding(check=name, severity="error", message=str(error))
    return Finding(check=name, severity="ok", message="")


def _settings(home: ClientHome) -> Iterator[Finding]:
    policy, users = home.policy, _counts(home).num_users
    for key in ("issuer_public_key", "publisher_public_key", "app_digests"):
        if not getattr(policy, key):
            yield Finding(check=key, severity="warning", message="empty in policy.toml, so nothing is accepted there")
    if "helpers" in policy.allowed_topologies and len(policy.helpers) < policy.min_helpers:
        message = f"{len(policy.helpers)} helpers are pinned, min_helpers is {policy.min_helpers}: every job is refused"
        yield Finding(check="helpers", severity="warning", message=message)
    if spare := policy.helpers_to_spare:
        yield Finding(check="min_helpers", severity="warning", message=spare)
    if excess := too_many_users(home):
        yield Finding(check="declared_users", severity="error", message=excess)
    if users and policy.delta > 1 / users:
        message = f"delta {policy.delta:g} is above 1/users: it would allow giving one user away; lower it"
        yield Finding(check="delta", severity="warning", message=message)
    if policy.serves_tenant and not policy.answer_seconds:
        message = "0, so when an answer leaves tells the server about how many interactions this home holds"
        yield Finding(check="answer_seconds", severity="warning", message=message)
    if math.isinf(policy.epsilon):
        yield Finding(
            check="epsilon", severity="warning", message="the budget is switched off: nothing protects the users"
        )


def _surroundings(home: ClientHome) -> Iterator[Finding]:
    if others_may_read(home.folder):
        yield Finding(check="folder", severity="warning", message=f"others may enter it; run: chmod 700 {home.folder}")
    for package, use in (
        ("torch", "recon jobs"),
        ("opacus", "recon jobs"),
        ("pyarrow", "Parquet"),
        ("sqlalchemy", "SQL"),
    ):
        if importlib.util.find_spec(package) is None:
            message = f"not installed, {use} will be refused; run: pip install 'zhiyin[tenant]'"
            yield Finding(check=package, severity="warning", message=message)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
