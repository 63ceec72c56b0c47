"""What a mutant is: one guard taken out of the code, and the tests that fail without it."""

import ast
from dataclasses import dataclass
from functools import cache
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent.parent


class Stale(Exception):
    """A record that no longer fits the code or the tests that it names."""


@dataclass(frozen=True, kw_only=True)
class Edit:
    """One replacement. path: from the project's root. old: occurs there exactly once."""

    path: str
    old: str
    new: str


@dataclass(frozen=True, kw_only=True)
class Mutant:
    """A guard that is taken out. adversary: who gets what, once it is gone.

    path, old, new: as in `Edit`. also: further guards that have to go with it, where one alone refuses the attack as
    well; the comment at the record says which. tests: "path::function", or with "[parameters]"; each of them passes on
    the code as it is, and at least one fails without the guard.
    """

    name: str
    adversary: str
    path: str
    old: str
    new: str
    tests: tuple[str, ...]
    also: tuple[Edit, ...] = ()

    @property
    def edits(self) -> tuple[Edit, ...]:
        return (Edit(path=self.path, old=self.old, new=self.new), *self.also)


def mutated(mutant: Mutant, root: Path) -> dict[str, str]:
    """path -> text of every file that the mutant changes. Raises Stale where the code has moved on."""
    texts: dict[str, str] = {}
    for edit in mutant.edits:
        if edit.path not in texts:
            try:
                texts[edit.path] = (root / edit.path).read_text(encoding="utf-8")
            except OSError as error:
                raise Stale(f"{mutant.name}: {edit.path} cannot be read") from error
        text = texts[edit.path]
        if edit.old == edit.new or text.count(edit.old) != 1:
            raise Stale(f"{mutant.name}: {edit.path} holds the old text {text.count(edit.old)} times")
        texts[edit.path] = text.replace(edit.old, edit.new)
    for path, text in texts.items():
        try:
            compile(text, path, "exec", dont_inherit=True)
        except SyntaxError as error:
            raise Stale(f"{mutant.name}: {path} no longer compiles: {error.msg}, line {error.lineno}") from error
    return texts


def require_tests(mutant: Mutant, root: Path) -> None:
    """Raise Stale unless every named test is a function of the file named; nothing is imported or collected."""
    if not mutant.tests:
        raise Stale(f"{mutant.name}: no test is named")
    for test in mutant.tests:
        path, _, function = test.partition("::")
        if function.partition("[")[0] not in _functions(root / path):
            raise Stale(f"{mutant.name}: there is no test {test}")


@cache
def _functions(path: Path) -> frozenset[str]:
    try:
        body = ast.parse(path.read_text(encoding="utf-8")).body
    except (OSError, SyntaxError):
        return frozenset()
    return frozenset(each.name for each in body if isinstance(each, ast.FunctionDef) and each.name.startswith("test_"))
