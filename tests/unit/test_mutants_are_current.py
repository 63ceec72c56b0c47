"""The record of mutants fits the code and the tests of today, and its runner tells a caught guard from all else."""

import io
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from tests.mutants import run as runner
from tests.mutants.guards import GUARDS
from tests.mutants.record import PROJECT, Edit, Mutant, Stale, mutated, require_tests
from tests.mutants.run import Report, judge, main, pytest_report

ONE = GUARDS[0]


@pytest.mark.parametrize("mutant", GUARDS, ids=lambda mutant: mutant.name)
def test_every_guard_is_where_the_record_says_and_so_are_its_tests(mutant: Mutant) -> None:
    before = {edit.path: (PROJECT / edit.path).read_text(encoding="utf-8") for edit in mutant.edits}
    after = mutated(mutant, PROJECT)
    assert after.keys() == before.keys()
    assert all(after[path] != before[path] for path in before)
    require_tests(mutant, PROJECT)


def test_guards_have_names_of_their_own_and_say_who_gains_what() -> None:
    names = [mutant.name for mutant in GUARDS]
    assert len(set(names)) == len(names)
    assert all(mutant.adversary.endswith(".") and len(mutant.adversary) > 30 for mutant in GUARDS)


def test_the_documents_say_how_many_there_are() -> None:
    for name, words in (("docs/threat-model.md", "takes {} guards"), ("CHANGELOG.md", "in turn, {} of them")):
        assert words.format(len(GUARDS)) in (PROJECT / name).read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"old": "a guard that nobody wrote"}, "0 times"),
        ({"old": "import"}, "[1-9][0-9]+ times"),
        ({"path": "shared/no_such_file.py"}, "cannot be read"),
        ({"new": "    if (\n"}, "no longer compiles"),
        ({"new": ONE.old}, "1 times"),
        ({"also": (Edit(path=ONE.path, old=ONE.old, new="pass"),)}, "0 times"),
    ],
)
def test_a_record_that_no_longer_fits_the_code_is_noticed(change: dict[str, str], said: str) -> None:
    with pytest.raises(Stale, match=said):
        mutated(replace(ONE, **change), PROJECT)


@pytest.mark.parametrize(
    "tests",
    [(), ("tests/unit/test_wire.py::test_no_such",), ("tests/unit/no_such.py::test_x",), (f"{ONE.tests[0]}_x",)],
)
def test_a_record_whose_test_is_gone_is_noticed(tests: tuple[str, ...]) -> None:
    with pytest.raises(Stale, match="no test"):
        require_tests(replace(ONE, tests=tests), PROJECT)


@pytest.mark.parametrize(
    ("code", "said", "verdict"),
    [
        (1, "Failed: DID NOT RAISE BadSignature", "caught"),
        (1, "AssertionError: assert 1 == 2", "caught"),
        (1, "assert 1 == 2", "caught"),
        (1, "AssertionError: Regex pattern did not match.\n  Expected regex: 'a'\n  Actual message: 'b'", "SURVIVED"),
        (1, "AssertionError: assert ('anna', 'BudgetExhausted') == ('anna', 'PolicyViolation')", "SURVIVED"),
        (1, "AssertionError: assert {} == {'anna': 'OldRoster'}", "caught"),
        (1, "shared.errors.WrongContext: refused by another guard", "SURVIVED"),
        (1, "NameError: name 'x' is not defined", "SURVIVED"),
        (1, "error: AssertionError in a fixture", "SURVIVED"),
        (1, "skipped: not here", "SURVIVED"),
        (0, "", "SURVIVED"),
        (2, "", "stale"),
        (4, "", "stale"),
        (-1, "", "stale"),
    ],
)
def test_only_an_attack_that_was_not_refused_counts_as_caught(code: int, said: str, verdict: str) -> None:
    report = Report(code=code, failures={"tests/unit/test_x.py::test_y": said} if said else {}, passed=frozenset())
    assert judge(ONE, report).verdict == verdict


CODE = """def open_door(key):
    if key != "right":
        raise PermissionError("no")
    return "open"
"""
TESTS = """import pytest
from shared.door import open_door

def test_a_wrong_key_opens_nothing():
    with pytest.raises(PermissionError):
        open_door("wrong")

def test_the_right_key_opens():
    assert open_door("right") == "open"

def test_that_fails_anyhow():
    assert open_door("right") == "shut"
"""
GUARD = '    if key != "right":\n'


def door(name: str, new: str, test: str) -> Mutant:
    tests = (f"tests/test_door.py::{test}",)
    return Mutant(name=name, adversary="A thief.", path="shared/door.py", old=GUARD, new=new, tests=tests)


@pytest.fixture
def small(tmp_path: Path) -> Path:
    for package in runner.PACKAGES:
        (tmp_path / "small" / package).mkdir(parents=True)
        (tmp_path / "small" / package / "__init__.py").write_text('"""A package."""\n')
    (tmp_path / "small" / "shared" / "door.py").write_text(CODE)
    (tmp_path / "small" / "tests").mkdir()
    (tmp_path / "small" / "tests" / "test_door.py").write_text(TESTS)
    (tmp_path / "small" / "pyproject.toml").write_text("[tool.pytest.ini_options]\naddopts = '--timeout=60'\n")
    return tmp_path / "small"


def test_a_run_changes_a_copy_alone_and_tells_caught_survived_and_stale_apart(small: Path) -> None:
    before = {path: path.read_bytes() for path in small.rglob("*") if path.is_file()}
    mutants = [
        door("caught", "    if False:\n", "test_a_wrong_key_opens_nothing"),
        door("survives", "    if False:\n", "test_the_right_key_opens"),
        door("fails anyhow", "    if False:\n", "test_that_fails_anyhow"),
    ]
    console = Console(file=io.StringIO(), width=200)
    outcomes = runner.run(mutants, small, console)
    assert [outcome.verdict for outcome in outcomes] == ["caught", "SURVIVED", "stale"]
    assert outcomes[0].said.startswith("Failed: DID NOT RAISE")
    assert {path: path.read_bytes() for path in small.rglob("*") if path.is_file()} == before
    runner.print_table(outcomes, console)
    assert "1 caught, 1 SURVIVED, 1 stale" in console.file.getvalue()  # type: ignore[attr-defined]


def test_a_name_that_does_not_exist_hides_no_other_test(monkeypatch: pytest.MonkeyPatch) -> None:
    gone = "tests/unit/test_wire.py::test_that_is_gone"

    def report(tests: list[str], tree: Path, *, stop: bool) -> Report:
        return Report(code=4 if gone in tests else 0, failures={}, passed=frozenset(tests) - {gone})

    monkeypatch.setattr(runner, "pytest_report", report)
    mutants = [replace(ONE, tests=(gone,)), ONE]
    assert runner.unmutated_failures(mutants, PROJECT) == {gone: "as the code is: it did not run"}


def test_a_test_that_cannot_be_collected_is_no_failure(small: Path) -> None:
    (small / "tests" / "test_door.py").write_text("import nowhere\n")
    report = pytest_report(["tests/test_door.py::test_the_right_key_opens"], small)
    assert judge(ONE, report).verdict == "stale"


def test_the_end_says_whether_all_were_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    for verdict, code in (("caught", 0), ("SURVIVED", 1), ("stale", 1)):
        found = [runner.Outcome(mutant=ONE, verdict=verdict, test=ONE.tests[0], said="x")]  # type: ignore[arg-type]
        monkeypatch.setattr(runner, "run", lambda *_, found=found: found)
        assert main(["--only", ONE.name]) == code


def test_guards_are_listed_by_name_and_an_unknown_one_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--list"]) == 0
    assert capsys.readouterr().out.splitlines() == [f"{mutant.name}: {mutant.adversary}" for mutant in GUARDS]
    with pytest.raises(SystemExit):
        main(["--only", "no such guard"])
