"""What a device runs must not load what only a tenant or a laboratory needs."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
HEAVY = ("torch", "opacus", "sqlalchemy", "pyarrow", "scipy", "flwr", "grpc", "pandas", "matplotlib")
REPORT = "import sys; print(' '.join(sorted(set(sys.argv[1:]) & set(sys.modules))))"

ON_A_DEVICE = "\n".join(
    f"import {module}"
    for module in (
        "client.store", "client.ledger", "client.policy", "client.policy_file", "client.home", "client.vault",
        "client.recommend", "client.importing", "client.connectors", "client.inspection", "client.preview",
        "client.cli", "shared.ranking", "shared.published", "shared.artifact", "shared.plan", "shared.wire",
    )
)  # fmt: skip

USE_A_DEVICE = """
import sys, tempfile
from pathlib import Path
from tests.unit.client_homes import CATALOGUE, cooccurrence, make_home
from client.importing import import_source
from client.preview import preview
home = make_home(Path(tempfile.mkdtemp()))
path = home.folder / "events.csv"
path.write_text("user,item\\nann,course-1\\n")
import_source(home.store, CATALOGUE, str(path))
home.store.interactions(CATALOGUE)
preview(home, cooccurrence())
"""


def loaded(code: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\n{REPORT}", *HEAVY], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


@pytest.mark.parametrize("code", [ON_A_DEVICE, USE_A_DEVICE], ids=["imported", "used"])
def test_nothing_heavy_is_loaded(code: str) -> None:
    assert loaded(code) == set()


def test_the_check_sees_what_is_loaded() -> None:
    assert loaded("import sqlalchemy, pyarrow") == {"sqlalchemy", "pyarrow"}
