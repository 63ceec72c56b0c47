"""`zhiyin sim run` with tenants: who adds the noise decides how much there is, and whom the claim holds against."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import sqrt
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import simulations.run as experiment
from shared.interactions import Interactions
from shared.recipes.readouts import CooccurrenceRelease
from simulations.cli import sim_app
from simulations.private import train_cooccurrence
from tests.recipes_cast import chain_histories, write_folder

SIZES = [200, 200, 200]
EPSILON, DELTA = 8.0, 1e-5
PLACES = {
    "central": (1, "everyone but the party that adds the noise to the sum"),
    "helpers": (2, "the server and all other tenants, if at least one helper is honest"),
    "tenant": (3, "everyone outside the tenant, alone"),
}
REFERENCES = {
    "popularity", "content alone", "EASE", "EASE with recency", "iALS", "first-order Markov", "windowed item-to-next",
    "control: no federation (must be at chance)", "cooccurrence, pooled without privacy",
}  # fmt: skip
PRIVATE = {
    "cooccurrence, weights", "cooccurrence, factors", "DP popularity", "control: same model on shuffled order",
    "each tenant alone, same epsilon",
}  # fmt: skip


@dataclass(frozen=True)
class Release:
    """What one training of the command was given and added: users of each tenant, and the noise in the sums."""

    tenants: list[int]
    popularity_std: float
    pairs_std: float


@dataclass(frozen=True)
class Run:
    """report: the command's JSON. releases: of its measurements, tuning apart, in order."""

    report: dict[str, Any]
    releases: list[Release]

    @property
    def federated(self) -> list[Release]:
        return [release for release in self.releases if len(release.tenants) > 1]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    history = chain_histories(num_users=sum(SIZES), num_items=40, length=7)
    return write_folder(tmp_path_factory.mktemp("data") / "chains", history, text=True)


@pytest.fixture(scope="module")
def run_with(folder: Path) -> Callable[[str], Run]:
    found: dict[str, Run] = {}

    def run(noise: str) -> Run:
        if noise not in found:
            found[noise] = measured(folder, noise)
        return found[noise]

    return run


def measured(folder: Path, noise: str) -> Run:
    releases: list[Release] = []

    def watched(tenants: Sequence[Interactions], *rest: Any) -> CooccurrenceRelease:
        release = train_cooccurrence(tenants, *rest)
        sizes = [tenant.num_users for tenant in tenants]
        releases.append(Release(sizes, release.popularity_std, release.pairs_std))
        return release

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(experiment, "train_cooccurrence", watched)
        result = CliRunner().invoke(
            sim_app,
            [
                "run", "--data", str(folder), "--recipe", "cooccurrence", "--epsilon", str(EPSILON), "--delta",
                str(DELTA), "--seeds", "2", "--tenants", "3", "--noise", noise, "--tuning-users", "60", "--json",
            ],
        )  # fmt: skip
    assert result.exit_code == 0, result.output
    return Run(json.loads(result.stdout), releases)


@pytest.mark.parametrize("noise", PLACES)
def test_every_row_is_there_and_only_the_protected_ones_claim_it(run_with: Callable[[str], Run], noise: str) -> None:
    rows = {row["name"]: row for row in run_with(noise).report["rows"]}
    assert set(rows) == PRIVATE | REFERENCES
    for name, row in rows.items():
        assert (row["epsilon"], row["delta"]) == ((EPSILON, DELTA) if name in PRIVATE else (None, None)), name
    [selected] = [name for name, row in rows.items() if row["selected"]]
    assert selected in ("cooccurrence, weights", "cooccurrence, factors")
    assert rows["each tenant alone, same epsilon"]["runs"] == 2


@pytest.mark.parametrize("noise", PLACES)
def test_the_statement_names_whom_it_holds_against(run_with: Callable[[str], Run], noise: str) -> None:
    report = run_with(noise).report
    assert (report["settings"]["noise"], report["settings"]["num_tenants"]) == (noise, 3)
    assert report["privacy"]["against"] == PLACES[noise][1]
    assert report["privacy"]["epsilon"] == EPSILON


@pytest.mark.parametrize("noise", PLACES)
def test_the_table_sets_every_tenant_alone_beside_the_federation(run_with: Callable[[str], Run], noise: str) -> None:
    report = run_with(noise).report
    rows = {row["name"]: row["ndcg_at_10"]["mean"] for row in report["rows"]}
    [selected] = [row["ndcg_at_10"]["mean"] for row in report["rows"] if row["selected"]]
    table = report["tenants"]
    assert [(entry["tenant"], entry["num_users"]) for entry in table] == list(enumerate(SIZES))
    # Tenants of one size: the mean over tenants is the mean over learners, which the rows report.
    for column, whole in (("alone", rows["each tenant alone, same epsilon"]), ("federated", selected)):
        each = [entry[f"ndcg_at_10_{column}"] for entry in table]
        assert sum(each) / 3 == pytest.approx(whole)
        assert len(set(each)) == 3


def test_noise_grows_from_central_to_helpers_to_tenants(run_with: Callable[[str], Run]) -> None:
    central = run_with("central").federated[0]
    assert central.popularity_std > 0
    assert central.pairs_std > 0
    for noise, (copies, _) in PLACES.items():
        *private, without_privacy = run_with(noise).federated
        assert (without_privacy.popularity_std, without_privacy.pairs_std) == (0, 0)
        assert len(private) == 4, "two seeds, in order and shuffled"
        for release in private:
            assert release.tenants == SIZES
            assert release.popularity_std == pytest.approx(sqrt(copies) * central.popularity_std)
            assert release.pairs_std == pytest.approx(sqrt(copies) * central.pairs_std)


@pytest.mark.parametrize("noise", PLACES)
def test_a_tenant_alone_adds_the_noise_once_wherever_the_federation_adds_it(
    run_with: Callable[[str], Run], noise: str
) -> None:
    alone = [release for release in run_with(noise).releases if len(release.tenants) == 1]
    assert [release.tenants for release in alone] == [[size] for size in SIZES for _ in range(2)]
    central = run_with("central").federated[0]
    for release in alone:
        assert release.pairs_std == pytest.approx(central.pairs_std)
        assert release.popularity_std == pytest.approx(central.popularity_std)
