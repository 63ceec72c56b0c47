"""What a run tells the people who watch it: one JSON object a line, on standard output and in `events.jsonl`.

Names of parties, numbers and reasons, never a person's data; this server does not hold any.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

FILE = "events.jsonl"
_LONGEST_TEXT = 300


class Progress:
    """Call it with an event's name and fields. `clock`: Unix seconds."""

    def __init__(self, folder: Path, clock: Callable[[], float]) -> None:
        self._path = folder / FILE
        self._clock = clock

    def __call__(self, event: str, **fields: Any) -> None:
        """Append one line. Text is cut short, because some of it was written by other parties."""
        kept = {name: value[:_LONGEST_TEXT] if isinstance(value, str) else value for name, value in fields.items()}
        line = json.dumps({"time": round(self._clock(), 3), "event": event, **kept}, ensure_ascii=True)
        with self._path.open("a", encoding="ascii") as file:
            file.write(line + "\n")
        print(line, flush=True)
