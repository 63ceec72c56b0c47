"""When an answer may leave: at a time that was fixed before any history was read.

Summing takes longer the more interactions a home holds, and whoever sees an answer leave sees how long it took. So an
answer that needed the histories, refusals among them, leaves `answer_seconds` after its question came in. One that is
not ready by then waits for the next multiple: it is late by a whole number of periods, and that number is all that time
tells. It is not refused instead, because a refusal would tell as much, and throw away what was charged for.

Everything else leaves at once: other messages and other refusals come from the request, the policy and the ledger.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from math import ceil

from client.answer import RandomBytes, answer
from client.home import ClientHome
from shared.errors import PolicyViolation

LOG = logging.getLogger("zhiyin.client")
# An answer that misses its time once still arrives, and there is room for the way there and back.
_WAITS_FOR = 2


@dataclass(frozen=True, kw_only=True)
class Timer:
    """clock: seconds, never falling. sleep: returns after about so many of them."""

    clock: Callable[[], float]
    sleep: Callable[[float], None]


def answer_on_time(
    home: ClientHome,
    frame: bytes,
    *,
    came_in: float,
    waits_seconds: float,
    timer: Timer,
    now: int,
    random_bytes: RandomBytes,
) -> bytes:
    """What `answer` says, not before it may leave. Never raises.

    came_in: by the timer's clock, taken before the home was opened. waits_seconds: how long the server waits; unless
    that is twice the policy's answer_seconds, a question for histories is refused before it costs anything.
    """
    period, waits_for_its_time = home.policy.answer_seconds, False

    def before_histories() -> None:
        nonlocal waits_for_its_time
        if waits_seconds < _WAITS_FOR * period:
            raise PolicyViolation(
                f"answers of {home.name} leave {period:g} s after the question (answer_seconds in its policy), and the "
                f"server waits {waits_seconds:g} s; it must wait {_WAITS_FOR * period:g} s (collect_seconds of the job)"
            )
        waits_for_its_time = period > 0

    reply = answer(home, frame, now=now, random_bytes=random_bytes, before_histories=before_histories)
    if waits_for_its_time:
        _wait(came_in, period, timer)
    return reply


def leaves_at(came_in: float, ready: float, period: float) -> float:
    """The first time one or more periods after `came_in` that is not before `ready`; all in seconds, period above 0."""
    periods = max(1, ceil((ready - came_in) / period))
    # The quotient may have been rounded down onto a whole number.
    return came_in + period * (periods if came_in + period * periods >= ready else periods + 1)


def _wait(came_in: float, period: float, timer: Timer) -> None:
    end = leaves_at(came_in, timer.clock(), period)
    if end > came_in + period:
        LOG.warning(
            "an answer was ready only after answer_seconds = %g and leaves at %g s, which tells the server that it "
            "took so long; raise answer_seconds in policy.toml",
            period,
            end - came_in,
        )
    while (left := end - timer.clock()) > 0:
        timer.sleep(left)
