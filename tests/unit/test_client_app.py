"""The Flower side of the client: a home that does not open says so at home and nowhere else."""

import logging
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from client.answer import refusal
from client.app import HOME_SETTING
from client.app import app as client_app
from client.home import ClientHome
from server.exchange import Exchange, Silence
from shared.errors import CatalogueMismatch, MalformedMessage, PolicyViolation, UnknownMechanism
from shared.wire import ContributionRequest, Refusal, decode, encode
from simulations.engine import InProcessGrid, run_in_process
from tests.unit.client_homes import make_catalogue, make_home

CANARY = "canary-7f3a"
NEUTRAL = Refusal(
    party="unnamed", error="ZhiyinError", message="the client could not answer; its own log says why"
)  # fmt: skip


def ask(config: dict[str, str], frame: bytes = b"") -> bytes:
    """The frame that the client sends back."""
    asked = ContributionRequest(plan_json={}, step=0, attempt=0, roster=b"", inputs={})
    answers: list[bytes | Silence] = []
    server_app = ServerApp()

    @server_app.main()
    def main(grid: Grid, context: Context) -> None:
        exchange = Exchange(grid)
        (node,) = exchange.nodes(wanted=1, least=1, timeout_seconds=0)
        asking = {node: frame or encode(asked)}
        answers.extend(exchange.ask(asking, group="g", timeout_seconds=20, most_bytes=2**20).values())

    run_in_process(server_app, InProcessGrid(client_app, [dict(config)]), {})
    (reply,) = answers
    assert isinstance(reply, bytes)
    return reply


def another_snapshot(home: ClientHome) -> None:
    (home.folder / "catalogue.bin").write_bytes(make_catalogue(5, version=2).to_bytes())


def write(name: str, text: str) -> Callable[[ClientHome], None]:
    return lambda home: (home.folder / name).write_text(text) and None


DAMAGES: dict[str, Callable[[ClientHome], None]] = {
    "CatalogueMismatch": another_snapshot,
    "catalogue": write("catalogue.bin", CANARY),
    "policy": write("policy.toml", f"name = '{CANARY}'\nwrong = 1"),
    "no policy": lambda home: (home.folder / "policy.toml").unlink(),
    "ledger": write("ledger.db", CANARY * 500),
    "no marks": lambda home: (home.folder / "ledger.marks").unlink(),
    "store": write("store.db", CANARY * 500),
    "no keys": lambda home: shutil.rmtree(home.folder / "keys"),
    "readable key": lambda home: (home.folder / "keys" / "sign.key").chmod(0o644),
    "no home": lambda home: shutil.rmtree(home.folder),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_home_that_does_not_open_is_told_to_the_local_log_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: str
) -> None:
    home = make_home(tmp_path / CANARY)
    DAMAGES[damage](home)
    with caplog.at_level(logging.WARNING, logger="zhiyin.client"):
        frame = ask({HOME_SETTING: str(home.folder)})
    assert decode(frame) == NEUTRAL
    for told in (CANARY, str(tmp_path), "Catalogue", "home", "ledger"):
        assert told.encode() not in frame
    assert CANARY in caplog.text


@pytest.mark.parametrize("config", [{}, {HOME_SETTING: ""}])
def test_a_node_without_a_home_says_nothing_of_it_either(config: dict[str, str]) -> None:
    assert decode(ask(config)) == NEUTRAL


@pytest.mark.parametrize("kind", [CatalogueMismatch, PolicyViolation, UnknownMechanism, MalformedMessage, OSError])
def test_no_class_of_error_makes_the_opening_of_a_home_talk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: type[Exception]
) -> None:
    def fails(folder: Path) -> ClientHome:
        raise kind(f"{folder}: {CANARY}")

    monkeypatch.setattr(ClientHome, "open", fails)
    assert decode(ask({HOME_SETTING: str(tmp_path)})) == NEUTRAL


def test_a_file_of_another_snapshot_is_not_named_by_an_opened_home_either() -> None:
    assert CANARY.encode() not in refusal("north", CatalogueMismatch(f"/{CANARY}/store.db: another snapshot"))


def test_an_opened_home_does_give_its_reasons(tmp_path: Path) -> None:
    home = make_home(tmp_path / CANARY)
    reply = decode(ask({HOME_SETTING: str(home.folder)}, b"nonsense"))
    assert isinstance(reply, Refusal)
    assert (reply.party, reply.error) == ("north", "MalformedMessage")
    assert reply.message
