import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from shared.errors import BadSetting
from shared.plan import steps
from simulations import poisoning
from simulations.cli import sim_app
from simulations.poison_report import FORMAT, PoisonReport, poison_footer, poison_table
from simulations.poisoning import PoisonSettings, Rule, Scene, run_job, run_poison

ONE, PLAIN, TRIMMED = Rule(cohorts=1, trim=0), Rule(cohorts=5, trim=0), Rule(cohorts=5, trim=1)
SETTINGS = PoisonSettings(data=None, epsilon=20.0, delta=1e-6, num_seeds=1, rules=(ONE, TRIMMED), num_users=1_500)


@pytest.fixture(scope="module")
def scene() -> Scene:
    dataset = poisoning._read(SETTINGS)
    return poisoning._scene(SETTINGS, poisoning.leave_last_out(dataset), dataset.features, 0)


def test_an_item_pushed_in_one_sum_is_shown_and_in_trimmed_cohorts_it_is_not(scene: Scene) -> None:
    before, pushed = run_job(scene, ONE, "none", 0, 0), run_job(scene, ONE, "push", 1, 0)
    assert before.exposure is not None
    assert pushed.exposure is not None
    assert before.exposure < 0.02 < 0.2 < pushed.exposure
    for attack in ("push", "sly"):
        trimmed = run_job(scene, TRIMMED, attack, 1, 0)
        assert trimmed.exposure is not None
        assert trimmed.exposure < 0.1
        assert trimmed.dropped == 0


def test_cohorts_without_a_trim_do_not_stop_what_keeps_within_range(scene: Scene) -> None:
    """The control of the test above: it is the trim that helps."""
    plain = run_job(scene, PLAIN, "push", 1, 0)
    assert plain.exposure is not None
    assert plain.exposure > 0.2


def test_a_loud_tenant_costs_one_sum_its_model_and_cohorts_a_cohort(scene: Scene) -> None:
    alone, dropped = run_job(scene, ONE, "loud", 1, 0), run_job(scene, PLAIN, "loud", 1, 0)
    assert (alone.ndcg_at_10, alone.attempts, alone.dropped) == (None, 3, 1.0)
    assert dropped.ndcg_at_10 is not None
    assert dropped.dropped >= 0.5


def test_malicious_tenants_send_as_much_as_they_say(scene: Scene) -> None:
    step = steps(scene.plan)[0]
    own = scene.popularity[0]
    for attack, length in (("push", 60.0), ("flip", 60.0), ("loud", 6_000.0)):
        sent = poisoning._poison(scene, step, own, {}, attack, length)
        assert np.linalg.norm(sent) == pytest.approx(length)
    assert np.argmax(poisoning._poison(scene, step, own, {}, "push", 60.0)) == scene.item


def test_cohorts_cost_what_is_stated_where_nobody_does_wrong(scene: Scene) -> None:
    assert run_job(scene, ONE, "none", 0, 0).noise_cost == 1.0
    assert run_job(scene, PLAIN, "none", 0, 0).noise_cost == pytest.approx(5**0.5)
    # Tenants by taste differ in size, so a little above what equal cohorts cost, and at times below.
    assert run_job(scene, TRIMMED, "none", 0, 0).noise_cost == pytest.approx(2.384, rel=0.2)


def test_the_report_holds_every_case_once_and_is_strict_json(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def job(_: Scene, rule: Rule, attack: poisoning.Attack, malicious: int, seed: int) -> poisoning.Outcome:
        asked.append((rule, attack, malicious, seed))
        score = None if attack == "loud" else 0.1 + 0.01 * seed
        return poisoning.Outcome(ndcg_at_10=score, exposure=score, noise_cost=1.5, dropped=0.5, attempts=2, share=0.05)

    monkeypatch.setattr(poisoning, "run_job", job)
    monkeypatch.setattr(poisoning, "_scene", lambda *_: scene)
    rows, spreads, name = run_poison(replace(SETTINGS, num_seeds=2))
    assert len(asked) == len(set(asked)) == 2 * 2 * (1 + 2 * 4)
    report = PoisonReport(rows=rows, spreads=spreads, settings={}, data=name, seconds=1.0, peak_memory_mb=1.0)
    read = json.loads(report.to_json(), parse_constant=lambda text: pytest.fail(text))
    assert read["format"] == FORMAT
    assert [row["trained"] for row in read["rows"] if row["attack"] == "loud"] == [0] * 4
    assert read["rows"][0]["ndcg_at_10"] == pytest.approx(0.105)
    assert [each["cohorts"] for each in read["honest_spreads"]] == [5]
    assert poison_table(report).row_count == len(rows) == 18
    assert "clips apart in popularity" in "".join(poison_footer(report))


def test_the_command_prints_json_and_writes_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(poisoning, "run_poison", lambda settings, progress: ((), (), f"seeds {settings.num_seeds}"))
    arguments = ["poison", "--epsilon", "1", "--delta", "1e-6", "--seeds", "7", "--out", str(tmp_path / "out.json")]
    ran = CliRunner().invoke(sim_app, [*arguments, "--json"])
    assert ran.exit_code == 0, ran.output
    written = json.loads((tmp_path / "out.json").read_text())
    assert written == json.loads(ran.stdout)
    assert (written["data"], written["settings"]["num_tenants"]) == ("seeds 7", 16)
    assert "Malicious tenants" in CliRunner().invoke(sim_app, arguments).stdout


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epsilon": 0.0}, "epsilon must be above 0"),
        ({"rules": ()}, "at least one rule"),
        ({"num_tenants": 9}, "9 tenants are too few for the rules, which need 10"),
        ({"malicious": (16,)}, "from 0 to 15"),
    ],
)
def test_settings_that_cannot_be_run_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(BadSetting, match=message):
        replace(SETTINGS, **changes)
