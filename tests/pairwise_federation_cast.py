"""A federation without helpers for the tests of whole rounds: five tenants, of which one may collude and one drop out.

`threes` is the smallest federation: three tenants, one of which may collude, none of which may drop out.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord, Error, Message, RecordDict

from shared.wire import decode
from shared.wire_pairwise import DealRequest, KeysRequest, MaskRequest, OpenRequest, SignRequest
from tests.federation_cast import Cast, make_cast

FIVE = ("anna", "bert", "carl", "dora", "emil")
NODES = {name: 101 + place for place, name in enumerate(FIVE)}
PHASES: dict[str, type[Any]] = {
    "keys": KeysRequest,
    "deal": DealRequest,
    "mask": MaskRequest,
    "sign": SignRequest,
    "open": OpenRequest,
}
Fault = Callable[[int, Message, Any], Message | None]


def fives(folder: Path, *, noise: str = "none", **changes: Any) -> Cast:
    plan = {"topology": "pairwise", "num_parties": 5, "degree": 4, "threshold": 3, "colluding": 1}
    return _cast(folder, FIVE, plan, {"noise": noise, "min_tenants": 4, **changes})


def threes(folder: Path, *, noise: str = "none", **changes: Any) -> Cast:
    plan = {"topology": "pairwise", "num_parties": 3, "degree": 2, "threshold": 2, "colluding": 1}
    policy = {"pairwise_dropped": 0.0, **changes.pop("policy_changes", {})}
    return _cast(folder, FIVE[:3], plan, {"noise": noise, "min_tenants": 3, "policy_changes": policy, **changes})


def _cast(folder: Path, names: tuple[str, ...], plan: dict[str, Any], changes: dict[str, Any]) -> Cast:
    plan = {**plan, **changes.pop("plan_changes", {})}
    policy = {"allowed_topologies": ("pairwise",), **changes.pop("policy_changes", {})}
    return make_cast(folder, names=names, helpers=(), plan_changes=plan, policy_changes=policy, **changes)


def frame_of(message: Message) -> bytes:
    return message.content.array_records["frame"]["frame"].numpy().tobytes()


def reply_with(message: Message, frame: bytes) -> Message:
    record = ArrayRecord({"frame": Array(np.frombuffer(frame, np.uint8))})
    return Message(RecordDict({"frame": record}), reply_to=message)


def dies(node: int, message: Message, handler: Any) -> Message:
    return Message(Error(8, "the node's process ended"), reply_to=message)


def says(frame: bytes) -> Fault:
    return lambda node, message, handler: reply_with(message, frame)


def is_silent(node: int, message: Message, handler: Any) -> None:
    return None


class Meddler:
    """Lets `fault` replace the exchanges of `names` from `phase` on, for one phase alone or to the end of the attempt.

    seen: every request that came by, as (name, message type).
    """

    def __init__(self, phase: str, fault: Fault, *names: str, to_the_end: bool = True, attempts: int = 1) -> None:
        self.nodes = {NODES[name] for name in names}
        self.phase, self.fault, self.to_the_end, self.attempts = phase, fault, to_the_end, attempts
        self.gone: set[int] = set()
        self.begun: dict[int, int] = {}

    def __call__(self, node: int, message: Message, handler: Any) -> Message | None:
        request = decode(frame_of(message))
        if isinstance(request, KeysRequest):
            self.begun[node] = self.begun.get(node, 0) + 1
            self.gone.discard(node)
        is_meant = node in self.nodes and self.begun.get(node, 0) <= self.attempts
        if is_meant and (isinstance(request, PHASES[self.phase]) or (self.to_the_end and node in self.gone)):
            self.gone.add(node)
            return self.fault(node, message, handler)
        return handler(message)
