"""One run of the app in a federation: waiting for its end, and what that end was."""

import time
from dataclasses import dataclass

from shared.errors import ProcessFailed
from simulations.deployment.control import Control

FINISHED = "finished"
# A question costs the SuperLink and this process some ten milliseconds.
STATUS_SECONDS = 0.3


@dataclass(frozen=True, kw_only=True)
class RunEnd:
    """How a run ended: its id, Flower's status (only "finished:completed" is good) and its log."""

    run_id: int
    status: str
    log: str

    @property
    def completed(self) -> bool:
        return self.status == "finished:completed"


class Job:
    """A run that the SuperLink has taken; look at it as often as you like, it is asked for every STATUS_SECONDS."""

    def __init__(self, run_id: int, control: Control) -> None:
        self.run_id = run_id
        self._control = control
        self._asked_at = float("-inf")
        self._status = ""

    @property
    def status(self) -> str:
        """How the run stood lately, as `Control.status` tells it; raises ProcessFailed without a SuperLink."""
        if time.monotonic() >= self._asked_at + STATUS_SECONDS and not self._status.startswith(FINISHED):
            self._status = self._control.status(self.run_id)
            self._asked_at = time.monotonic()
        return self._status

    @property
    def running(self) -> bool:
        return not self.status.startswith(FINISHED)

    def wait(self, *, timeout_seconds: float) -> RunEnd:
        """Wait for the end. Raises ProcessFailed if the time is over; the run itself is not stopped then."""
        deadline = time.monotonic() + timeout_seconds
        while self.running:
            if time.monotonic() > deadline:
                raise ProcessFailed(
                    f"run {self.run_id} did not end within {timeout_seconds:.0f} s; it is {self.status}"
                )
            time.sleep(STATUS_SECONDS)
        return RunEnd(run_id=self.run_id, status=self.status, log=self._control.log(self.run_id))
