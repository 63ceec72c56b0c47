"""A federation in folders for the tests of rounds: three tenants, two of them helpers, a tiny marketplace, one job."""

import json
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from client.app import HOME_SETTING
from client.app import app as client_app
from client.durable_files import write_file
from client.home import POLICY_FILE, ClientHome
from client.policy import LocalPolicy, PinnedHelper
from client.policy_file import render_policy
from client.rejects import Rejects
from client.store import Event
from server.app import app as server_app
from shared.artifact import Artifact, open_artifact
from shared.catalogue import CatalogueSnapshot, Item
from shared.interactions import Interactions, from_events
from shared.plan import CooccurrencePlan, ReconPlan, TrainingPlan, make_plan, plan_to_json
from shared.roster import Member, Roster, sign_roster
from simulations.engine import InProcessGrid, run_in_process

NAMES = ("anna", "bert", "carl")
HELPERS = ("anna", "bert")
NODES = {"anna": 101, "bert": 102, "carl": 103}
NUM_ITEMS = 14
USERS_EACH = 20
COOCCURRENCE = CooccurrencePlan(num_head_items=8, gamma=0.5, max_head_items_per_user=6)
RECON = ReconPlan(
    num_factors=3,
    num_rounds=2,
    num_head_items=8,
    max_items_per_user=10,
    ridge=1.0,
    negative_weight=0.1,
    learning_rate=0.1,
    momentum=0.5,
    init_seed=7,
    init_std=0.3,
    max_grad_norm=1.0,
)


def make_catalogue() -> CatalogueSnapshot:
    items = tuple(Item(id=f"course-{n:02d}", title=f"Course {n}") for n in range(NUM_ITEMS))
    return CatalogueSnapshot(version=1, items=items, features=np.zeros((NUM_ITEMS, 0), dtype=np.float32))


CATALOGUE = make_catalogue()


def history_of(name: str, num_users: int = USERS_EACH) -> Interactions:
    """Between 2 and 7 items a user, the first ones more often."""
    rng = np.random.default_rng([ord(letter) for letter in name])
    weights = 1.0 / np.arange(2, NUM_ITEMS + 2)
    users, items = [], []
    for user in range(num_users):
        size = int(rng.integers(2, 8))
        items += rng.choice(NUM_ITEMS, size=size, replace=False, p=weights / weights.sum()).tolist()
        users += [user] * size
    return from_events(
        users=np.array(users, dtype=np.int64),
        items=np.array(items, dtype=np.int64),
        order=np.arange(len(items), dtype=np.float64),
        num_users=num_users,
        num_items=NUM_ITEMS,
    )


@dataclass(frozen=True, kw_only=True)
class Cast:
    """Folders of everybody, and the public halves of the keys."""

    folder: Path
    homes: dict[str, Path]
    plan: TrainingPlan
    publisher_public_key: bytes

    @property
    def job(self) -> Path:
        return self.folder / "server" / "job.toml"

    @property
    def state(self) -> Path:
        return self.folder / "server" / "state"

    @property
    def registry(self) -> Path:
        return self.folder / "server" / "registry"

    def home(self, name: str) -> ClientHome:
        return ClientHome.open(self.homes[name])

    def run(self, names: Sequence[str] | None = None, **grid_options: Any) -> None:
        """One run of the unmodified ServerApp against the unmodified ClientApps of `names`, or of everybody."""
        configs = [{HOME_SETTING: str(self.homes[name])} for name in (self.homes if names is None else names)]
        run_in_process(server_app, InProcessGrid(client_app, configs, **grid_options), {"job": str(self.job)})

    def published(self) -> Artifact:
        from server.publishing import read_latest

        files = read_latest(self.registry, "courses")
        return open_artifact(files, publisher_public_key=self.publisher_public_key, catalogue_digest=CATALOGUE.digest)

    def events(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.state / "events.jsonl").read_text().splitlines()]


_PATTERNS = tempfile.TemporaryDirectory(prefix="casts-")
_made: dict[str, Cast] = {}


def make_cast(folder: Path, **terms: Any) -> Cast:
    """A cast in `folder`, with the terms that `_make_cast` names.

    One whose terms were asked for before in this process is a copy of the first, keys included: homes of many tests are
    alike, and each costs keys, databases and an import.
    """
    if {"histories", "user_names"} & set(terms):
        return _make_cast(folder, **terms)
    key = repr(sorted(terms.items()))
    if key not in _made:
        _made[key] = _make_cast(Path(_PATTERNS.name) / str(len(_made)), **terms)
    made = _made[key]
    shutil.copytree(made.folder, folder, dirs_exist_ok=True)
    return replace(made, folder=folder, homes={name: folder / "homes" / name for name in made.homes})


def _make_cast(
    folder: Path,
    *,
    recipe: CooccurrencePlan | ReconPlan = COOCCURRENCE,
    noise: str = "none",
    epsilon: float = 1.0,
    min_tenants: int = 2,
    min_users: int = 40,
    budgets: dict[str, float] | None = None,
    declared: dict[str, int] | None = None,
    histories: dict[str, Interactions] | None = None,
    user_names: Sequence[str] | None = None,
    retry_seconds: float = 0.0,
    collect_seconds: float = 20.0,
    max_attempts: int = 3,
    max_declared_users: str = "{}",
    helpers: tuple[str, ...] = HELPERS,
    spare_helpers: int = 0,
    names: Sequence[str] = NAMES,
    plan_changes: dict[str, Any] | None = None,
    policy_changes: dict[str, Any] | None = None,
) -> Cast:
    issuer, publisher = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
    opened = {
        name: ClientHome.create(folder / "homes" / name, policy=LocalPolicy(name=name), catalogue=CATALOGUE)
        for name in names
    }
    declared = {**dict.fromkeys(names, USERS_EACH), **(declared or {})}
    pins = {name: PinnedHelper(signing=opened[name].vault.signing_public) for name in helpers}
    for name, home in opened.items():
        policy = LocalPolicy(
            name=name,
            epsilon=float("inf") if noise == "none" else (budgets or {}).get(name, 50.0),
            delta=1e-5,
            max_epsilon_per_job=50.0,
            declared_users=declared[name],
            min_tenants=2,
            min_users=min_users,
            allowed_noise=(noise,),
            issuer_public_key=issuer.public_key().public_bytes_raw().hex(),
            publisher_public_key=publisher.public_key().public_bytes_raw().hex(),
            helpers=pins,
            **{"answer_seconds": 0.0, **(policy_changes or {})},
        )
        write_file(home.folder / POLICY_FILE, render_policy(policy).encode())
        fill(home, (histories or {}).get(name, history_of(name, declared[name])), user_names)
    plan = make_plan(
        job_id="job-1",
        recipe=recipe,
        catalogue_digest=CATALOGUE.digest,
        num_items=NUM_ITEMS,
        noise=noise,
        epsilon=epsilon,
        delta=1e-6,
        popularity_share=0.1,
        min_tenants=min_tenants,
        min_users=min_users,
        max_users=1_000,
        bits=64,
        helpers=helpers,
        spare_helpers=spare_helpers,
        **(plan_changes or {}),
    )
    server = folder / "server"
    server.mkdir(parents=True)
    (server / "plan.json").write_text(json.dumps(plan_to_json(plan)))
    roster = Roster(
        entries=tuple(_member(home, helper=name in helpers) for name, home in opened.items()),
        epoch=1,
        issued_at=0,
        expires_at=2**40,
    )
    (server / "roster.bin").write_bytes(sign_roster(roster, issuer))
    (server / "catalogue.bin").write_bytes(CATALOGUE.to_bytes())
    key = publisher.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    write_file(server / "publisher.key", key)
    weights = 'readout = { kind = "weights", threshold = 1.0, ridge = 0.05, diagonal = 1.0 }'
    readout = weights if isinstance(recipe, CooccurrencePlan) else ""
    (server / "job.toml").write_text(
        f"""
plan = "plan.json"
roster = "roster.bin"
issuer_public_key = "{issuer.public_key().public_bytes_raw().hex()}"
catalogue = "catalogue.bin"
signing_key = "publisher.key"
state = "state"
registry = "registry"
tuned_on_data = false
nodes_seconds = 0
collect_seconds = {collect_seconds}
helpers_seconds = {collect_seconds}
retry_seconds = {retry_seconds}
max_attempts = {max_attempts}
max_declared_users = {max_declared_users}

[[models]]
name = "courses"
fold_in = {{ recency = 0.5 }}
{readout}
"""
    )
    return Cast(
        folder=folder,
        homes={name: home.folder for name, home in opened.items()},
        plan=plan,
        publisher_public_key=publisher.public_key().public_bytes_raw(),
    )


def fill(home: ClientHome, history: Interactions, user_names: Sequence[str] | None = None) -> None:
    """Import `history` into the home's store, in order of rows and positions."""
    events = []
    for user in range(history.num_users):
        label = user_names[user] if user_names else f"learner-{user:03d}"
        for position, item in enumerate(history.history(user)):
            events.append(
                Event(user=label, item=CATALOGUE.items[item].id, position=float(position), weight=1.0, row=len(events))
            )
    if events:
        home.store.add(events, catalogue=CATALOGUE, order="position", rejects=Rejects("test", "row", 5))


def _member(home: ClientHome, *, helper: bool) -> Member:
    return Member(
        name=home.name,
        signing_key=home.vault.signing_public,
        sealing=home.vault.certify(home.name, not_before=0, not_after=2**40) if helper else None,
        roles=("tenant", "helper") if helper else ("tenant",),
        not_before=0,
        not_after=2**40,
    )
