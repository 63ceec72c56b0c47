"""The ledger: charged before release, never twice, never beyond the budget, and it says when it was touched."""

import math
import shutil
import sqlite3
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

import client.ledger
from client.ledger import Ledger
from shared import accounting
from shared.accounting import Budget
from shared.errors import AlreadyAnswered, BadInput, BadSetting, BudgetExhausted, MalformedFile
from shared.mechanism import DiscreteGaussian, Gaussian, PoissonSampledGaussian

BUDGET = Budget(epsilon=1.0, delta=1e-6)
NOISE = Gaussian(noise_std=20.0, sensitivity=1.0)


def charge(ledger: Ledger, number: int, mechanism: Gaussian | DiscreteGaussian | None = NOISE) -> None:
    context = number.to_bytes(32, "big")
    ledger.charge(
        job_id="job", step=number, attempt=0, context=context, mechanism=mechanism, budget=BUDGET, job_budget=None
    )


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger.create(tmp_path / "ledger.db", clock=lambda: 1_700_000_000.0)


def test_a_charge_is_read_back_with_everything_it_said(ledger: Ledger) -> None:
    noise = DiscreteGaussian(noise_std=40_000, sensitivity=1030.5, num_coordinates=12)
    charge(ledger, 7, noise)
    (entry,) = Ledger.open(ledger.path).entries()
    assert (entry.kind, entry.job_id, entry.step, entry.attempt) == ("release", "job", 7, 0)
    assert entry.mechanism == noise
    assert entry.recorded_at == 1_700_000_000
    assert ledger.spent() == (noise,)


def test_spent_epsilon_is_that_of_the_composition(ledger: Ledger) -> None:
    assert ledger.spent_epsilon(1e-6) == 0
    for number in range(3):
        charge(ledger, number)
    assert ledger.spent_epsilon(1e-6) == pytest.approx(accounting.epsilon([NOISE] * 3, 1e-6))


def test_the_budget_is_never_passed_whatever_is_asked(ledger: Ledger) -> None:
    granted = next(number for number in range(1000) if accounting.epsilon([NOISE] * (number + 1), 1e-6) > 1)
    for number in range(granted):
        charge(ledger, number)
    for number in range(granted, granted + 3):
        with pytest.raises(BudgetExhausted, match="budget is 1"):
            charge(ledger, number)
    assert len(ledger.entries()) == granted >= 10


def test_a_refused_charge_leaves_no_trace(ledger: Ledger) -> None:
    with pytest.raises(BudgetExhausted):
        charge(ledger, 0, Gaussian(noise_std=0.1, sensitivity=1.0))
    assert ledger.entries() == ()
    charge(ledger, 0)


def test_a_context_is_charged_once_even_after_a_restart(ledger: Ledger) -> None:
    charge(ledger, 1)
    with pytest.raises(AlreadyAnswered):
        charge(Ledger.open(ledger.path), 1)
    assert len(ledger.entries()) == 1


def test_a_helper_answers_a_context_once_even_after_a_restart(ledger: Ledger) -> None:
    context = b"\x05" * 32
    ledger.answer_once([context])
    with pytest.raises(AlreadyAnswered):
        Ledger.open(ledger.path).answer_once([context])
    assert ledger.spent() == ()


@pytest.mark.parametrize("contexts", [(b"\x06" * 32, b"\x05" * 32), (b"\x06" * 32, b"\x06" * 32)])
def test_several_contexts_are_answered_all_or_none(ledger: Ledger, contexts: tuple[bytes, ...]) -> None:
    ledger.answer_once([b"\x05" * 32])
    with pytest.raises(AlreadyAnswered):
        ledger.answer_once(contexts)
    assert len(ledger.entries()) == 1
    ledger.answer_once([b"\x06" * 32, b"\x07" * 32])
    assert [entry.context for entry in Ledger.open(ledger.path).entries()] == [bytes([n]) * 32 for n in (5, 6, 7)]


def test_the_chain_is_verified_once_however_many_slots_are_answered(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger.answer_once([bytes([n]) * 32 for n in range(10)])
    links = 0

    def counted(previous: bytes, row: Sequence[Any]) -> bytes:
        nonlocal links
        links += 1
        return chained(previous, row)

    chained = client.ledger._chained
    monkeypatch.setattr(client.ledger, "_chained", counted)
    ledger.answer_once([bytes([n]) * 32 for n in range(10, 15)])
    assert links == 10 + 5  # each entry that was there, and each that was made
    assert [entry.sequence for entry in Ledger.open(ledger.path).entries()] == list(range(1, 16))


def test_a_party_may_contribute_to_a_context_and_help_with_it(ledger: Ledger) -> None:
    charge(ledger, 3)
    ledger.answer_once([(3).to_bytes(32, "big")])
    assert [entry.kind for entry in ledger.entries()] == ["release", "answer"]


def test_a_release_without_noise_fits_no_budget(ledger: Ledger) -> None:
    with pytest.raises(BudgetExhausted, match="without noise"):
        charge(ledger, 0, None)


def test_after_a_release_without_noise_no_finite_budget_covers_anything(ledger: Ledger) -> None:
    ledger.charge(job_id="job", step=0, attempt=0, context=b"\x01" * 32, mechanism=None, budget=None, job_budget=None)
    assert math.isinf(ledger.spent_epsilon(1e-6))
    assert ledger.unprotected_releases() == 1
    with pytest.raises(BudgetExhausted):
        charge(ledger, 5)


def test_a_mechanism_that_cannot_be_accounted_is_refused(ledger: Ledger) -> None:
    sampled = PoissonSampledGaussian(sample_rate=0.01, noise_multiplier=5.0, steps=1)
    with pytest.raises(Exception, match="sampled"):
        ledger.charge(
            job_id="j", step=0, attempt=0, context=b"\x01" * 32, mechanism=sampled, budget=BUDGET, job_budget=None
        )
    assert ledger.entries() == ()


def test_room_for_a_whole_job_is_told_before_its_first_step(ledger: Ledger) -> None:
    ledger.require_room(BUDGET, [NOISE] * 3, job_id="job", job_budget=None)
    with pytest.raises(BudgetExhausted):
        ledger.require_room(BUDGET, [NOISE] * 1000, job_id="job", job_budget=None)
    assert ledger.entries() == ()


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM entries",
        "DELETE FROM entries WHERE sequence = 2",
        "UPDATE entries SET mechanism = ''",
        "UPDATE entries SET step = 99 WHERE sequence = 1",
        "INSERT OR REPLACE INTO entries SELECT 1, kind, context, job_id, 9, attempt, mechanism, 0, digest FROM entries",
        "INSERT INTO entries SELECT 9, kind, randomblob(32), job_id, 9, 0, mechanism, 0, digest FROM entries LIMIT 1",
        "UPDATE identity SET ledger_id = 'x'",
        "DELETE FROM identity",
        "INSERT INTO identity VALUES ('a', 'b')",
    ],
)
def test_the_database_itself_refuses_every_change(ledger: Ledger, statement: str) -> None:
    charge(ledger, 0)
    charge(ledger, 1)
    before = ledger.entries()
    connection = sqlite3.connect(ledger.path)
    with pytest.raises(sqlite3.IntegrityError, match="only grows"):
        connection.execute(statement)
    connection.rollback()
    connection.close()
    assert ledger.entries() == before


def tamper(path: Path, statement: str) -> None:
    """Change the file as somebody would who knows SQLite and takes the triggers away first."""
    connection = sqlite3.connect(path)
    for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
        connection.execute(f"DROP TRIGGER {name}")
    connection.execute(statement)
    connection.commit()
    connection.close()


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM entries",
        "DELETE FROM entries WHERE sequence = 3",
        "DELETE FROM entries WHERE sequence = 1",
        "UPDATE entries SET mechanism = replace(mechanism, '20.0', '99.0') WHERE sequence = 2",
        "UPDATE entries SET context = randomblob(32) WHERE sequence = 2",
        "UPDATE entries SET kind = 'answer' WHERE sequence = 2",
        "UPDATE entries SET recorded_at = 0 WHERE sequence = 1",
        "UPDATE entries SET attempt = 5 WHERE sequence = 3",
        "UPDATE entries SET digest = zeroblob(32) WHERE sequence = 3",
        "INSERT INTO entries SELECT 4, kind, randomblob(32), job_id, 0, 0, mechanism, 0, digest FROM entries LIMIT 1",
        "UPDATE identity SET ledger_id = '" + "0" * 64 + "'",
        "DROP TABLE entries",
    ],
)
def test_a_change_behind_its_back_is_noticed_at_the_next_use(ledger: Ledger, statement: str) -> None:
    for number in range(3):
        charge(ledger, number)
    tamper(ledger.path, statement)
    with pytest.raises(MalformedFile):
        Ledger.open(ledger.path)
    with pytest.raises(MalformedFile):
        charge(ledger, 9)


def test_taking_the_triggers_away_alone_changes_nothing(ledger: Ledger) -> None:
    charge(ledger, 0)
    tamper(ledger.path, "SELECT 1")
    charge(ledger, 1)
    assert len(Ledger.open(ledger.path).entries()) == 2


def test_an_older_copy_put_back_is_noticed(ledger: Ledger, tmp_path: Path) -> None:
    charge(ledger, 0)
    shutil.copy2(ledger.path, tmp_path / "backup.db")
    charge(ledger, 1)
    shutil.copy2(tmp_path / "backup.db", ledger.path)
    with pytest.raises(MalformedFile, match="older copy"):
        Ledger.open(ledger.path)


def test_a_ledger_made_anew_beside_old_marks_is_noticed(ledger: Ledger, tmp_path: Path) -> None:
    charge(ledger, 0)
    fresh = Ledger.create(tmp_path / "fresh.db")
    shutil.copy2(fresh.path, ledger.path)
    with pytest.raises(MalformedFile, match="another ledger"):
        Ledger.open(ledger.path)


def test_an_older_copy_of_ledger_and_marks_together_is_not_noticed_inside_but_is_with_marks_elsewhere(
    tmp_path: Path,
) -> None:
    home, elsewhere = tmp_path / "home", tmp_path / "elsewhere"
    home.mkdir()
    elsewhere.mkdir()
    apart = Ledger.create(home / "ledger.db", marks=elsewhere / "ledger.marks")
    charge(apart, 0)
    shutil.copytree(home, tmp_path / "backup")
    charge(apart, 1)
    shutil.rmtree(home)
    shutil.copytree(tmp_path / "backup", home)
    with pytest.raises(MalformedFile, match="older copy"):
        Ledger.open(home / "ledger.db", marks=elsewhere / "ledger.marks")


def test_a_crash_between_commit_and_mark_is_no_alarm(ledger: Ledger) -> None:
    charge(ledger, 0)
    marks = ledger.marks.read_bytes()
    charge(ledger, 1)
    ledger.marks.write_bytes(marks)
    assert len(Ledger.open(ledger.path).entries()) == 2


@pytest.mark.parametrize("torn", range(1, 134, 11))
def test_a_torn_mark_is_skipped_and_the_next_one_counts(ledger: Ledger, torn: int) -> None:
    charge(ledger, 0)
    whole = ledger.marks.read_bytes()
    charge(ledger, 1)
    ledger.marks.write_bytes(whole + ledger.marks.read_bytes()[len(whole) :][:torn])
    charge(ledger, 2)
    assert ledger._last_mark(ledger.marks.read_text().split()[0])[0] == 3
    assert len(Ledger.open(ledger.path).entries()) == 3


def test_lost_marks_are_noticed(ledger: Ledger) -> None:
    charge(ledger, 0)
    ledger.marks.write_bytes(b"")
    with pytest.raises(MalformedFile, match="no mark"):
        Ledger.open(ledger.path)
    ledger.marks.unlink()
    with pytest.raises(BadSetting, match="missing"):
        Ledger.open(ledger.path)


def test_a_ledger_is_not_started_over_an_old_one(ledger: Ledger) -> None:
    with pytest.raises(FileExistsError):
        Ledger.create(ledger.path)
    ledger.path.unlink()
    with pytest.raises(FileExistsError):
        Ledger.create(ledger.path)


def test_a_ledger_that_others_can_read_is_refused(ledger: Ledger) -> None:
    ledger.path.chmod(0o640)
    with pytest.raises(BadSetting, match="chmod 600"):
        Ledger.open(ledger.path)


@pytest.mark.parametrize("damage", [b"", b"not a database at all" * 100])
def test_a_damaged_file_is_refused_with_its_name(ledger: Ledger, damage: bytes) -> None:
    ledger.path.write_bytes(damage)
    with pytest.raises(MalformedFile, match=r"ledger\.db"):
        Ledger.open(ledger.path)


def test_threads_that_charge_together_stay_within_the_budget(ledger: Ledger) -> None:
    strong = Gaussian(noise_std=5.0, sensitivity=1.0)
    assert accounting.epsilon([strong], 1e-6) <= 1 < accounting.epsilon([strong] * 2, 1e-6)
    outcomes: list[str] = []
    start = threading.Barrier(4)

    def ask(number: int) -> None:
        start.wait()
        try:
            charge(ledger, number, strong)
            outcomes.append("granted")
        except BudgetExhausted:
            outcomes.append("refused")

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["granted", "refused", "refused", "refused"]


def charge_job(ledger: Ledger, number: int, mechanism: Gaussian, limit: float, job_id: str = "job") -> None:
    ledger.charge(
        job_id=job_id, step=0, attempt=number, context=number.to_bytes(32, "big"), mechanism=mechanism,
        budget=Budget(epsilon=50.0, delta=1e-6), job_budget=Budget(epsilon=limit, delta=1e-6),
    )  # fmt: skip


def test_repeated_attempts_of_one_job_never_cost_more_than_one_job_may(ledger: Ledger) -> None:
    limit = accounting.epsilon([NOISE] * 3, 1e-6)
    for attempt in range(3):
        charge_job(ledger, attempt, NOISE, limit)
    with pytest.raises(BudgetExhausted, match=rf"job job from {limit:.6g} to .* one job may cost {limit:g}"):
        charge_job(ledger, 3, NOISE, limit)
    with pytest.raises(BudgetExhausted, match="max_epsilon_per_job"):
        ledger.require_room(None, [NOISE], job_id="job", job_budget=Budget(epsilon=limit, delta=1e-6))
    assert len(ledger.entries()) == 3


def test_what_other_jobs_cost_is_not_counted_to_this_one(ledger: Ledger) -> None:
    limit = accounting.epsilon([NOISE], 1e-6)
    charge_job(ledger, 0, NOISE, limit)
    charge_job(ledger, 1, NOISE, limit, job_id="another")
    assert len(ledger.entries()) == 2


def test_a_job_that_had_a_release_without_noise_fits_no_finite_figure(ledger: Ledger) -> None:
    ledger.charge(job_id="job", step=0, attempt=0, context=b"\x01" * 32, mechanism=None, budget=None, job_budget=None)
    limit = Budget(epsilon=50.0, delta=1e-6)
    with pytest.raises(BudgetExhausted, match="from inf to inf"):
        ledger.require_room(None, [NOISE], job_id="job", job_budget=limit)
    ledger.require_room(None, [NOISE], job_id="another", job_budget=limit)


def test_a_job_without_a_bound_is_only_ever_asked_for_by_saying_so(ledger: Ledger) -> None:
    charged = {"job_id": "job", "step": 0, "attempt": 0, "context": bytes(32), "mechanism": NOISE, "budget": BUDGET}
    with pytest.raises(TypeError, match="job_budget"):
        ledger.charge(**charged)
    with pytest.raises(TypeError, match="job_budget"):
        ledger.require_room(BUDGET, [NOISE], job_id="job")  # type: ignore[call-arg]
    assert ledger.entries() == ()


@pytest.mark.parametrize("damage", [lambda path: path.write_bytes(b"damaged" * 1000), Path.unlink])
def test_a_lost_ledger_is_to_be_treated_as_spent_and_not_restored_from_a_backup(
    ledger: Ledger, damage: Callable[[Path], None]
) -> None:
    damage(ledger.path)
    for use in (lambda: Ledger.open(ledger.path), ledger.entries, lambda: ledger.answer_once([bytes(32)])):
        with pytest.raises(BadInput, match="treat what it lost as spent") as said:
            use()
        assert "backup" not in str(said.value)
