"""Everything that the server sees of one job, recorded in process, and what an adversary can read off it as numbers."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from zlib import crc32

import numpy as np
from flwr.app import Message as FlowerMessage
from numpy.typing import NDArray

from shared.errors import DeploymentError
from shared.wire import (
    ContributionReply,
    ContributionRequest,
    Message,
    Refusal,
    UnmaskReply,
    UnmaskRequest,
    decode,
)
from simulations.auditing.stage import Stage
from simulations.engine import Handler, Traffic

_KINDS = (ContributionRequest, ContributionReply, UnmaskRequest, UnmaskReply, Refusal)
_BINS = 16


@dataclass(frozen=True, kw_only=True, eq=False)
class Call:
    """One request and its reply. reply: None for what is no frame.

    frame_bytes, wire_bytes: of the reply, as our frame and as Flower's message. seconds: of the client's work, from the
    request handed over to the reply handed back, in this process: without network, and with everything it reads.
    """

    node: int
    request: ContributionRequest | UnmaskRequest
    reply: Message | None
    frame_bytes: int
    wire_bytes: int
    seconds: float


@dataclass(frozen=True, kw_only=True, eq=False)
class Transcript:
    """calls: in order. completed: whether the job came to its end by itself."""

    calls: tuple[Call, ...]
    completed: bool


Until = Literal["end", "first sum", "first replies"]


class _Enough(Exception):
    """What was wanted is recorded."""


class _Recorder:
    """Stands between server and clients and changes nothing."""

    def __init__(self, until: Until) -> None:
        self.calls: list[Call] = []
        self.traffic: list[Traffic] = []
        self._until = until

    def __call__(self, node: int, message: FlowerMessage, handler: Handler) -> FlowerMessage | None:
        request = decode(_frame(message))
        if not isinstance(request, ContributionRequest | UnmaskRequest):
            raise TypeError(f"a server does not send a {type(request).__name__}")
        if self._is_beyond(request):
            raise _Enough
        before = time.perf_counter()
        reply = handler(message)
        seconds = time.perf_counter() - before
        frame = b"" if reply is None or reply.has_error() else _frame(reply)
        call = Call(
            node=node,
            request=request,
            reply=decode(frame) if frame else None,
            frame_bytes=len(frame),
            wire_bytes=0,
            seconds=seconds,
        )
        self.calls.append(call)
        return reply

    def _is_beyond(self, request: ContributionRequest | UnmaskRequest) -> bool:
        if self._until == "first replies" and isinstance(request, UnmaskRequest):
            return True
        return self._until != "end" and request.step > 0


def record(stage: Stage, folder: Path, *, until: Until = "end") -> Transcript:
    """Run one job of this world in a new `folder`. until: where to stop, for what shows early."""
    recorder, completed = _Recorder(until), True
    try:
        stage.copied(folder).run(recorder, recorder.traffic)
    except (_Enough, DeploymentError):
        completed = False
    sizes = [len(each.data) for each in recorder.traffic if each.to_server]
    calls = [
        Call(**{**vars(call), "wire_bytes": size}) for call, size in zip(recorder.calls, sizes, strict=True)
    ]  # fmt: skip
    return Transcript(calls=tuple(calls), completed=completed)


def conduct(transcript: Transcript) -> NDArray[np.float64]:
    """Who was asked what in which order, who answered how, what refusals say, and what is declared."""
    rows = []
    for call in transcript.calls:
        said = call.reply
        words = f"{said.error}|{said.message}" if isinstance(said, Refusal) else ""
        users = said.declared_users if isinstance(said, ContributionReply) else 0
        rows += [
            call.node, _kind(call.request), _kind(said), call.request.step, call.request.attempt, users,
            crc32(words.encode()), len(words),
        ]  # fmt: skip
    return np.array([len(transcript.calls), float(transcript.completed), *rows], dtype=np.float64)


def sizes(transcript: Transcript) -> NDArray[np.float64]:
    """The length of every reply, as a frame, as Flower's message, and of the vector inside."""
    rows = [[call.frame_bytes, call.wire_bytes, len(_vector(call.reply))] for call in transcript.calls]
    return np.array(rows, dtype=np.float64).ravel()


def times(transcript: Transcript) -> NDArray[np.float64]:
    """Logarithms of how long every reply took, and of all of them together."""
    seconds = np.array([call.seconds for call in transcript.calls])
    return np.asarray(np.log(np.append(seconds, seconds.sum())), dtype=np.float64)


def contents(transcript: Transcript) -> NDArray[np.float64]:
    """What the masked vectors look like: histograms of their bytes, means by place in a word, and how uneven both
    are."""
    return np.concatenate([_byte_statistics(_vector(call.reply)) for call in transcript.calls])


def table(rows: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """One row a transcript, the shorter ones filled up with -1: a transcript that ended early differs in that."""
    longest = max(map(len, rows))
    return np.array([np.pad(row, (0, longest - len(row)), constant_values=-1.0) for row in rows])


def _byte_statistics(vector: bytes) -> NDArray[np.float64]:
    data = np.frombuffer(vector, dtype=np.uint8)
    counts = np.bincount(data, minlength=256)
    by_place = [float(data[place::8].mean()) if len(data) > place else 0.0 for place in range(8)]
    expected = max(len(data), 1) / 256
    uneven = float(np.sum((counts - expected) ** 2 / expected))
    binned = counts.reshape(_BINS, -1).sum(axis=1)
    return np.array([uneven, counts[0], counts[255], data.sum(), *by_place, *binned], dtype=np.float64)


def _vector(message: Message | None) -> bytes:
    if isinstance(message, ContributionReply):
        return message.contribution.masked
    return message.answer.mask_sum if isinstance(message, UnmaskReply) else b""


def _kind(message: Message | None) -> int:
    return -1 if message is None else _KINDS.index(type(message))


def _frame(message: FlowerMessage) -> bytes:
    return message.content.array_records["frame"]["frame"].numpy().tobytes()
