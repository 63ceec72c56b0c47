"""A real process killed while it imports: the store is as before, or has all of it."""

import signal
import subprocess
import sys
import time
from pathlib import Path

from client.importing import import_source
from client.store import Store
from tests.unit.client_homes import CATALOGUE, make_home

ROOT = Path(__file__).resolve().parents[2]
NUM_ROWS = 30_000
IMPORT = """
import sys
from pathlib import Path
from client.home import ClientHome
from client.importing import import_source
home = ClientHome.open(Path(sys.argv[1]))
print("started", flush=True)
import_source(home.store, home.catalogue, sys.argv[2])
"""


def test_an_import_that_is_killed_leaves_no_half(tmp_path: Path) -> None:
    home = make_home(tmp_path)
    first, large = tmp_path / "first.csv", tmp_path / "large.csv"
    first.write_text("user,item,timestamp\nann,course-1,1\n")
    large.write_text("user,item,timestamp\n" + "".join(f"user-{n},course-{n % 12},{n}\n" for n in range(NUM_ROWS)))
    import_source(home.store, CATALOGUE, str(first))
    seen = set()
    for pause in (0.0, 0.05, 0.1, 0.2):
        with subprocess.Popen(
            [sys.executable, "-c", IMPORT, str(home.folder), str(large)], cwd=ROOT, stdout=subprocess.PIPE
        ) as child:
            assert child.stdout is not None
            assert child.stdout.readline() == b"started\n"
            time.sleep(pause)
            child.send_signal(signal.SIGKILL)
        seen.add(Store.open(home.store.path).counts().num_events)
    assert seen <= {1, NUM_ROWS + 1}
    assert 1 in seen
    import_source(home.store, CATALOGUE, str(large))
    assert home.store.counts().num_events == NUM_ROWS + 1
