"""The erasure journal: ids of those who were erased, in a file that no restore of a backup takes back.

One id a line, only ever added to. An id is on the disk before the erasure is committed: what cannot be recorded is not
carried out, and a crash in between leaves somebody recorded who had asked for it, and is erased at the next start.
"""

import fcntl
import os
import re
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from platform_api.signing_keys import sync_folder

_ID = re.compile(r"usr_[A-Za-z0-9_-]{1,60}")


@dataclass(frozen=True, kw_only=True)
class Recorded:
    """What a journal holds. unreadable: lines that are no id, as a crash in the middle of one leaves."""

    there: bool
    ids: frozenset[str]
    unreadable: int


class ErasureJournal:
    """The file at `path`; its folder must exist, so that a disk that is not mounted is noticed."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def add(self, ids: Iterable[str]) -> None:
        """Append, and return once it is on the disk. Raises OSError; then it is taken out again, if that can be."""
        lines = "".join(f"{one}\n" for one in ids).encode("ascii")
        with os.fdopen(os.open(self.path, os.O_CREAT | os.O_APPEND | os.O_RDWR, 0o600), "r+b", buffering=0) as file:
            # Several processes may have the file open: one line is whole before the next begins.
            fcntl.flock(file, fcntl.LOCK_EX)
            size = file.seek(0, os.SEEK_END)
            if size:
                file.seek(size - 1)
                lines = lines if file.read(1) == b"\n" else b"\n" + lines
            try:
                if file.write(lines) != len(lines):
                    raise OSError("the line could not be written as a whole")
                os.fsync(file.fileno())
                if not size:
                    sync_folder(self.path.absolute().parent)
            except OSError:
                # Whoever is told that nothing was erased is not erased at the next start.
                with suppress(OSError):
                    file.truncate(size)
                    os.fsync(file.fileno())
                raise

    def read(self) -> Recorded:
        """Everything that was recorded. Raises OSError for a file that is there and cannot be read."""
        try:
            lines = self.path.read_bytes().decode("ascii", errors="replace").splitlines()
        except FileNotFoundError:
            return Recorded(there=False, ids=frozenset(), unreadable=0)
        ids = frozenset(line for line in lines if _ID.fullmatch(line))
        return Recorded(there=True, ids=ids, unreadable=sum(1 for line in lines if line and not _ID.fullmatch(line)))
