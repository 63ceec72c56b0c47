"""What the demonstration is about: a marketplace, its public catalogue, and what each institution may train on."""

import csv
import gzip
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from shared.catalogue import CatalogueSnapshot
from shared.errors import CatalogueMismatch
from shared.interactions import Interactions, concatenate
from shared.text_features import build_text_features
from simulations.datasets import Dataset
from simulations.evaluate import Split, leave_last_out
from simulations.marketplace import Marketplace, generate

CATALOGUE_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class TenantUsers:
    """An institution's rows of the data set: users start..stop-1, and their ids."""

    name: str
    start: int
    stop: int
    user_ids: tuple[str, ...]

    @property
    def num_users(self) -> int:
        return self.stop - self.start


@dataclass(frozen=True, kw_only=True, eq=False)
class Scenario:
    """Everything that is known before training. `split.train` is what institutions hold; test items are in no store."""

    catalogue: CatalogueSnapshot
    dataset: Dataset
    split: Split
    tenants: tuple[TenantUsers, ...]

    def training_rows(self, tenant: TenantUsers) -> Interactions:
        return self.split.train.users(tenant.start, tenant.stop)


def make_scenario(*, seed: int, num_users: int, num_items: int) -> Scenario:
    """Generate the marketplace, build a catalogue of its own, and hold out each learner's last item."""
    market = generate(seed=seed, num_users=num_users, num_items=num_items)
    features = build_text_features([f"{item.title}\n{item.category}\n{item.text}" for item in market.items])
    catalogue = CatalogueSnapshot(version=CATALOGUE_VERSION, items=market.items, features=features)
    return scenario_of(market, catalogue)


def scenario_of(market: Marketplace, catalogue: CatalogueSnapshot) -> Scenario:
    """A marketplace on a snapshot of its items, whose last item of each learner is held out.

    Raises CatalogueMismatch for a snapshot of other items, or in another order.
    """
    if tuple(item.id for item in catalogue.items) != tuple(item.id for item in market.items):
        raise CatalogueMismatch("the snapshot does not list the marketplace's items in their order")
    stops = np.cumsum([tenant.interactions.num_users for tenant in market.tenants])
    tenants = tuple(
        TenantUsers(name=tenant.name, start=int(stop) - len(tenant.user_ids), stop=int(stop), user_ids=tenant.user_ids)
        for tenant, stop in zip(market.tenants, stops, strict=True)
    )
    dataset = Dataset(
        name="generated marketplace",
        histories=concatenate([tenant.interactions for tenant in market.tenants]),
        targets=None,
        user_ids=tuple(user for tenant in market.tenants for user in tenant.user_ids),
        item_ids=tuple(item.id for item in market.items),
        features=catalogue.features,
        order_column="position",
        num_repeats=0,
        sha256=catalogue.digest,
    )
    return Scenario(catalogue=catalogue, dataset=dataset, split=leave_last_out(dataset), tenants=tenants)


def write_history_file(scenario: Scenario, tenant: TenantUsers, path: Path) -> None:
    """The tenant's training rows as a CSV file, gzip: user, item, position."""
    rows = scenario.training_rows(tenant)
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(["user", "item", "position"])
    for row, user in enumerate(tenant.user_ids):
        for position, item in enumerate(rows.history(row)):
            writer.writerow([user, scenario.dataset.item_ids[item], position])
    path.write_bytes(gzip.compress(text.getvalue().encode(), mtime=0))
