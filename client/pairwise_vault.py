"""Rounds of topology P that this home is in the middle of: secrets, for as long as their round is open.

One row for each round, by its context. A new state replaces the old one in the transaction that checks that it is one
step on, and is on disk when `advance` returns; only then may the message of the step leave. What is over stays as a
tombstone, context and phase without any secret, so that nothing is answered a second time after a restart. Rounds that
nobody goes on with are wiped after KEEP_SECONDS, and the oldest of more than MAX_OPEN.

At rest every state is encrypted under a key derived from the home's signing key, bound to its round and phase, so a
copy of this file alone is worth nothing. Triggers forbid going back. A file put back to an older state together with
the key could go back all the same; that a round is dealt, released and its active set signed once is also in the
ledger, which notices.
"""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from client.database import connect, writing
from client.durable_files import create_empty, require_private
from shared.errors import AlreadyAnswered, MalformedFile, WrongContext
from shared.secagg.context import join_fields
from shared.secagg.pairwise_state import PHASES, Advertised, ClientState, Finished, check_forward, from_bytes, to_bytes

FILE = "pairwise.db"
KEEP_SECONDS = 24 * 3600
MAX_OPEN = 64
RandomBytes = Callable[[int], bytes]

_LABEL = b"zhiyin/pairwise-vault/1"
_NONCE_BYTES = 12
_FINISHED = PHASES.index(Finished)
_GIVEN_UP = len(PHASES)
# Never from a backup: an older state could be answered from twice.
_MEND = "remove it; rounds that were open in it are given up, and nothing else is in it"
_SCHEMA = (
    """CREATE TABLE IF NOT EXISTS rounds (
    ctx BLOB PRIMARY KEY, phase INTEGER NOT NULL, sealed BLOB, stored_at INTEGER NOT NULL) WITHOUT ROWID""",
    # INSERT OR REPLACE would remove a row without asking the delete trigger.
    """CREATE TRIGGER IF NOT EXISTS rounds_no_replace BEFORE INSERT ON rounds
    WHEN EXISTS (SELECT 1 FROM rounds WHERE ctx = NEW.ctx) BEGIN SELECT RAISE(ABORT, 'a round begins once'); END""",
    """CREATE TRIGGER IF NOT EXISTS rounds_only_forward BEFORE UPDATE ON rounds
    WHEN NEW.ctx IS NOT OLD.ctx OR NEW.phase <= OLD.phase BEGIN SELECT RAISE(ABORT, 'a round only goes on'); END""",
    """CREATE TRIGGER IF NOT EXISTS rounds_no_delete BEFORE DELETE ON rounds
    BEGIN SELECT RAISE(ABORT, 'a round leaves a trace'); END""",
)


class PairwiseVault:
    """Open with `PairwiseVault.open`; safe to use from several threads and processes at once.

    now: Unix seconds, everywhere. random_bytes: the operating system's.
    """

    def __init__(self, path: Path, signing_key: Ed25519PrivateKey) -> None:
        self.path = path
        self._secret = signing_key.private_bytes_raw()

    @classmethod
    def open(cls, folder: Path, signing_key: Ed25519PrivateKey) -> "PairwiseVault":
        """The vault in a home; made when there is none, which loses no promise: see `client.pairwise`.

        Raises BadSetting for a file that others can read, MalformedFile for one that is damaged.
        """
        path = folder / FILE
        with suppress(FileExistsError):
            create_empty(path)
        require_private(path, mend=_MEND)
        return cls(path, signing_key)

    def begin(self, state: Advertised, request: bytes, *, now: int, random_bytes: RandomBytes) -> None:
        """Keep the first state of a round, with the frame that asked for it.

        Raises AlreadyAnswered for a round that was begun before, even if it is long over.
        """
        with self._writing(now) as connection:
            if connection.execute("SELECT 1 FROM rounds WHERE ctx = ?", (state.ctx,)).fetchone():
                raise AlreadyAnswered(f"the keys of {state.client} for round {state.ctx.hex()[:12]}… were sent before")
            sealed = self._seal(state, request, random_bytes)
            connection.execute("INSERT INTO rounds VALUES (?, ?, ?, ?)", (state.ctx, 0, sealed, now))
            open_rounds = connection.execute(
                "SELECT ctx FROM rounds WHERE sealed IS NOT NULL ORDER BY stored_at DESC, ctx = ? DESC", (state.ctx,)
            ).fetchall()
            for (ctx,) in open_rounds[MAX_OPEN:]:
                connection.execute(_WIPE + "ctx = ?", (_GIVEN_UP, ctx))

    def load(self, ctx: bytes, *, now: int) -> tuple[ClientState, bytes]:
        """The state of a round, and the frame that asked for it.

        Raises WrongContext for a round that is not known here, AlreadyAnswered for one that is over or given up.
        """
        with self._writing(now) as connection:
            return self._read(connection, ctx)

    def advance(self, after: ClientState, *, now: int, random_bytes: RandomBytes) -> None:
        """Replace the round's state; durable when this returns, and only then may the message of the step leave.

        Raises IllegalTransition unless it is one step on from the state stored now, which another process may have
        moved meanwhile; and what `load` raises.
        """
        with self._writing(now) as connection:
            before, request = self._read(connection, after.ctx)
            check_forward(before, after)
            over = isinstance(after, Finished)
            sealed = None if over else self._seal(after, request, random_bytes)
            phase = PHASES.index(type(after))
            connection.execute(
                "UPDATE rounds SET phase = ?, sealed = ?, stored_at = ? WHERE ctx = ?", (phase, sealed, now, after.ctx)
            )

    def give_up(self, ctx: bytes, *, now: int) -> None:
        """Wipe a round's secrets; durable when this returns. Nothing is answered in it from then on.

        Raises what `load` raises.
        """
        with self._writing(now) as connection:
            self._read(connection, ctx)
            connection.execute(_WIPE + "ctx = ?", (_GIVEN_UP, ctx))

    @contextmanager
    def _writing(self, now: int) -> Iterator[sqlite3.Connection]:
        # What is too old is wiped in a transaction of its own: it must be gone also where the next one is undone.
        with connect(self.path, mend=_MEND) as connection:
            known = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
            stale = (
                "rounds" in known
                and connection.execute(
                    "SELECT 1 FROM rounds WHERE sealed IS NOT NULL AND stored_at < ?", (now - KEEP_SECONDS,)
                ).fetchone()
            )
        if stale or "rounds_no_delete" not in known:
            with writing(self.path, mend=_MEND) as connection:
                for statement in _SCHEMA:
                    connection.execute(statement)
                connection.execute(_WIPE + "stored_at < ? AND sealed IS NOT NULL", (_GIVEN_UP, now - KEEP_SECONDS))
        with writing(self.path, mend=_MEND) as connection:
            yield connection

    def _read(self, connection: sqlite3.Connection, ctx: bytes) -> tuple[ClientState, bytes]:
        row = connection.execute("SELECT phase, sealed FROM rounds WHERE ctx = ?", (ctx,)).fetchone()
        if row is None:
            raise WrongContext(f"round {ctx.hex()[:12]}… is not known here: no keys were sent for it, or it was lost")
        phase, sealed = row
        if sealed is None:
            what = "over" if phase == _FINISHED else "given up"
            raise AlreadyAnswered(f"round {ctx.hex()[:12]}… is {what} here; nothing of it is left to answer with")
        return self._unseal(ctx, phase, sealed)

    def _seal(self, state: ClientState, request: bytes, random_bytes: RandomBytes) -> bytes:
        nonce, phase = random_bytes(_NONCE_BYTES), PHASES.index(type(state))
        plain = join_fields(to_bytes(state), request)
        return nonce + self._cipher(state.ctx, phase).encrypt(nonce, plain, None)

    def _unseal(self, ctx: bytes, phase: int, sealed: bytes) -> tuple[ClientState, bytes]:
        try:
            plain = self._cipher(ctx, phase).decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], None)
        except (InvalidTag, ValueError):
            raise MalformedFile(f"{self.path}: an open round does not decrypt with this home's key; {_MEND}") from None
        size = int.from_bytes(plain[:8], "big")
        state = from_bytes(plain[8 : 8 + size])
        return state, plain[8 + size + 8 :]

    def _cipher(self, ctx: bytes, phase: int) -> ChaCha20Poly1305:
        # One key for each state ever kept, so the nonce only has to differ between rows of one round and phase.
        info = join_fields(_LABEL, ctx, phase.to_bytes(1, "big"))
        return ChaCha20Poly1305(HKDF(algorithm=SHA256(), length=32, salt=None, info=info).derive(self._secret))


_WIPE = "UPDATE rounds SET phase = ?, sealed = NULL WHERE "
