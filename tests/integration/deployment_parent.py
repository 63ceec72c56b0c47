"""A parent to be interrupted or killed: starts a stubborn child with a child of its own, says who they are, waits."""

import os
import sys
import time
from pathlib import Path

from simulations.deployment.processes import Supervisor

GRANDCHILD = "import time; time.sleep(600)"
CHILD = f"""
import signal, subprocess, sys, time
print(subprocess.Popen([sys.executable, "-c", {GRANDCHILD!r}]).pid, flush=True)
signal.signal(signal.SIGTERM, signal.SIG_IGN)
time.sleep(600)
"""


def main(folder: Path, ending: str) -> None:
    with Supervisor(folder / "logs", grace_seconds=0.5) as supervisor:
        child = supervisor.start(
            "child", [sys.executable, "-c", CHILD], environment=dict(os.environ), working_folder=folder
        )
        while not (grandchild := child.log_text().strip()):
            time.sleep(0.02)
        print(supervisor.watchdog_pid, child.pid, grandchild, flush=True)
        if ending == "fail":
            raise RuntimeError("the work failed")
        if ending == "wait":
            time.sleep(600)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
