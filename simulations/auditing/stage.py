"""A federation in folders for the audit: three parties, two of them helpers, a catalogue of a dozen items, one plan.

Everything is the product's: homes with keys, policies and ledgers, a signed roster, a plan that every client checks.
One party is the target; the two worlds of an experiment differ in nothing but its store.
"""

import contextlib
import io
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from flwr.app import UserConfig
from numpy.typing import NDArray

from client.app import HOME_SETTING
from client.app import app as client_app
from client.durable_files import make_folder, write_file
from client.home import ClientHome
from client.rejects import Rejects
from client.store import Event
from server.app import app as server_app
from shared.canonical import canonical_json
from shared.catalogue import CatalogueSnapshot, Item
from shared.interactions import Interactions
from shared.plan import CooccurrencePlan, TrainingPlan, make_plan, plan_to_json
from shared.ranking import FoldIn
from shared.recipes.readouts import WeightsSettings
from simulations.demo.parties import Budgets, Cast, TenantTerms, make_cast
from simulations.demo.settings import ModelSettings
from simulations.demo.training import job_file
from simulations.engine import InProcessGrid, Meddler, Traffic, run_in_process

HELPERS = ("amber", "birch")
TARGET = "cedar"
PARTIES = (*HELPERS, TARGET)
NUM_ITEMS = 12
USERS_EACH = 20
EPSILON, DELTA = 4.0, 1e-6
_MODELS = (
    ModelSettings(
        name="audit", readout=WeightsSettings(threshold=1.0, ridge=0.05, diagonal=1.0), fold_in=FoldIn(recency=0.5)
    ),
)


@dataclass(frozen=True, kw_only=True, eq=False)
class Stage:
    """One world, ready to run jobs in. histories: what each party's store holds; declared: users that it states."""

    cast: Cast
    plan: TrainingPlan
    histories: Mapping[str, Interactions]
    declared: Mapping[str, int]

    def home(self, name: str) -> ClientHome:
        return ClientHome.open(self.cast.homes[name])

    def copied(self, folder: Path) -> "Stage":
        """The same world in a folder of its own: every job starts from the same bytes, ledgers included."""
        shutil.copytree(self.cast.folder, folder)
        homes = {name: folder / home.relative_to(self.cast.folder) for name, home in self.cast.homes.items()}
        return replace(self, cast=replace(self.cast, folder=folder, homes=homes))

    def run(self, meddle: Meddler, observe: list[Traffic]) -> None:
        """One job: the unmodified ServerApp against the unmodified ClientApps."""
        job = self.cast.server / "job"
        make_folder(job)
        write_file(job / "plan.json", canonical_json(plan_to_json(self.plan)))
        write_file(job / "job.toml", job_file(self.cast, _MODELS).encode())
        configs: list[UserConfig] = [{HOME_SETTING: str(self.cast.homes[name])} for name in PARTIES]
        grid = InProcessGrid(client_app, configs, meddle=meddle, observe=observe.append)
        with contextlib.redirect_stdout(io.StringIO()):
            run_in_process(server_app, grid, {"job": str(job / "job.toml")})


def make_stage(
    folder: Path, *, histories: Mapping[str, Interactions], declared: Mapping[str, int], num_items: int = NUM_ITEMS
) -> Stage:
    """A world in `folder`. Every item is a head item, so that the pairs of any two are asked for."""
    items = tuple(Item(id=f"course-{number:03d}", title=f"Course {number}") for number in range(num_items))
    catalogue = CatalogueSnapshot(version=1, items=items, features=np.zeros((num_items, 0), dtype=np.float32))
    min_users = 2 * min(declared[name] for name in HELPERS)
    cast = make_cast(
        folder,
        [TenantTerms(name=name, declared_users=declared[name], is_helper=name in HELPERS) for name in PARTIES],
        catalogue,
        budgets=Budgets(epsilon=2 * EPSILON, delta=DELTA, max_epsilon_per_job=2 * EPSILON),
        app_digests=(),
        min_users=min_users,
        now=int(time.time()),
    )
    plan = make_plan(
        epsilon=EPSILON,
        delta=DELTA,
        noise="helpers",
        job_id="audit",
        recipe=CooccurrencePlan(num_head_items=num_items, gamma=0.5, max_head_items_per_user=num_items),
        catalogue_digest=catalogue.digest,
        num_items=num_items,
        popularity_share=0.3,
        min_tenants=2,
        min_users=min_users,
        max_users=1_000,
        bits=64,
        helpers=HELPERS,
    )
    for name in PARTIES:
        _fill(ClientHome.open(cast.homes[name]), histories[name])
    return Stage(cast=cast, plan=plan, histories=dict(histories), declared=dict(declared))


def with_target(stage: Stage, folder: Path, history: Interactions) -> Stage:
    """The same federation, keys and all, in another folder, with another history at the target."""
    other = stage.copied(folder)
    home = other.home(TARGET)
    for user in range(stage.histories[TARGET].num_users):
        home.store.erase(_user(user))
    _fill(home, history)
    return replace(other, histories={**stage.histories, TARGET: history})


def random_history(rng: np.random.Generator, lengths: Sequence[int], num_items: int = NUM_ITEMS) -> Interactions:
    """One user for each length, the first items of the catalogue more often."""
    weights = 1.0 / np.arange(2, num_items + 2)
    chosen = [rng.choice(num_items, length, replace=False, p=weights / weights.sum()) for length in lengths]
    return history_of(chosen, num_items)


def history_of(rows: Sequence[NDArray[np.int64]], num_items: int = NUM_ITEMS) -> Interactions:
    """One user a row of items, oldest first."""
    lengths = [len(row) for row in rows]
    items = np.concatenate([np.zeros(0, dtype=np.int32), *rows]).astype(np.int32)
    return Interactions(
        num_items=num_items,
        offsets=np.cumsum([0, *lengths]).astype(np.int64),
        items=items,
        weights=np.ones(len(items), dtype=np.float32),
    )


def _fill(home: ClientHome, history: Interactions) -> None:
    items = home.catalogue.items
    events = [
        Event(row=position, user=_user(user), item=items[item].id, position=float(position), weight=1.0)
        for user in range(history.num_users)
        for position, item in enumerate(history.history(user))
    ]
    if events:
        home.store.add(events, catalogue=home.catalogue, order="position", rejects=Rejects("audit", "row", 5))


def _user(number: int) -> str:
    return f"learner-{number:04d}"
