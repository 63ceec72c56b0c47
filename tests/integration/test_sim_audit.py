"""`zhiyin sim audit --quick`: every attack on the real product, in process, and every control beside it."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

import simulations.auditing.run
from shared.errors import BadSetting
from simulations.auditing import masks
from simulations.auditing.run import AuditSettings
from simulations.cli import sim_app


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("audit")


@pytest.fixture(scope="module")
def result(folder: Path) -> Result:
    places = ["--out", str(folder / "audit.json"), "--html", str(folder / "audit.html")]
    return CliRunner().invoke(sim_app, ["audit", "--quick", "--seed", "3", "--json", *places])


@pytest.fixture(scope="module")
def report(result: Result) -> dict[str, Any]:
    found = json.loads(result.stdout, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert isinstance(found, dict)
    return found


def test_the_command_passes_and_writes_what_it_prints(
    result: Result, report: dict[str, Any], folder: Path
) -> None:  # fmt: skip
    assert result.exit_code == 0, result.output
    assert report["passed"] is True
    assert json.loads((folder / "audit.json").read_text(encoding="utf-8")) == report
    page = (folder / "audit.html").read_text(encoding="utf-8")
    assert page.startswith("<!doctype html>")
    assert page.count("data:image/png;base64,") == 4


def test_every_row_says_what_a_reader_needs(report: dict[str, Any]) -> None:
    for row in report["findings"]:
        assert {"name", "world", "statistic", "estimate", "low", "high", "allowed", "trials", "verdict", "seed"} <= {
            *row
        }
        assert row["seed"] == 3
        assert row["trials"] > 0


def test_the_real_system_stays_within_its_statement_and_every_control_is_caught(report: dict[str, Any]) -> None:
    verdicts = {(row["kind"], row["verdict"]) for row in report["findings"]}
    assert {verdict for kind, verdict in verdicts if kind == "attack"} == {"within the statement"}
    assert {verdict for kind, verdict in verdicts if kind == "control"} == {"caught"}
    assert {verdict for kind, verdict in verdicts if kind == "residual"} <= {"within the statement", "residual leak"}


def test_each_attack_has_rows_on_the_real_system_and_controls(report: dict[str, Any]) -> None:
    for attack in ("masks", "transcript", "membership", "canary"):
        kinds = [row["kind"] for row in report["findings"] if row["attack"] == attack]
        assert {"attack", "control"} <= {*kinds}
    assert {row["statistic"] for row in report["findings"] if row["name"].startswith("presence")} == {
        f"advantage, {feature}" for feature in ("conduct", "sizes", "bytes", "together", "time", "sums")
    }


def test_every_kind_of_published_model_is_attacked_with_reference_models(report: dict[str, Any]) -> None:
    strong = [row for row in report["findings"] if row["attack"] == "membership" and "reference models" in row["name"]]
    for model in (
        "reference models, epsilon 2",
        "reference models, factors, epsilon 2",
        "reference models, recon, epsilon 2",
    ):
        assert {row["statistic"] for row in strong if row["name"] == model} == {"AUC", "TPR at 1 % FPR"}
    controls = {row["name"]: row["verdict"] for row in strong if row["kind"] == "control"}
    assert len(controls) == 3
    assert set(controls.values()) == {"caught"}


def test_time_is_measured_and_what_it_tells_is_said(report: dict[str, Any]) -> None:
    rows = [row for row in report["findings"] if row["name"].startswith("time of an answer")]
    kinds = {row["name"].removeprefix("time of an answer, "): (row["kind"], row["verdict"]) for row in rows}
    assert list(kinds) == ["popularity, at once", "popularity, on time", "pairs, at once", "pairs, on time"]
    # Sixty times as many interactions take longer to read and to pair, and that is what answer_seconds is for.
    assert kinds["pairs, at once"] == ("control", "caught")
    assert {kinds[f"{kind}, on time"] for kind in ("popularity", "pairs")} == {("attack", "within the statement")}
    assert "ms for the most" in rows[1]["note"]


def test_a_control_that_is_not_caught_fails_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(masks, "no_mask", masks.real_mask)
    blind = CliRunner().invoke(sim_app, ["audit", "--quick", "--only", "masks"])
    assert blind.exit_code == 1
    assert "touched items, no mask: not caught" in blind.output.replace("\n", " ")


def test_a_leak_in_the_real_system_fails_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(masks, "real_mask", masks.guessable_mask)
    leaking = CliRunner().invoke(sim_app, ["audit", "--quick", "--only", "masks"])
    assert leaking.exit_code == 1
    assert "touched items, real masks: exceeds the statement" in leaking.output.replace("\n", " ")


@pytest.mark.parametrize("option", ["--out", "--html"])
def test_a_report_that_cannot_be_written_is_refused_before_the_audit(
    option: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(simulations.auditing.run, "run_audit", lambda *_: pytest.fail("it ran"))
    result = CliRunner().invoke(sim_app, ["audit", option, str(tmp_path / "missing" / "report")])
    assert isinstance(result.exception, BadSetting)


def test_settings_without_an_attack_are_refused() -> None:
    with pytest.raises(BadSetting, match="at least one"):
        AuditSettings(seed=1, attacks=())
