"""The server's append-only record: which attempts were started, what was released, what was published.

One line of canonical JSON a record, each with the SHA-256 of the line before, so that a change or a missing line shows.
An attempt is on disk before it starts, so its number is never used twice, whatever crashes. The clients' own ledgers,
not this file, hold the budget; this one lets an auditor compare.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from server.durable_files import sync_folder
from shared.canonical import canonical_json, sha256_hex, strict_json
from shared.errors import BadSetting, MalformedFile

FILE = "releases.jsonl"
GENESIS = sha256_hex(b"zhiyin releases 1")
Kind = Literal["attempt", "abandoned", "release", "published"]


class ReleaseLedger:
    """Open with `ReleaseLedger.open`; one process at a time (`durable_files.sole_user`)."""

    def __init__(self, path: Path, records: Sequence[dict[str, Any]], head: str) -> None:
        self.path = path
        self._records = list(records)
        self._head = head

    @classmethod
    def open(cls, folder: Path) -> "ReleaseLedger":
        """Read and verify the whole chain; make an empty file where there is none. Raises MalformedFile."""
        path = folder / FILE
        if not path.exists():
            path.touch(mode=0o644)
            sync_folder(folder)
        whole, _, torn = path.read_bytes().rpartition(b"\n")
        if torn:
            _cut(path, len(torn))
        records, head = _verified(path, whole.split(b"\n") if whole else [])
        return cls(path, records, head)

    @classmethod
    def read(cls, folder: Path) -> tuple[dict[str, Any], ...]:
        """Verified records, for looking: nothing is written, and a last line still being written is left out."""
        path = folder / FILE
        try:
            whole, _, _ = path.read_bytes().rpartition(b"\n")
        except OSError as error:
            raise BadSetting(f"{path}: no ledger of releases can be read there ({error.strerror})") from error
        return tuple(_verified(path, whole.split(b"\n") if whole else [])[0])

    def append(self, kind: Kind, *, job_id: str, plan_digest: str, time: int, **fields: Any) -> None:
        """Add one record; it is durable when this returns. `time` is in Unix seconds; `fields` are JSON values."""
        record = {
            "kind": kind,
            "job_id": job_id,
            "plan_digest": plan_digest,
            "time": time,
            "previous": self._head,
            **fields,
        }
        line = canonical_json(record)
        with self.path.open("ab") as file:
            file.write(line + b"\n")
            file.flush()
            os.fsync(file.fileno())
        self._records.append(record)
        self._head = sha256_hex(line)

    def records(self, kind: Kind, plan_digest: str) -> tuple[dict[str, Any], ...]:
        """Records of one kind about one plan, oldest first."""
        return tuple(r for r in self._records if r["kind"] == kind and r["plan_digest"] == plan_digest)

    def next_attempt(self, plan_digest: str, step: int) -> int:
        """The first attempt number that was never started at `step`, in any run."""
        started = [r["attempt"] for r in self.records("attempt", plan_digest) if r["step"] == step]
        return max(started, default=-1) + 1

    def attempts(self, plan_digest: str) -> tuple[int, ...]:
        """The step of every attempt ever started, in order: what the clients may have been charged for."""
        return tuple(r["step"] for r in self.records("attempt", plan_digest))


def _verified(path: Path, lines: Sequence[bytes]) -> tuple[list[dict[str, Any]], str]:
    records, head = [], GENESIS
    for number, line in enumerate(lines, start=1):
        try:
            record = strict_json(line)
            intact = record["previous"] == head and canonical_json(record) == line
        except (ValueError, KeyError, TypeError, RecursionError):
            intact = False
        if not intact:
            raise MalformedFile(f"{path} line {number}: the record does not continue the chain; restore the file")
        records.append(record)
        head = sha256_hex(line)
    return records, head


def _cut(path: Path, size_bytes: int) -> None:
    # A line without its end was never acknowledged, so nothing that it announces can have happened.
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size - size_bytes)
        os.fsync(file.fileno())
