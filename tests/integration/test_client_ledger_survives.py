"""Real processes: a killed charger loses nothing it acknowledged, and two chargers cannot both pass the budget."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from client.ledger import Ledger
from shared import accounting
from shared.errors import OldRoster
from shared.mechanism import Gaussian

ROOT = Path(__file__).resolve().parents[2]

CHARGE_IN_A_LOOP = """
import os, sys
from pathlib import Path
from client.ledger import Ledger
from shared.mechanism import Gaussian
ledger, acknowledge_first = Ledger.open(Path(sys.argv[1])), sys.argv[2] == "acknowledge-first"
for number in range(len(ledger.entries()), 1_000_000):
    if acknowledge_first:
        os.write(1, number.to_bytes(8, "big"))
    if number % 3 == 2:
        ledger.answer_once([number.to_bytes(32, "big")])
    else:
        ledger.charge(job_id="job", step=number, attempt=0, context=number.to_bytes(32, "big"),
                      mechanism=Gaussian(noise_std=1000.0, sensitivity=1.0), budget=None, job_budget=None)
    if not acknowledge_first:
        os.write(1, number.to_bytes(8, "big"))
"""

CHARGE_ONCE = """
import sys
from pathlib import Path
from client.ledger import Ledger
from shared.accounting import Budget
from shared.errors import BudgetExhausted
from shared.mechanism import Gaussian
ledger = Ledger.open(Path(sys.argv[1]))
sys.stdout.write("ready\\n"); sys.stdout.flush(); sys.stdin.readline()
try:
    ledger.charge(job_id="job", step=0, attempt=0, context=sys.argv[2].encode().rjust(32),
                  mechanism=Gaussian(noise_std=5.0, sensitivity=1.0), budget=Budget(epsilon=1.0, delta=1e-6),
                  job_budget=None)
    print("granted")
except BudgetExhausted:
    print("refused")
"""


def python(code: str, *arguments: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )


def kill_at_work(path: Path, order: str, instants: random.Random) -> tuple[set[int], list[int]]:
    """Start a charger, SIGKILL it at a random instant; what it acknowledged, and what the ledger then holds."""
    with python(CHARGE_IN_A_LOOP, str(path), order) as child:
        assert child.stdout is not None
        first = os.read(child.stdout.fileno(), 8)  # it is at work
        time.sleep(instants.uniform(0, 0.08))
        child.send_signal(signal.SIGKILL)
        said = first + child.stdout.read()
    acknowledged = {int.from_bytes(said[at : at + 8], "big") for at in range(0, len(said) - 7, 8)}
    # Opening verifies chain and marks.
    return acknowledged, [int.from_bytes(entry.context, "big") for entry in Ledger.open(path).entries()]


def test_every_acknowledged_entry_survives_kill_9_at_random_instants(tmp_path: Path) -> None:
    path = Ledger.create(tmp_path / "ledger.db").path
    instants, acknowledged = random.Random(20261), set[int]()
    for kills in range(1, 9):
        said, present = kill_at_work(path, "commit-first", instants)
        acknowledged |= said
        assert present == list(range(len(present)))
        assert acknowledged <= set(present)
        # At most the entry that was under way is there without having been acknowledged.
        assert len(present) - len(acknowledged) <= kills
    assert len(acknowledged) >= 8


def test_the_check_above_notices_a_charger_that_acknowledges_before_it_commits(tmp_path: Path) -> None:
    path = Ledger.create(tmp_path / "ledger.db").path
    instants = random.Random(20262)
    lost = [
        said - set(present) for said, present in (kill_at_work(path, "acknowledge-first", instants) for _ in range(6))
    ]
    assert any(lost)


def test_two_processes_cannot_both_squeeze_under_the_budget(tmp_path: Path) -> None:
    noise = Gaussian(noise_std=5.0, sensitivity=1.0)
    assert accounting.epsilon([noise], 1e-6) <= 1 < accounting.epsilon([noise] * 2, 1e-6)
    path = Ledger.create(tmp_path / "ledger.db").path
    children = [python(CHARGE_ONCE, str(path), name) for name in ("first", "second", "third")]
    for child in children:
        assert child.stdout is not None
        assert child.stdout.readline() == b"ready\n"
    for child in children:
        assert child.stdin is not None
        child.stdin.write(b"go\n")
        child.stdin.flush()
    outcomes = sorted(child.communicate()[0].decode().strip() for child in children)
    assert outcomes == ["granted", "refused", "refused"]
    assert len(Ledger.open(path).entries()) == 1


ACCEPT_IN_A_LOOP = """
import os, sys
from pathlib import Path
from client.ledger import Ledger
ledger = Ledger.open(Path(sys.argv[1]))
newest = ledger.newest_roster("")
for epoch in range(1 if newest is None else newest.epoch + 1, 1_000_000):
    ledger.accept_roster(issuer="", epoch=epoch, digest=epoch.to_bytes(32, "big"))
    os.write(1, epoch.to_bytes(8, "big"))
"""


def test_an_accepted_list_of_parties_is_never_forgotten_by_kill_9(tmp_path: Path) -> None:
    path, instants, highest = Ledger.create(tmp_path / "ledger.db").path, random.Random(20263), 0
    for _ in range(6):
        with python(ACCEPT_IN_A_LOOP, str(path)) as child:
            assert child.stdout is not None
            first = os.read(child.stdout.fileno(), 8)
            time.sleep(instants.uniform(0, 0.08))
            child.send_signal(signal.SIGKILL)
            said = first + child.stdout.read()
        whole = len(said) // 8 * 8
        highest = max(highest, int.from_bytes(said[whole - 8 : whole], "big"))
        newest = Ledger.open(path).newest_roster("")
        assert newest is not None
        assert highest <= newest.epoch <= highest + 1
        with pytest.raises(OldRoster):
            Ledger.open(path).accept_roster(issuer="", epoch=highest - 1, digest=bytes(32))
        highest = newest.epoch
    assert highest >= 6
