"""The durable account of everything that was released about the people in this home. It only ever rises.

It also remembers the newest list of parties that was accepted here, for the same reasons and by the same means: what
an older copy of it would forget is which parties were removed since.

A charge is committed to disk before the release that it pays for, so a crash can waste budget and never hide it.
Every entry carries the SHA-256 of the one before; triggers forbid changes; a second file, the marks, notes how far
the ledger had got.

Detected at every use: an entry changed, removed, reordered or inserted by hand; a damaged file; a ledger replaced by
an older copy, emptied or made anew while the marks stayed (the policy's `ledger_marks` keeps them outside the home,
so that putting a whole home back is noticed too). Not detectable from inside: ledger and marks restored together to
the same older state, or a rewrite of both by whoever owns the machine: the ledger guards the owner against servers,
crashes and accidents, not against the owner.
"""

import hashlib
import json
import math
import re
import secrets
import sqlite3
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from client.database import connect, writing
from client.durable_files import append_line, create_empty, require_private
from shared.accounting import Budget, cost, epsilon, require
from shared.canonical import canonical_json
from shared.errors import (
    AlreadyAnswered,
    BudgetExhausted,
    ClockSetBack,
    ForkedRoster,
    MalformedFile,
    OldRoster,
    UnknownMechanism,
)
from shared.mechanism import Mechanism, from_json, to_json

VERSION = "zhiyin-ledger-2"
# Not a backup: an older copy forgets the releases since.
_MEND = "put the newest copy back, never an older one, and treat what it lost as spent"
# A job whose plan costs exactly what one job may cost passes; this only forgives the last bit of the accountant.
_RELATIVE_SLACK = 1e-9
# Clocks are corrected by less than this, and summer time does not move them: Unix seconds know no time zones. A clock
# that a person or a time server sets back to before a key or a list expired goes back by days.
CLOCK_SLACK_SECONDS = 3_600
_LAST_SECOND = 253_402_300_799  # of the year 9999, the last that can be written as a date
EntryKind = Literal["release", "answer", "roster"]
_Head = tuple[str, int, bytes]
"""Identity of a ledger, number of its last entry, digest of that entry, or the identity's bytes before the first."""

_TABLES = (
    "CREATE TABLE identity (version TEXT NOT NULL, ledger_id TEXT NOT NULL)",
    """CREATE TABLE entries (
    sequence INTEGER PRIMARY KEY, kind TEXT NOT NULL CHECK (kind IN ('release', 'answer', 'roster')),
    context BLOB NOT NULL, job_id TEXT NOT NULL, step INTEGER NOT NULL, attempt INTEGER NOT NULL,
    mechanism TEXT NOT NULL, recorded_at INTEGER NOT NULL, digest BLOB NOT NULL, UNIQUE (kind, job_id, context))""",
)
_ONLY_GROWS = "BEGIN SELECT RAISE(ABORT, 'the ledger only grows'); END"
_TRIGGERS = (
    *(
        f"CREATE TRIGGER {table}_no_{verb} BEFORE {verb} ON {table} {_ONLY_GROWS}"
        for table, verb in (
            ("identity", "INSERT"),
            ("identity", "UPDATE"),
            ("identity", "DELETE"),
            ("entries", "UPDATE"),
            ("entries", "DELETE"),
        )
    ),
    # INSERT OR REPLACE would remove a row without asking the delete trigger.
    """CREATE TRIGGER entries_in_order BEFORE INSERT ON entries
    WHEN NEW.sequence IS NOT (SELECT COALESCE(MAX(sequence), 0) + 1 FROM entries)
    BEGIN SELECT RAISE(ABORT, 'the ledger only grows'); END""",
)
_MARK = re.compile(r"([0-9a-f]{64}) ([0-9]{1,18}) ([0-9a-f]{64})")


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One line of the account.

    kind: "release" (charged), "answer" (a helper answered this context; costs nothing, happens once) or "roster" (a
    list of parties was accepted: context is its digest, step its epoch, job_id the key of the issuer who signed it).
    mechanism: what protected the release; None for an answer, and for a release without noise.
    recorded_at: Unix seconds. digest: 32 bytes, chained over this entry and the digest of the one before.
    """

    sequence: int
    kind: EntryKind
    context: bytes
    job_id: str
    step: int
    attempt: int
    mechanism: Mechanism | None
    recorded_at: int
    digest: bytes


@dataclass(frozen=True, kw_only=True)
class AcceptedRoster:
    """A list of parties by its epoch and its digest, 32 bytes."""

    epoch: int
    digest: bytes


class Ledger:
    """Open with `Ledger.open`; safe to use from several threads and processes at once."""

    def __init__(self, path: Path, marks: Path, clock: Callable[[], float]) -> None:
        self.path = path
        self.marks = marks
        self._clock = clock

    @classmethod
    def create(cls, path: Path, *, marks: Path | None = None, clock: Callable[[], float] = time.time) -> "Ledger":
        """An empty ledger with a random identity. FileExistsError if a file is there: accounts are not restarted."""
        ledger = cls(path, marks or path.with_suffix(".marks"), clock)
        create_empty(ledger.marks)
        create_empty(path)
        ledger_id = secrets.token_hex(32)
        with writing(path, mend=_MEND) as connection:
            for statement in _TABLES:
                connection.execute(statement)
            connection.execute("INSERT INTO identity VALUES (?, ?)", (VERSION, ledger_id))
            for statement in _TRIGGERS:
                connection.execute(statement)
        ledger._mark(ledger_id, 0, bytes.fromhex(ledger_id))
        return ledger

    @classmethod
    def open(cls, path: Path, *, marks: Path | None = None, clock: Callable[[], float] = time.time) -> "Ledger":
        """Open and verify the chain. Raises BadSetting (missing, readable by others) or MalformedFile (damaged)."""
        ledger = cls(path, marks or path.with_suffix(".marks"), clock)
        require_private(path, mend=_MEND)
        require_private(ledger.marks, mend=_MEND)
        ledger.entries()
        return ledger

    def at(self, now: int) -> "Ledger":
        """The same ledger, recording everything as of `now`, Unix seconds. Call it for each message, before its checks.

        Raises ClockSetBack if anything here was recorded more than CLOCK_SLACK_SECONDS after `now`: lists and keys
        that had expired would be valid again. The chain is not read for it, as in `newest_roster`.

        A clock that ran ahead cannot refuse for long: nothing is recorded unless a signed list was valid at that time,
        so the newest time here is never later than the end of such a list.
        """
        with connect(self.path, mend=_MEND) as connection:
            (newest,) = connection.execute("SELECT MAX(recorded_at) FROM entries").fetchone()
        if newest is not None and now < newest - CLOCK_SLACK_SECONDS:
            raise ClockSetBack(
                f"this machine's clock says {_utc(now)}, its home recorded something at {_utc(newest)}: the clock is "
                f"{newest - now} s behind, and what had expired would be valid again. Set the clock right; if it is "
                f"right, it ran ahead then, and this home answers again from {_utc(newest - CLOCK_SLACK_SECONDS)}"
            )
        return Ledger(self.path, self.marks, lambda: now)

    def charge(
        self,
        *,
        job_id: str,
        step: int,
        attempt: int,
        context: bytes,
        mechanism: Mechanism | None,
        budget: Budget | None,
        job_budget: Budget | None,
    ) -> None:
        """Pay for one release; durable when this returns, and only then may the release happen.

        context: 32 bytes that name this release. mechanism: None is a release without noise, whose epsilon is
        infinite. budget: None where the local policy switched it off (epsilon = inf). job_budget: bound on the
        releases under this `job_id` alone, repeated attempts included; None for no such bound.
        Raises BudgetExhausted if everything so far and this pass `budget`, or those of this job and this pass
        `job_budget`; AlreadyAnswered for a context that was charged before, UnknownMechanism for what cannot be
        accounted; then nothing is recorded.
        """
        encoded = "" if mechanism is None else canonical_json(to_json(mechanism)).decode()
        with writing(self.path, mend=_MEND) as connection:
            entries = self._verified(connection)
            if any(entry.context == context and entry.kind == "release" for entry in entries):
                raise AlreadyAnswered(f"job {job_id} step {step} attempt {attempt} was already charged and released")
            _require_room(budget, entries, (mechanism,))
            _require_job_room(job_budget, job_id, entries, (mechanism,))
            head = self._append(
                connection, self._head(connection, entries), "release", context, job_id, step, attempt, encoded
            )
        self._mark(*head)

    def answer_once(self, contexts: Sequence[bytes]) -> None:
        """Record, durably and before the answer leaves, that a helper answers all of `contexts` (32 bytes each).

        Raises AlreadyAnswered if it answered one of them before, or one is there twice; then none is recorded.
        """
        with writing(self.path, mend=_MEND) as connection:
            # Once for all of them: nothing else is written before the transaction ends.
            entries = self._verified(connection)
            answered = {entry.context for entry in entries if entry.kind == "answer"}
            head = self._head(connection, entries)
            for context in contexts:
                if context in answered:
                    raise AlreadyAnswered(f"this party has already answered context {context.hex()[:12]}…")
                head = self._append(connection, head, "answer", context, "", 0, 0, "")
                answered.add(context)
        if contexts:
            self._mark(*head)

    def accept_roster(self, *, issuer: str, epoch: int, digest: bytes) -> None:
        """Record, durably and before anything is answered under it, the newest list of parties ever accepted here.

        issuer: the pinned public key under which the list was opened; a client that pins another issuer begins anew.
        digest: of the list, 32 bytes. Accepting the newest list again records nothing. Raises OldRoster for an epoch
        below that of the newest list, ForkedRoster for another list of the same epoch; then nothing is recorded.
        """
        with writing(self.path, mend=_MEND) as connection:
            entries = self._verified(connection)
            newest = max(
                (each for each in entries if each.kind == "roster" and each.job_id == issuer), key=_epoch, default=None
            )
            if newest is not None and newest.step > epoch:
                raise OldRoster(
                    f"the roster is of epoch {epoch}, this party has accepted one of epoch {newest.step}; "
                    "the server must hand out the newest list"
                )
            if newest is not None and newest.step == epoch:
                if newest.context == digest:
                    return
                raise ForkedRoster(
                    f"two lists claim epoch {epoch}: {digest.hex()[:12]}… is handed over, {newest.context.hex()[:12]}… "
                    "was accepted before; ask the issuer which is right, and for a list of a higher epoch"
                )
            head = self._append(connection, self._head(connection, entries), "roster", digest, issuer, epoch, 0, "")
        self._mark(*head)

    def newest_roster(self, issuer: str) -> AcceptedRoster | None:
        """The newest list of this issuer accepted here, None before the first.

        For asking at every message, so the chain is not read: opening has verified it, and whatever is recorded next
        verifies it again.
        """
        with connect(self.path, mend=_MEND) as connection:
            row = connection.execute(
                "SELECT step, context FROM entries WHERE kind = 'roster' AND job_id = ? ORDER BY step DESC LIMIT 1",
                (issuer,),
            ).fetchone()
        return None if row is None else AcceptedRoster(epoch=row[0], digest=row[1])

    def require_room(
        self,
        budget: Budget | None,
        mechanisms: Sequence[Mechanism | None],
        *,
        job_id: str,
        job_budget: Budget | None,
    ) -> None:
        """Raise BudgetExhausted unless all of `mechanisms` still fit, as releases of `job_id`; records nothing.

        For asking before a job of several steps starts. The charge of each step decides again.
        """
        entries = self.entries()
        _require_room(budget, entries, mechanisms)
        _require_job_room(job_budget, job_id, entries, mechanisms)

    def entries(self) -> tuple[Entry, ...]:
        """Every release and every helper's answer, oldest first, verified. Raises MalformedFile."""
        return tuple(entry for entry in self._all() if entry.kind != "roster")

    def rosters(self) -> tuple[Entry, ...]:
        """Every list of parties that was accepted, oldest first, verified. Raises MalformedFile."""
        return tuple(entry for entry in self._all() if entry.kind == "roster")

    def _all(self) -> tuple[Entry, ...]:
        with connect(self.path, mend=_MEND) as connection:
            return self._verified(connection)

    def spent(self) -> tuple[Mechanism, ...]:
        """Mechanisms of the releases so far, oldest first; releases without noise are in `unprotected_releases`."""
        return tuple(entry.mechanism for entry in self.entries() if entry.mechanism is not None)

    def unprotected_releases(self) -> int:
        return sum(entry.kind == "release" and entry.mechanism is None for entry in self.entries())

    def spent_epsilon(self, delta: float) -> float:
        """Epsilon of everything released so far at `delta`: 0 for nothing, infinite after a release without noise."""
        entries = self.entries()
        if any(entry.kind == "release" and entry.mechanism is None for entry in entries):
            return math.inf
        mechanisms = [entry.mechanism for entry in entries if entry.mechanism is not None]
        return epsilon(mechanisms, delta) if mechanisms else 0.0

    def _verified(self, connection: sqlite3.Connection) -> tuple[Entry, ...]:
        ledger_id = _identity(connection, self.path)
        # Marks first: they are written after the commit, so a mark read now is about entries that a read begun
        # later must show.
        sequence, digest = self._last_mark(ledger_id)
        chain = [bytes.fromhex(ledger_id)]
        entries = []
        for row in connection.execute("SELECT * FROM entries ORDER BY sequence"):
            if row[0] != len(chain) or _chained(chain[-1], row[:-1]) != row[-1]:
                raise MalformedFile(
                    f"{self.path}: entry {len(chain)} does not continue the chain, the ledger was changed; {_MEND}"
                )
            chain.append(row[-1])
            entries.append(_entry(row))
        if sequence >= len(chain) or chain[sequence] != digest:
            raise MalformedFile(
                f"{self.path}: it holds {len(entries)} entries, {self.marks.name} saw entry {sequence}: an older copy "
                "was restored or the ledger was replaced; put the newest copy back"
            )
        return tuple(entries)

    def _head(self, connection: sqlite3.Connection, entries: Sequence[Entry]) -> _Head:
        """The end of the chain that `_verified` has read."""
        ledger_id = _identity(connection, self.path)
        return ledger_id, len(entries), entries[-1].digest if entries else bytes.fromhex(ledger_id)

    def _append(
        self,
        connection: sqlite3.Connection,
        head: _Head,
        kind: EntryKind,
        context: bytes,
        job_id: str,
        step: int,
        attempt: int,
        mechanism: str,
    ) -> _Head:
        ledger_id, number, previous = head
        row = (number + 1, kind, context, job_id, step, attempt, mechanism, int(self._clock()))
        digest = _chained(previous, row)
        connection.execute("INSERT INTO entries VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", (*row, digest))
        return ledger_id, row[0], digest

    def _mark(self, ledger_id: str, sequence: int, digest: bytes) -> None:
        append_line(self.marks, f"{ledger_id} {sequence} {digest.hex()}")

    def _last_mark(self, ledger_id: str) -> tuple[int, bytes]:
        """The highest mark. Lines of two processes may come in either order; a torn line is skipped."""
        best = (-1, b"")
        try:
            lines = self.marks.read_text(encoding="ascii", errors="replace").split("\n")
        except OSError as error:
            raise MalformedFile(
                f"{self.marks}: cannot be read ({error.strerror}); restore it with the ledger"
            ) from error
        for mark in filter(None, map(_MARK.fullmatch, lines)):
            if mark[1] != ledger_id:
                raise MalformedFile(
                    f"{self.path}: {self.marks.name} belongs to another ledger; put the newest copy back"
                )
            best = max(best, (int(mark[2]), bytes.fromhex(mark[3])))
        if best[0] < 0:
            raise MalformedFile(f"{self.marks}: it holds no mark; restore it with the ledger")
        return best


def _require_room(budget: Budget | None, entries: Sequence[Entry], asked: Sequence[Mechanism | None]) -> None:
    if budget is None:
        return
    unprotected = sum(entry.kind == "release" and entry.mechanism is None for entry in entries)
    if unprotected or any(mechanism is None for mechanism in asked):
        raise BudgetExhausted(
            f"a release without noise has no finite epsilon ({unprotected} made so far): "
            f"no budget of epsilon {budget.epsilon:g} covers it"
        )
    past = [entry.mechanism for entry in entries if entry.mechanism is not None]
    fresh = [mechanism for mechanism in asked if mechanism is not None]
    if fresh:
        require(budget, [*past, *fresh[:-1]], fresh[-1])


def _require_job_room(
    limit: Budget | None, job_id: str, entries: Sequence[Entry], asked: Sequence[Mechanism | None]
) -> None:
    # A release without noise is allowed by a policy that lists it, and then no figure bounds it: see _require_room.
    fresh = [mechanism for mechanism in asked if mechanism is not None]
    if limit is None or not fresh:
        return
    of_job = [entry for entry in entries if entry.kind == "release" and entry.job_id == job_id]
    past = [entry.mechanism for entry in of_job if entry.mechanism is not None]
    after = cost(limit, [*past, *fresh]) if len(past) == len(of_job) else math.inf
    if not after <= limit.epsilon * (1 + _RELATIVE_SLACK):
        before = cost(limit, past) if len(past) == len(of_job) else math.inf
        raise BudgetExhausted(
            f"this release would raise the epsilon of job {job_id} from {before:.6g} to {after:.6g} at delta "
            f"{limit.delta:g}; one job may cost {limit.epsilon:g}, wasted attempts included. Nothing was released; "
            "the holder of the data may set a larger max_epsilon_per_job"
        )


def _utc(seconds: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(min(max(0, seconds), _LAST_SECOND)))


def _epoch(entry: Entry) -> int:
    return entry.step


def _identity(connection: sqlite3.Connection, path: Path) -> str:
    rows = connection.execute("SELECT version, ledger_id FROM identity").fetchall()
    if len(rows) != 1 or rows[0][0] != VERSION:
        raise MalformedFile(f"{path}: this is not a ledger of version {VERSION}")
    return str(rows[0][1])


def _chained(previous: bytes, row: Sequence[Any]) -> bytes:
    fields = [value.hex() if isinstance(value, bytes) else value for value in row]
    return hashlib.sha256(VERSION.encode() + b"\x00" + previous + canonical_json(fields)).digest()


def _entry(row: Sequence[Any]) -> Entry:
    try:
        mechanism = from_json(json.loads(row[6])) if row[6] else None
    except ValueError as error:
        raise UnknownMechanism(f"ledger entry {row[0]}: its mechanism cannot be read: {error}") from error
    return Entry(
        sequence=row[0],
        kind=row[1],
        context=row[2],
        job_id=row[3],
        step=row[4],
        attempt=row[5],
        mechanism=mechanism,
        recorded_at=row[7],
        digest=row[8],
    )
