"""Rows of a source that cannot be used, collected so that one message tells all of them."""

from typing import NoReturn

from shared.errors import MalformedFile, UnknownItem


class Rejects:
    """Collects up to `limit` rejects of one source, then raises; a message names source, row, column and the mend.

    Messages never repeat a value from the source, except the id of an item that the catalogue does not list: the
    operator needs it, and item ids are public.
    """

    def __init__(self, source: str, row_word: str, limit: int) -> None:
        self.source = source
        self.row_word = row_word
        self.limit = limit
        self._found: list[tuple[int, str]] = []
        self._only_unknown_items = True

    def add(self, row: int, what: str, *, column: str | None = None, unknown_item: bool = False) -> None:
        place = f"{self.row_word} {row}" if column is None else f'{self.row_word} {row}, column "{column}"'
        self._found.append((row, f"{place}: {what}"))
        self._only_unknown_items &= unknown_item
        if len(self._found) >= self.limit:
            self._raise(", and perhaps more")

    def raise_if_any(self) -> None:
        """Raise UnknownItem if that is all that is wrong, MalformedFile otherwise; nothing without a reject."""
        if self._found:
            self._raise("")

    def _raise(self, more: str) -> NoReturn:
        kind = UnknownItem if self._only_unknown_items else MalformedFile
        lines = [line for _, line in sorted(self._found, key=lambda found: found[0])]
        if len(lines) == 1 and not more:
            raise kind(f"{self.source}, {lines[0]}; nothing was imported")
        listed = "".join(f"\n  {line}" for line in lines)
        raise kind(f"{self.source}: {len(lines)} rejects{more}, nothing was imported:{listed}")
