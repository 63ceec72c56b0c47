"""Frames out, frames in: the only file of the server that knows Flower's messages."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from flwr.app import Array, ArrayRecord, Message, MessageType, RecordDict
from flwr.serverapp import Grid

from shared.array_frame import frame_of_array
from shared.errors import TooFewClients

_CONNECT_POLL_SECONDS = 1.0
# Flower's own waiting loop sleeps three seconds a turn, most of a small round.
_REPLY_POLL_SECONDS = 0.2
_LONGEST_REASON = 200


@dataclass(frozen=True, kw_only=True)
class Silence:
    """A node that gave no frame, and what is known of the reason."""

    reason: str


class Exchange:
    """A Flower grid seen as nodes that answer a frame with a frame. clock: seconds, never falling."""

    def __init__(
        self,
        grid: Grid,
        *,
        pause: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._grid = grid
        self.pause = pause
        self._clock = clock

    def nodes(self, *, wanted: int, least: int, timeout_seconds: float) -> tuple[int, ...]:
        """Connected nodes, once `wanted` are there or the time is over. Raises TooFewClients below `least`."""
        end = self._clock() + timeout_seconds
        while True:
            present = tuple(sorted(self._grid.get_node_ids()))
            if len(present) >= wanted or self._clock() >= end:
                break
            self.pause(_CONNECT_POLL_SECONDS)
        if len(present) < least:
            raise TooFewClients(
                f"{len(present)} nodes are connected after {timeout_seconds:.0f} s, at least {least} are needed"
            )
        return present

    def ask(
        self, requests: Mapping[int, bytes], *, group: str, timeout_seconds: float, most_bytes: int
    ) -> dict[int, bytes | Silence]:
        """Send each node its frame and wait; one entry for each request.

        most_bytes: what a reply may have. A longer one is dropped as it comes in, so that replies that a node pads out
        do not pile up until all are there.
        """
        late = Silence(reason=f"no answer within {timeout_seconds:g} s")
        answers: dict[int, bytes | Silence] = dict.fromkeys(requests, late)
        messages = [
            Message(_content(frame), node, MessageType.TRAIN, ttl=max(timeout_seconds, 1.0), group_id=group)
            for node, frame in requests.items()
        ]
        sent = zip(self._grid.push_messages(messages), requests, strict=False)
        waiting = {identifier: node for identifier, node in sent if identifier}
        del messages
        end = self._clock() + timeout_seconds
        while waiting:
            for reply in self._grid.pull_messages(list(waiting)):
                node = waiting.pop(reply.metadata.reply_to_message_id, None)
                if node is not None:
                    answers[node] = _received(reply, most_bytes)
            if self._clock() >= end:
                break
            if waiting:
                self.pause(_REPLY_POLL_SECONDS)
        return answers


def _content(frame: bytes) -> RecordDict:
    return RecordDict({"frame": ArrayRecord({"frame": Array(np.frombuffer(frame, np.uint8))})})


def _received(reply: Message, most_bytes: int) -> bytes | Silence:
    if reply.has_error():
        return Silence(reason=f"Flower error {reply.error.code}: {reply.error.reason}"[:_LONGEST_REASON])
    try:
        data = reply.content.array_records["frame"]["frame"].data
        if len(data) > most_bytes:
            return Silence(reason=f"its reply has {len(data)} bytes, {most_bytes} at most were to be expected")
        return frame_of_array(data)
    except Exception:
        # A node may send anything in its record: whatever it is, it is not a frame.
        return Silence(reason="its reply holds no frame")
