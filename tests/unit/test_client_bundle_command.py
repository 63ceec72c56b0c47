import json
from pathlib import Path

from typer.testing import CliRunner

from client.bundle import build_bundle, bundle_digest
from client.cli import client_app

PROJECT = Path(__file__).resolve().parents[2]


def test_the_digest_for_the_allow_list_is_that_of_the_bundle_built_from_the_reviewed_tree() -> None:
    result = CliRunner().invoke(client_app, ["bundle", str(PROJECT), "--json"])
    shown = json.loads(result.stdout)
    assert shown["digest"] == bundle_digest(build_bundle(PROJECT))
    assert {"server/app.py", "client/app.py", "shared/plan.py"} < set(shown["files"])
    assert not [name for name in shown["files"] if name.startswith(("simulations/", "tests/", "docs/"))]
