"""Logs: one JSON object a line on standard output, of this service and of its web server alike.

A line never holds what somebody sent: errors are written as their types and where they happened, without messages,
for a message may quote a value. Libraries are heard from warnings on.
"""

import logging
import sys
import traceback
from collections.abc import MutableMapping
from typing import Any, TextIO

import structlog

Event = MutableMapping[str, Any]
_SERVER = ("uvicorn", "uvicorn.error", "uvicorn.access", "uvicorn.asgi")
_MOST_PLACES = 40


def configure_logs(level: str, stream: TextIO | None = None) -> None:
    """Send every log of this process to `stream`, standard output by default. level: debug, info, warning or error."""
    number = logging.getLevelNamesMapping()[level.upper()]
    stream = stream or sys.stdout
    shared: list[Any] = [
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
        _without_messages_of_errors,
    ]
    structlog.configure(
        processors=[_named, *shared, _in_order, structlog.processors.JSONRenderer(ensure_ascii=False)],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.WriteLoggerFactory(file=stream),
        cache_logger_on_first_use=False,
    )
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[structlog.stdlib.add_logger_name, *shared],
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            _in_order,
            structlog.processors.JSONRenderer(ensure_ascii=False),
        ],
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    for name in _SERVER:
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
        logger.setLevel(number)
    logging.captureWarnings(True)


def _named(_: Any, __: str, event: Event) -> Event:
    event.setdefault("logger", "platform")
    return event


def _without_messages_of_errors(_: Any, __: str, event: Event) -> Event:
    """Replace exc_info by the chain of errors' types and the places of the innermost one."""
    given = event.pop("exc_info", None)
    if given is None or given is False:
        return event
    error = given if isinstance(given, BaseException) else given[1] if isinstance(given, tuple) else sys.exc_info()[1]
    if error is None:
        return event
    event.update(described(error))
    return event


def described(error: BaseException) -> Event:
    """What a log line says of an error, however logs are set up: types and places, no message and no values."""
    places = [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in traceback.extract_tb(error.__traceback__)]
    return {"error": " < ".join(type(one).__name__ for one in _chain(error)), "places": places[-_MOST_PLACES:]}


def _chain(error: BaseException | None) -> list[BaseException]:
    found: list[BaseException] = []
    while error is not None and error not in found:
        found.append(error)
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return found


def _in_order(_: Any, __: str, event: Event) -> Event:
    first = ("time", "level", "logger", "event")
    return {name: event[name] for name in first if name in event} | {
        name: value for name, value in event.items() if name not in first
    }
