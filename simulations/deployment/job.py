"""One run of the app in a federation: waiting for its end, and what that end was."""

import json
import math
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from shared.errors import BadSetting, ProcessFailed
from simulations.deployment.processes import POLL_SECONDS, Child, Supervisor

RunValue = str | int | float | bool
STARTED = re.compile(r"Successfully started run (\d+)")
FINISHED = "finished"
SETTLE_SECONDS = 30.0


@dataclass(frozen=True, kw_only=True)
class RunEnd:
    """How a run ended: its id, Flower's status (only "finished:completed" is good) and its log."""

    run_id: int
    status: str
    log: str

    @property
    def completed(self) -> bool:
        return self.status == "finished:completed"


@dataclass(frozen=True, kw_only=True)
class Job:
    """A run that was asked for: `child` is the `flwr run --stream` that follows its log."""

    child: Child
    supervisor: Supervisor
    status_of: Callable[[int], str]

    def run_id(self, *, timeout_seconds: float = 60.0) -> int:
        """Wait until the SuperLink has taken the run; raises ProcessFailed if it refuses."""
        deadline = time.monotonic() + timeout_seconds
        while (found := STARTED.search(self.child.log_text())) is None:
            if not self.child.running or time.monotonic() > deadline:
                raise ProcessFailed(f"the run did not start; {self.child.log} says:\n{self.child.log_text()[-2000:]}")
            time.sleep(POLL_SECONDS)
        return int(found.group(1))

    def wait(self, *, timeout_seconds: float) -> RunEnd:
        """Wait for the end. The SuperLink is asked how it ended: the command line ends with 0 for a failed run too.

        Raises ProcessFailed if the time is over; the run itself is not stopped then, but its log is no longer followed.
        """
        deadline = time.monotonic() + timeout_seconds
        run_id = self.run_id(timeout_seconds=timeout_seconds)
        while self.child.running and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)
        in_time = not self.child.running
        self.supervisor.stop(self.child)
        if not in_time:
            raise ProcessFailed(f"run {run_id} did not end within {timeout_seconds:.0f} s; see {self.child.log}")
        # The log may end shortly before the run is marked as finished, or because the connection broke.
        settled = time.monotonic() + SETTLE_SECONDS
        while not (status := self.status_of(run_id)).startswith(FINISHED):
            if time.monotonic() > min(settled, deadline):
                raise ProcessFailed(f"the log of run {run_id} ended, but the run is {status}; see {self.child.log}")
        return RunEnd(run_id=run_id, status=status, log=self.child.log_text())


def run_config_text(run_config: Mapping[str, RunValue]) -> str:
    """Return the values as `flwr run --run-config` reads them (TOML); raises BadSetting for one that TOML has not."""
    return " ".join(f"{key}={_toml(key, value)}" for key, value in run_config.items())


def _toml(key: str, value: RunValue) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_.-]+", key):
        raise BadSetting(
            f"{key!r} cannot be the name of a run setting: letters, digits, dot, hyphen and underscore only"
        )
    if isinstance(value, float) and not math.isfinite(value):
        raise BadSetting(f"run setting {key} must be a finite number, not {value}")
    if isinstance(value, str) and any(ord(letter) < 32 or letter in "'\"\\" for letter in value):
        raise BadSetting(f"run setting {key} must not hold quotes, backslashes or control characters")
    return json.dumps(value, ensure_ascii=False)
