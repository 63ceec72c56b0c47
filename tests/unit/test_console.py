"""The root of the command line: its version, and what it says to a word that it does not know."""

import sys
import tomllib
from importlib.metadata import PackageNotFoundError
from importlib.util import find_spec
from pathlib import Path

import pytest

from simulations import console

PROJECT = tomllib.loads((Path(__file__).resolve().parents[2] / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["zhiyin", *arguments])
    with pytest.raises(SystemExit) as left:
        console.main()
    return int(left.value.code or 0)


@pytest.mark.parametrize("installed", [True, False])
def test_the_version_is_that_of_the_project_installed_or_not(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], installed: bool
) -> None:
    def known(name: str) -> str:
        assert name == "zhiyin"
        if not installed:
            raise PackageNotFoundError(name)
        return "7.8.9"

    monkeypatch.setattr("importlib.metadata.version", known)
    assert run(monkeypatch, "--version") == 0
    assert capsys.readouterr().out == f"zhiyin {'7.8.9' if installed else PROJECT['version']}\n"


@pytest.mark.parametrize(
    ("typed", "meant"), [("clinet", "client"), ("sever", "server"), ("dmo", "demo"), ("simm", "sim")]
)
def test_a_mistyped_command_is_answered_with_the_one_that_was_meant(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], typed: str, meant: str
) -> None:
    assert run(monkeypatch, typed, "init") == 2
    assert f"No such command '{typed}'. Did you mean '{meant}'?" in capsys.readouterr().err


@pytest.mark.parametrize("typed", ["zzz", "--verison"])
def test_nothing_is_suggested_where_nothing_is_near(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], typed: str
) -> None:
    assert run(monkeypatch, typed) == 2
    said = capsys.readouterr().err
    assert typed in said
    assert not any(f"'{name}'" in said for name in console.GROUPS)


def test_help_lists_the_groups_and_the_version(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "--help") == 0
    text = capsys.readouterr().out
    assert all(name in text for name in (*console.GROUPS, "--version"))


@pytest.mark.parametrize("group", console.GROUPS)
def test_every_group_names_a_module_that_has_it(group: str) -> None:
    module, attribute, _ = console.GROUPS[group]
    spec = find_spec(module)
    assert spec is not None
    assert spec.origin is not None
    assert f"\n{attribute} = typer.Typer(" in Path(spec.origin).read_text(encoding="utf-8")
