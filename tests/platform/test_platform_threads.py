"""Which dependencies of routes take a thread of the pool: those that ask the database, and no others.

The framework gives every other function a thread of the pool; a list of recommendations passed through ten of them.
"""

import inspect
from collections.abc import Iterator
from typing import Any

from fastapi.dependencies.models import Dependant
from fastapi.routing import iter_route_contexts

from tests.platform_cast import Shop

IN_A_THREAD = {
    "platform_api.access._caller",
    "platform_api.database._read_session",
    "platform_api.database._write_session",
    "platform_api.recommendations.routes._explanation",
}


def dependencies(dependant: Dependant) -> Iterator[Any]:
    for each in dependant.dependencies:
        yield each.call
        yield from dependencies(each)


def test_only_what_asks_the_database_takes_a_thread(shop: Shop) -> None:
    calls = {
        call
        for context in iter_route_contexts(shop.app.routes)
        if hasattr(context.route, "dependant")
        for call in dependencies(context.route.dependant)
    }
    threaded = {
        f"{call.__module__}.{call.__qualname__}"
        for call in calls
        if not inspect.iscoroutinefunction(call) and not inspect.isasyncgenfunction(call)
    }
    assert len(calls) > 15, "all routes were looked at"
    assert threaded == IN_A_THREAD
