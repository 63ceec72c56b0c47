"""One job of the server: what a run works with, and what its rounds have in common in every topology."""

from collections.abc import Callable
from dataclasses import dataclass

from server.exchange import Exchange, Silence
from server.job_state import Turn
from server.progress import Progress
from server.releases import ReleaseLedger
from server.settings import JobSettings
from shared.errors import ProtocolError
from shared.plan import TrainingPlan, steps
from shared.roster import Roster
from shared.secagg import ring
from shared.secagg.context import context
from shared.wire import Message, decode

# A header, and room: 64 seals for slots with the longest names are half of it.
_REPLY_BYTES = 64 * 1024
# Two shares in hexadecimal and a name, sealed or opened, with their commitments: half of it.
_SHARES_BYTES = 1024


@dataclass(frozen=True, kw_only=True, eq=False)
class Job:
    """Everything a run works with. roster_bytes: as signed. clock: Unix seconds."""

    settings: JobSettings
    plan: TrainingPlan
    roster: Roster
    roster_bytes: bytes
    exchange: Exchange
    ledger: ReleaseLedger
    progress: Progress
    clock: Callable[[], float]

    @property
    def now(self) -> int:
        return int(self.clock())


def turn_context(job: Job, turn: Turn, digest: bytes) -> bytes:
    """The context of one attempt. digest: of the step's inputs."""
    return context(
        plan_digest=job.plan.digest,
        job_id=job.plan.job_id,
        step=turn.step,
        attempt=turn.attempt,
        num_coordinates=steps(job.plan)[turn.step].num_coordinates,
        bits=job.plan.bits,
        inputs_digest=digest,
        roster_digest=job.roster.digest,
    )


def most_bytes(job: Job, *, vector_of: Turn | None = None, shares: int = 0) -> int:
    """What an honest reply has at most, with the vector of a step, or with shares of so many parties."""
    vector = 0 if vector_of is None else steps(job.plan)[vector_of.step].num_coordinates
    return _REPLY_BYTES + ring.size_bytes(job.plan.bits, vector) + shares * _SHARES_BYTES


def read_reply(reply: bytes | Silence) -> Message:
    """Raises ProtocolError for a node that stayed silent, MalformedMessage."""
    if isinstance(reply, Silence):
        raise ProtocolError(reply.reason)
    return decode(reply)


def group_of(turn: Turn) -> str:
    """Flower's name for the messages of one attempt."""
    return f"step-{turn.step}-attempt-{turn.attempt}"
