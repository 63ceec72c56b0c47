import json
import math
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from shared.accounting import epsilon as accounted_epsilon
from shared.errors import BadSetting
from shared.plan import CooccurrencePlan
from shared.ranking import FoldIn
from shared.recipes.readouts import WeightsSettings
from simulations.cli import sim_app
from simulations.evaluate import Cases, measure, without_last
from simulations.private import Noise, cooccurrence_model, model_scorer, train_cooccurrence, train_recon
from simulations.report import Report, html_report
from simulations.run import RunSettings, run
from simulations.tuning import RECON_SMALL, RememberedEigh, descend, head_size
from tests.recipes_cast import chain_histories, write_folder

NAMES = (
    "cooccurrence, weights", "cooccurrence, factors", "DP popularity", "popularity", "content alone", "EASE",
    "EASE with recency", "iALS", "first-order Markov", "windowed item-to-next",
    "control: same model on shuffled order", "control: no federation (must be at chance)",
    "cooccurrence, pooled without privacy", "each tenant alone, same epsilon",
)  # fmt: skip
HISTORY = chain_histories(num_users=600, num_items=40, length=7)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("data") / "chains", HISTORY, text=True)


@pytest.fixture(scope="module")
def report(folder: Path) -> Report:
    return run(
        RunSettings(
            data=folder,
            recipe="cooccurrence",
            epsilon=8.0,
            delta=1e-5,
            num_seeds=3,
            num_tenants=2,
            noise="helpers",
            tuning_users=150,
        )
    )


def test_a_report_names_every_reference_and_control(report: Report) -> None:
    names = [row.name for row in report.rows]
    for expected in NAMES:
        assert expected in names
    assert [entry["num_users"] for entry in report.tenants] == [300, 300]


def test_without_federation_the_score_is_chance_and_with_it_far_above(report: Report) -> None:
    control = next(row for row in report.rows if "no federation" in row.name)
    by_chance = report.chance["ndcg_at_10"]
    assert control.ndcg_at_10.mean == pytest.approx(by_chance, rel=0.2)
    assert report.best.ndcg_at_10.mean > 1.5 * by_chance


def test_the_better_read_out_is_chosen_on_validation(report: Report) -> None:
    selected = [entry for entry in report.hyper_parameters if entry["selected"]]
    assert len(selected) == 1
    assert selected[0]["validation_ndcg_at_10"] == max(
        entry["validation_ndcg_at_10"] for entry in report.hyper_parameters
    )
    assert report.best.readout == selected[0]["readout"]


def test_the_statement_accounts_for_what_was_asked(report: Report) -> None:
    assert report.privacy is not None
    assert accounted_epsilon(report.privacy.mechanisms, 1e-5) == pytest.approx(8.0, rel=1e-6)
    assert report.privacy.tuned_on_data
    assert "one helper is honest" in report.privacy.against


def test_the_json_is_strict_and_says_all(report: Report) -> None:
    value = json.loads(report.to_json(), parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    row = value["rows"][0]
    assert {"name", "recipe", "readout", "epsilon", "delta", "hr_at_10", "ndcg_at_10"} <= set(row)
    assert set(row["ndcg_at_10"]) == {"mean", "sd"}
    assert row["ndcg_at_10"]["sd"] > 0
    assert value["seeds"] == [0, 1, 2]
    assert value["timings_seconds"]["tune"] > 0
    assert value["peak_memory_mb"] > 1


def test_the_page_stands_alone(report: Report) -> None:
    page = html_report(report)
    assert "data:image/png;base64," in page
    assert "http" not in page.replace("http-equiv", "")


def test_order_carries_this_data_and_the_control_notices(report: Report) -> None:
    shuffled = next(row for row in report.rows if "shuffled" in row.name)
    assert shuffled.ndcg_at_10.mean < report.best.ndcg_at_10.mean


def model_value(noise: Noise, *, seed: int = 0) -> float:
    train, targets = without_last(HISTORY)
    plan = CooccurrencePlan(num_head_items=40, gamma=1.0, max_head_items_per_user=20)
    release = train_cooccurrence([train], plan, noise, np.random.default_rng(seed))
    readout = WeightsSettings(threshold=0.0, ridge=0.01, diagonal=0.5)
    model = cooccurrence_model(release, readout, FoldIn(recency=2.0), mu=math.inf)
    scorer = model_scorer(model, np.zeros((40, 0), dtype=np.float32))
    return measure(scorer, Cases(histories=train, targets=targets)).ndcg_at_10


def test_more_noise_costs_more() -> None:
    exact = Noise(epsilon=math.inf, delta=1e-5, popularity_share=0.1)
    values = [
        float(np.mean([model_value(replace(exact, epsilon=epsilon, copies=copies), seed=seed) for seed in range(3)]))
        for epsilon, copies in ((math.inf, 1), (3.0, 1), (3.0, 20), (0.1, 1))
    ]
    assert values[0] > values[1] > values[2] > values[3]


def test_the_noise_in_a_release_is_the_noise_that_is_accounted() -> None:
    train, _ = without_last(HISTORY)
    plan = CooccurrencePlan(num_head_items=40, gamma=1.0, max_head_items_per_user=20)
    noise = Noise(epsilon=2.0, delta=1e-5, popularity_share=0.2, copies=3)
    noisy = train_cooccurrence([train], plan, noise, np.random.default_rng(3))
    exact = train_cooccurrence([train], plan, replace(noise, epsilon=math.inf), np.random.default_rng(3))
    first, second = noise.mechanisms()
    assert np.std(noisy.popularity - exact.popularity) == pytest.approx(3**0.5 * first.noise_std, rel=0.3)
    if np.array_equal(noisy.head, exact.head):
        assert np.std(noisy.pairs - exact.pairs) == pytest.approx(3**0.5 * second.noise_std, rel=0.1)
    assert noisy.pairs_std == pytest.approx(3**0.5 * second.noise_std)
    with pytest.raises(ValueError, match="protects nobody"):
        replace(noise, part=0.5).mechanisms()


@pytest.mark.parametrize("split", [1, 3])
def test_recon_does_not_depend_on_how_users_are_divided(split: int) -> None:
    plan = replace(RECON_SMALL, num_head_items=20, num_rounds=2)
    noise = Noise(epsilon=5.0, delta=1e-5, popularity_share=0.1)
    whole = train_recon([HISTORY], plan, noise, np.random.default_rng(0))
    cuts = np.linspace(0, 600, split + 1).astype(int)
    parts = [HISTORY.users(int(low), int(high)) for low, high in pairwise(cuts)]
    divided = train_recon(parts, plan, noise, np.random.default_rng(0))
    np.testing.assert_allclose(divided.item_factors, whole.item_factors, atol=1e-6)


def test_a_cohort_too_small_for_pairs_gets_popularity(folder: Path, tmp_path: Path) -> None:
    few = write_folder(tmp_path / "few", HISTORY.users(0, 40))
    made = run(RunSettings(data=few, recipe="cooccurrence", epsilon=0.5, delta=1e-5, num_seeds=1, references=False))
    best, popularity = made.best, next(row for row in made.rows if row.name == "DP popularity")
    assert best.ndcg_at_10.mean == pytest.approx(popularity.ndcg_at_10.mean)


def test_descent_finds_the_best_of_a_separable_grid() -> None:
    start = WeightsSettings(threshold=0.0, ridge=1.0, diagonal=1.0)
    grid = {"threshold": (0.0, 1.0, 2.0), "ridge": (0.1, 1.0, 10.0)}
    best, value = descend(start, grid, lambda s: -((s.threshold - 2) ** 2) - (s.ridge - 0.1) ** 2)
    assert (best.threshold, best.ridge, value) == (2.0, 0.1, 0.0)


def test_the_head_grows_with_users_and_budget_and_never_beyond_the_catalogue() -> None:
    sizes = [head_size(users, 3000, mu) for users, mu in ((500, 0.2), (6000, 0.2), (6000, 1.0), (98_000, 0.2))]
    assert sizes == sorted(sizes)
    assert head_size(10**7, 300, 1.0) == 300


def test_impossible_settings_are_refused(folder: Path) -> None:
    with pytest.raises(BadSetting, match="delta"):
        RunSettings(data=folder, recipe="recon", epsilon=1.0, delta=1.0, num_seeds=1)
    with pytest.raises(BadSetting, match="seeds"):
        RunSettings(data=folder, recipe="recon", epsilon=1.0, delta=1e-5, num_seeds=0)


def test_the_command_prints_json_and_writes_files(folder: Path, tmp_path: Path) -> None:
    out, page = tmp_path / "report.json", tmp_path / "report.html"
    result = CliRunner().invoke(
        sim_app,
        [
            "run", "--data", str(folder), "--recipe", "recon", "--epsilon", "8", "--delta", "1e-5", "--seeds", "2",
            "--tuning-users", "100", "--no-references", "--json", "--out", str(out), "--html", str(page),
        ],
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    rows = json.loads(result.stdout)["rows"]
    assert [row["recipe"] for row in rows] == ["recon", None]
    assert json.loads(out.read_text(encoding="utf-8"))["rows"] == rows
    assert page.read_text(encoding="utf-8").startswith("<!doctype html>")


@pytest.mark.parametrize(
    ("option", "place", "message"),
    [("--out", "missing/report.json", "no folder that can be"), ("--html", ".", "a folder; give")],
)
def test_a_report_that_cannot_be_written_is_refused_before_the_run(
    tmp_path: Path, option: str, place: str, message: str
) -> None:
    (tmp_path / "interactions.csv").write_text("not even a header that is read")
    arguments = ["run", "--data", str(tmp_path), "--recipe", "recon", "--epsilon", "1", "--delta", "1e-5"]
    result = CliRunner().invoke(sim_app, [*arguments, option, str(tmp_path / place)])
    assert isinstance(result.exception, BadSetting)
    assert message in str(result.exception)


def test_remembered_eigenvalues_are_the_same_bits_and_asked_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked, eigh = [], np.linalg.eigh
    matrices = [np.diag(np.arange(3.0) + shift) for shift in range(3)]
    monkeypatch.setattr(np.linalg, "eigh", lambda matrix: (asked.append(matrix[0, 0]), eigh(matrix))[1])
    remembered = RememberedEigh(capacity=2)
    for place in (0, 1, 0, 2, 0, 1):
        values, vectors = remembered(matrices[place].copy())
        assert values.tobytes() == eigh(matrices[place])[0].tobytes()
        assert vectors.tobytes() == eigh(matrices[place])[1].tobytes()
    # The second was forgotten for the third, the first was in use all along.
    assert asked == [0, 1, 2, 1]
    with pytest.raises(ValueError, match="read-only"):
        values[0] = 1
