"""Take every guard of `tests.mutants.guards` out in turn: `python -m tests.mutants.run [--only NAME] [--list]`.

The tree is copied to a temporary folder and only the copy is changed. There each named test runs once as the code is,
and then against each of its mutants. A guard counts as caught if a test fails because the attack was not refused: an
assertion, or an error that was not raised. An error of another kind, a test that cannot be collected, and an attack
that is refused in other words (as when a second guard stands behind the first) do not count, and end the run with 1.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from shared import errors
from tests.mutants.guards import GUARDS
from tests.mutants.record import PROJECT, Mutant, Stale, mutated, require_tests

PACKAGES = ("shared", "server", "client", "simulations")
TEST_SECONDS = 240
_LEFT_OUT = shutil.ignore_patterns(
    ".git", ".venv", "__pycache__", ".*_cache", ".hypothesis", "build", "demo-out", "*.egg-info"
)
_UNREFUSED = re.compile(r"(AssertionError|assert |Failed: DID NOT RAISE)")
_OTHER_WORDS = "Regex pattern did not match"
_NAMED = re.compile(r"'([A-Z][A-Za-z]+)'")
_ERRORS = frozenset(name for name, each in vars(errors).items() if isinstance(each, type))
_FAILED, _NO_SUCH_TEST, _NOT_RUN = 1, 4, range(2, 6)
Verdict = Literal["caught", "SURVIVED", "stale"]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How one guard fared. said: the first line of the failure that shows it, or what went wrong."""

    mutant: Mutant
    verdict: Verdict
    test: str
    said: str


@dataclass(frozen=True, kw_only=True)
class Report:
    """One pytest process. code: its exit. failures: "file::test[parameters]" -> first line. passed: the same names."""

    code: int
    failures: dict[str, str]
    passed: frozenset[str]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.mutants.run", description="Take every guard out in turn.")
    parser.add_argument("--only", action="append", metavar="NAME", help="this guard only; may be given again")
    parser.add_argument("--list", action="store_true", help="print the guards and what each keeps off, and end")
    options = parser.parse_args(arguments)
    known = {mutant.name: mutant for mutant in GUARDS}
    unknown = set(options.only or ()) - set(known)
    if unknown:
        parser.error(f"no guard {', '.join(sorted(unknown))}; --list prints them")
    chosen = [known[name] for name in options.only] if options.only else list(GUARDS)
    console = Console()
    if options.list:
        for mutant in chosen:
            console.print(f"{mutant.name}: {mutant.adversary}", highlight=False, markup=False, soft_wrap=True)
        return 0
    outcomes = run(chosen, PROJECT, console)
    print_table(outcomes, console)
    return int(any(outcome.verdict != "caught" for outcome in outcomes))


def run(mutants: Sequence[Mutant], project: Path, console: Console) -> list[Outcome]:
    """Every outcome, in order. Nothing below `project` is written to."""
    columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.description}"))
    with tempfile.TemporaryDirectory(prefix="zhiyin-mutants-") as folder, Progress(*columns, console=console) as bar:
        tree = Path(folder) / "tree"
        shutil.copytree(project, tree, ignore=_LEFT_OUT)
        require_own_code(tree)
        task = bar.add_task("as the code is", total=len(mutants))
        broken = unmutated_failures(mutants, tree)
        outcomes = []
        for mutant in mutants:
            bar.update(task, description=mutant.name)
            failing = [test for test in mutant.tests if test in broken]
            outcomes.append(
                Outcome(mutant=mutant, verdict="stale", test=failing[0], said=broken[failing[0]])
                if failing
                else examine(mutant, tree)
            )
            bar.advance(task)
            if not console.is_terminal:
                console.print(f"{outcomes[-1].verdict}: {mutant.name}", highlight=False, markup=False)
    return outcomes


def examine(mutant: Mutant, tree: Path) -> Outcome:
    """Run the mutant's tests against it in `tree`, which is as it was when this returns."""
    try:
        require_tests(mutant, tree)
        texts = mutated(mutant, tree)
    except Stale as error:
        return Outcome(mutant=mutant, verdict="stale", test="", said=str(error))
    kept = {path: (tree / path).read_bytes() for path in texts}
    try:
        for path, text in texts.items():
            (tree / path).write_text(text, encoding="utf-8")
        return judge(mutant, pytest_report(mutant.tests, tree))
    finally:
        for path, data in kept.items():
            (tree / path).write_bytes(data)


def judge(mutant: Mutant, report: Report) -> Outcome:
    """What a report of the mutated code says about the guard."""
    if report.code in _NOT_RUN or report.code < 0:
        said = f"pytest ended with {report.code}: the tests could not be run, or took too long"
        return Outcome(mutant=mutant, verdict="stale", test="", said=said)
    test, said = next(iter(report.failures.items()), (mutant.tests[0], "every test passes without the guard"))
    if report.code == _FAILED and _UNREFUSED.match(said) and not _is_refused_otherwise(said):
        return Outcome(mutant=mutant, verdict="caught", test=test, said=said)
    return Outcome(mutant=mutant, verdict="SURVIVED", test=test, said=said)


def _is_refused_otherwise(said: str) -> bool:
    # A comparison of two names of errors: one was awaited, and the other is a refusal too.
    return _OTHER_WORDS in said or len(_ERRORS.intersection(_NAMED.findall(said))) > 1


def unmutated_failures(mutants: Iterable[Mutant], tree: Path) -> dict[str, str]:
    """Named test -> why it says nothing: it fails, is skipped or does not exist on the code as it is."""
    named = sorted({test for mutant in mutants for test in mutant.tests})
    together = pytest_report(named, tree, stop=False)
    # One name that does not exist keeps pytest from running any: then each by itself.
    alone = together.code == _NO_SUCH_TEST
    said: dict[str, str] = {}
    for test in named:
        report = pytest_report([test], tree, stop=False) if alone else together
        bad = [line for name, line in report.failures.items() if _is_of(name, test)]
        if bad or not any(_is_of(name, test) for name in report.passed):
            said[test] = f"as the code is: {bad[0] if bad else 'it did not run'}"
    return said


def pytest_report(tests: Sequence[str], tree: Path, *, stop: bool = True) -> Report:
    """Run these tests in a process of their own on the code in `tree`. stop: at the first failure."""
    results = tree.parent / "results.xml"
    results.unlink(missing_ok=True)
    command = [
        sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "pytest_timeout", "--tb=line",
        f"--junitxml={results}", *(["-x"] if stop else []), *tests,
    ]  # fmt: skip
    limit = TEST_SECONDS if stop else TEST_SECONDS + 30 * len(tests)
    try:
        code = subprocess.run(command, cwd=tree, env=environment(tree), capture_output=True, timeout=limit).returncode
    except subprocess.TimeoutExpired:
        return Report(code=-1, failures={}, passed=frozenset())
    failures, passed = {}, set()
    cases = ElementTree.parse(results).iter("testcase") if results.is_file() else ()
    for case in cases:
        name = f"{case.get('classname', '').replace('.', '/')}.py::{case.get('name')}"
        wrong = next((child for child in case if child.tag in ("failure", "error", "skipped")), None)
        if wrong is None:
            passed.add(name)
        else:
            before = "" if wrong.tag == "failure" else f"{wrong.tag}: "
            failures[name] = before + (wrong.get("message") or "").strip()
    return Report(code=code, failures=failures, passed=frozenset(passed))


def environment(tree: Path) -> dict[str, str]:
    # No bytecode: a mutant of the same length, written within the same second, would run as the code before it.
    # Only the plugin that pyproject.toml names: loading the others takes longer than most of the tests.
    changes = {"PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    return {"OMP_NUM_THREADS": "1", "FLWR_TELEMETRY_ENABLED": "0", **os.environ, **changes}


def require_own_code(tree: Path) -> None:
    """Raise RuntimeError unless a process in `tree` imports the packages of `tree`, and not installed ones."""
    code = f"import {', '.join(PACKAGES)}\nfor each in {', '.join(PACKAGES)}: print(each.__file__)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tree, env=environment(tree), capture_output=True, text=True
    )  # fmt: skip
    if done.returncode or not all(Path(line).is_relative_to(tree) for line in done.stdout.split()):
        raise RuntimeError(f"the copy in {tree} would not be what is tested: {done.stdout}{done.stderr}")


def print_table(outcomes: Sequence[Outcome], console: Console) -> None:
    table = Table("guard taken out", "verdict", "test that shows it", "its first line", show_lines=False)
    for outcome in outcomes:
        style = "green" if outcome.verdict == "caught" else "bold red"
        said = outcome.said.splitlines()[0][:90] if outcome.said else ""
        table.add_row(outcome.mutant.name, f"[{style}]{outcome.verdict}[/]", _short(outcome.test), _plain(said))
    console.print(table)
    counts = {verdict: sum(each.verdict == verdict for each in outcomes) for verdict in ("caught", "SURVIVED", "stale")}
    console.print(", ".join(f"{count} {verdict}" for verdict, count in counts.items()), highlight=False)


def _is_of(name: str, test: str) -> bool:
    return name == test or name.startswith(f"{test}[")


def _short(test: str) -> str:
    return _plain(test.rpartition("/")[2].replace("::", "\n"))


def _plain(text: str) -> str:
    # Square brackets are markup to the table.
    return text.replace("[", r"\[")


if __name__ == "__main__":
    sys.exit(main())
