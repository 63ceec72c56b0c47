"""The operator's commands, from a key to a plan, each checked by reading back what it wrote."""

import json
import stat
from pathlib import Path

import pytest
from typer.testing import CliRunner

from server.cli import server_app
from shared.accounting import epsilon
from shared.catalogue import catalogue_from_bytes
from shared.errors import BadSetting, MalformedFile, ZhiyinError
from shared.plan import mechanisms, plan_from_json

RUNNER = CliRunner()
PLAN = """
job_id = "autumn"
noise = "helpers"
epsilon = 1.0
delta = 1e-6
popularity_share = 0.1
min_tenants = 2
min_users = 100
max_users = 1000
bits = 64
helpers = ["north", "east"]

[recipe]
name = "cooccurrence"
num_head_items = 3
gamma = 0.5
max_head_items_per_user = 3
"""


def run(*arguments: object) -> str:
    result = RUNNER.invoke(server_app, [str(argument) for argument in arguments], catch_exceptions=True)
    if isinstance(result.exception, ZhiyinError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.stdout.strip()


def catalogue_file(folder: Path) -> Path:
    (folder / "items.csv").write_text(
        "item,title,text\na,古琴,弹琴\nb,Piano,play\nc,乐理,知识\nd,Singing,voice\n", encoding="utf-8"
    )
    run("catalogue", folder / "items.csv", "--version", 2, "--out", folder / "catalogue.bin")
    return folder / "catalogue.bin"


def plan_of(folder: Path, text: str) -> str:
    (folder / "plan.toml").write_text(text, encoding="utf-8")
    return run("plan", folder / "plan.toml", "--catalogue", catalogue_file(folder), "--out", folder / "plan.json")


def test_cohorts_are_switched_on_in_the_plan_file_and_their_cost_in_noise_is_said(tmp_path: Path) -> None:
    said = plan_of(tmp_path, "cohorts = 5\ntrim = 1\nmax_spread = 0.4\n" + PLAN)
    assert said.splitlines()[0] == (
        "5 cohorts of at least 2 tenants and 100 users, trim 1: "
        "the noise of a step's total is 2.38 times that of one sum"
    )
    made = plan_from_json(json.loads((tmp_path / "plan.json").read_text()))
    assert (made.cohorts, made.trim, made.max_spread) == (5, 1, 0.4)
    assert "noise of a step" not in plan_of(tmp_path, PLAN)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("cohorts = 4\ntrim = 2\n", "trim 2 needs 5 cohorts at least, there are 4"),
        ("cohorts = 2.5\n", "cohorts must be a whole number, got 2.5"),
        ("cohorts = 3\nmax_spread = 3\n", "max_spread must be above 0 and at most 2, which compares nothing, got 3.0"),
        ("cohorts = 15\ntrim = 7\n", "max_users 1000 does not hold 15 cohorts of min_users 100"),
    ],
)
def test_cohorts_that_cannot_be_used_are_refused_in_one_line_with_the_file(
    tmp_path: Path, line: str, message: str
) -> None:
    with pytest.raises(BadSetting) as caught:
        plan_of(tmp_path, line + PLAN)
    assert str(caught.value) == f"{tmp_path / 'plan.toml'}: {message}"


def test_a_key_is_made_once_and_only_its_owner_can_read_it(tmp_path: Path) -> None:
    public = run("keygen", tmp_path / "publisher.key")
    assert len(bytes.fromhex(public)) == 32
    assert stat.S_IMODE((tmp_path / "publisher.key").stat().st_mode) == 0o600
    with pytest.raises(BadSetting, match="exists already"):
        run("keygen", tmp_path / "publisher.key")


def test_a_catalogue_is_built_with_features_of_its_text(tmp_path: Path) -> None:
    snapshot = catalogue_from_bytes(catalogue_file(tmp_path).read_bytes())
    assert snapshot.version == 2
    assert [item.title for item in snapshot.items] == ["古琴", "Piano", "乐理", "Singing"]
    assert snapshot.features.any()


def test_a_catalogue_without_an_item_column_is_refused(tmp_path: Path) -> None:
    (tmp_path / "items.csv").write_text("id,title\na,b\n", encoding="utf-8")
    with pytest.raises(MalformedFile, match="column 'item' is missing"):
        run("catalogue", tmp_path / "items.csv", "--version", 1, "--out", tmp_path / "catalogue.bin")


def test_a_plan_states_what_its_noise_amounts_to(tmp_path: Path) -> None:
    (tmp_path / "plan.toml").write_text(PLAN, encoding="utf-8")
    run("plan", tmp_path / "plan.toml", "--catalogue", catalogue_file(tmp_path), "--out", tmp_path / "plan.json")
    plan = plan_from_json(json.loads((tmp_path / "plan.json").read_bytes()))
    assert 0.999 < epsilon(mechanisms(plan), plan.delta) <= plan.epsilon == 1.0


RECIPE_FIELDS = "the fields of recipe cooccurrence are num_head_items, gamma, max_head_items_per_user"
PLAN_FIELDS = (
    "the fields of a plan are job_id, noise, epsilon, delta, popularity_share, min_tenants, min_users, max_users, "
    "bits, helpers"
)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('name = "cooccurrence"', 'name = "foo"', "[recipe] name must be one of cooccurrence, recon, got 'foo'"),
        ('name = "cooccurrence"', "name = []", "[recipe] name must be one of cooccurrence, recon, got []"),
        ('name = "cooccurrence"', "", "[recipe] name must be one of cooccurrence, recon, got None"),
        ("gamma = 0.5", "", f"[recipe] gamma is missing; {RECIPE_FIELDS}"),
        ("gamma = 0.5", "gama = 0.5", f"[recipe] gama is not known; {RECIPE_FIELDS}"),
        ("gamma = 0.5", "gamma = true", "[recipe] gamma must be a finite number, got True"),
        ("gamma = 0.5", "gamma = -1.0", "[recipe] gamma must not be below zero, got -1.0"),
        ("num_head_items = 3", "num_head_items = 3.0", "[recipe] num_head_items must be a whole number, got 3.0"),
        ("num_head_items = 3", "num_head_items = 5", "num_head_items 5 exceeds the catalogue's 4 items"),
        ("[recipe]", "[recipes]", "a [recipe] table is needed, with a name (cooccurrence, recon) and the recipe's"),
        ("bits = 64", "bits = 20", "bits must be 16, 24, 32 or 64, got 20"),
        ("bits = 64", 'bits = "64"', "bits must be a whole number, got '64'"),
        ("bits = 64", "", f"bits is missing; {PLAN_FIELDS}"),
        ("bits = 64", "bits = 64\nmu = 1.0", f"mu is not known; {PLAN_FIELDS}"),
        ('noise = "helpers"', 'noise = "much"', "noise must be one of helpers, tenant, none, got 'much'"),
        ("epsilon = 1.0", "epsilon = inf", "epsilon must be a finite number, got inf"),
        ("epsilon = 1.0", "epsilon = -1.0", "epsilon must be finite and not below zero, got -1.0"),
        ('helpers = ["north", "east"]', 'helpers = "north"', "helpers must be a list of texts, got 'north'"),
        ('helpers = ["north", "east"]', 'helpers = ["north"]', "helpers must name at least two different parties"),
        ("max_users = 1000", "max_users = 10", "max_users 10 is below min_users 100"),
        ("max_users = 1000\nbits = 64", "max_users = 100_000_000\nbits = 16", "100000000 users with clip 1"),
        ("job_id = ", "job_id ", "not a TOML file"),
    ],
)
def test_a_plan_that_cannot_be_made_is_one_line_with_file_field_and_choices(
    tmp_path: Path, old: str, new: str, said: str
) -> None:
    assert PLAN.count(old) == 1
    path = tmp_path / "plan.toml"
    path.write_text(PLAN.replace(old, new), encoding="utf-8")
    with pytest.raises(BadSetting) as refused:
        run("plan", path, "--catalogue", catalogue_file(tmp_path), "--out", tmp_path / "plan.json")
    assert str(refused.value).startswith(f"{path}: {said}")
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "plan.json").exists()


PAIRWISE = (
    PLAN.replace('noise = "helpers"', 'noise = "shared"\ntopology = "pairwise"').replace(
        'helpers = ["north", "east"]\n', ""
    ).replace("min_tenants = 2", "min_tenants = 4")
    + """
[pairwise]
num_parties = 5
corrupt = 0.2
dropped = 0.1
"""
)  # fmt: skip


def test_the_numbers_of_a_pairwise_plan_follow_from_the_assumed_shares(tmp_path: Path) -> None:
    (tmp_path / "plan.toml").write_text(PAIRWISE, encoding="utf-8")
    run("plan", tmp_path / "plan.toml", "--catalogue", catalogue_file(tmp_path), "--out", tmp_path / "plan.json")
    plan = plan_from_json(json.loads((tmp_path / "plan.json").read_bytes()))
    assert (plan.topology, plan.num_parties, plan.degree, plan.threshold, plan.colluding) == ("pairwise", 5, 4, 3, 1)
    assert epsilon(mechanisms(plan), plan.delta) <= plan.epsilon == 1.0


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("num_parties = 5", "num_parties = 4", "[pairwise] 4 parties of which 1 may collude cannot sum without the 1"),
        ("num_parties = 5", "", "[pairwise] num_parties is missing; the fields of [pairwise] are num_parties, corrupt"),
        ("corrupt = 0.2", "corrupt = 1.0", "[pairwise] a share of the parties must be from 0 to below 1, got 1.0"),
        ("dropped = 0.1", "dropped = 0.1\ndegree = 4", "[pairwise] degree is not known"),
        ("bits = 64", "bits = 64\nthreshold = 3", "threshold is not known"),
        ("[pairwise]", "[pairs]", 'topology "pairwise" needs a [pairwise] table'),
        ('topology = "pairwise"', "", 'a [pairwise] table goes with topology = "pairwise"'),
        ('noise = "shared"', 'noise = "helpers"', "noise must be one of tenant, shared, none, got 'helpers'"),
        ("min_tenants = 4", "min_tenants = 2", "colluding must be from 0 to min_tenants - 2 = 0, got 1"),
    ],
)
def test_a_pairwise_plan_that_cannot_be_made_is_one_line_with_the_field(
    tmp_path: Path, old: str, new: str, said: str
) -> None:
    assert PAIRWISE.count(old) == 1
    path = tmp_path / "plan.toml"
    path.write_text(PAIRWISE.replace(old, new), encoding="utf-8")
    with pytest.raises(BadSetting) as refused:
        run("plan", path, "--catalogue", catalogue_file(tmp_path), "--out", tmp_path / "plan.json")
    assert str(refused.value).startswith(f"{path}: {said}")
    assert "\n" not in str(refused.value)


def test_a_catalogue_or_plan_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "plan.toml").write_text(PLAN, encoding="utf-8")
    damaged = tmp_path / "damaged.bin"
    damaged.write_bytes(b"nothing")
    for path, catalogue, at_fault in (
        ("plan.toml", "no.bin", "no.bin"),
        ("plan.toml", "damaged.bin", "damaged.bin"),
        ("no.toml", "no.bin", "no.toml"),
    ):  # fmt: skip
        with pytest.raises((BadSetting, MalformedFile), match=str(tmp_path / at_fault)):
            run("plan", tmp_path / path, "--catalogue", tmp_path / catalogue, "--out", tmp_path / "plan.json")


def test_releases_of_no_folder_are_refused_in_words(tmp_path: Path) -> None:
    with pytest.raises(BadSetting, match="no ledger of releases"):
        run("releases", tmp_path / "nothing")
