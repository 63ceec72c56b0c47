"""What time it is, as a dependency: tests set it."""

import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated

from fastapi import Depends, Request
from pydantic import AwareDatetime, BeforeValidator

Clock = Callable[[], datetime]


def system_clock() -> datetime:
    """Now, in UTC."""
    return datetime.now(UTC)


async def _now(request: Request) -> datetime:
    now: datetime = request.app.state.clock()
    return now


_INSTANT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d)")


def _as_stated(value: object) -> object:
    # Left to itself, the library takes numbers too, and guesses whether they are seconds or milliseconds.
    if not isinstance(value, datetime) and not (isinstance(value, str) and _INSTANT.fullmatch(value)):
        raise ValueError("a time is stated as 2030-01-31T08:00:00Z, with its zone")
    return value


Instant = Annotated[AwareDatetime, BeforeValidator(_as_stated)]
Now = Annotated[datetime, Depends(_now)]
