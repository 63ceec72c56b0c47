"""A client that joined a platform over HTTP: it takes what was signed, and lists what the platform lists."""

import json
import re
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from client.cli import client_app
from client.fetching import adopt_catalogue, fetch_catalogue, fetch_model, make_joined
from client.home import ClientHome
from client.importing import import_source
from client.platform_http import Platform
from client.policy import LocalPolicy
from client.recommend import installed_model, suggest
from shared.canonical import sha256_hex
from shared.errors import (
    ArtifactRejected,
    BadSignature,
    CatalogueMismatch,
    DeploymentError,
    MalformedMessage,
    NoInteractions,
    ZhiyinError,
)
from shared.invitation import Invitation, sign_invitation
from tests.platform_cast import Person
from tests.platform_histories import FixedHistories, agree
from tests.platform_models import NUM_ITEMS, artifact
from tests.platform_served import Served, served
from tests.secagg_cast import signing_key


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("served")) as found:
        found.make_live(1)
        found.shop.app.state.histories = FixedHistories()
        yield found


@pytest.fixture
def invitation(place: Served) -> tuple[bytes, Invitation]:
    found: tuple[bytes, Invitation] = place.invited() if not hasattr(place, "kept") else place.kept
    place.kept = found  # type: ignore[attr-defined]
    return found


@pytest.fixture
def home(place: Served, invitation: tuple[bytes, Invitation], tmp_path: Path) -> ClientHome:
    data, opened = invitation
    return make_joined(tmp_path / "home", data, opened, LocalPolicy(name="device"))


def buyer(place: Served, *product_ids: str) -> Person:
    person = place.shop.register()
    agree(person, "service-personalisation")
    place.shop.app.state.histories.buy(person.id, *product_ids)
    return person


def hold(home: ClientHome, place: Served, person: Person) -> None:
    """The person's purchases as their own client's store has them."""
    rows = [f"me,{item},{at.timestamp()}" for item, at in place.shop.app.state.histories.bought.get(person.id, [])]
    path = home.folder.with_name("history.csv")
    path.write_text("\n".join(["user,item,timestamp", *rows]) + "\n")
    import_source(home.store, home.catalogue, str(path))


def by_platform(person: Person, k: int) -> list[str]:
    return [item["product_id"] for item in person.get(f"/recommendations?k={k}").json()["items"]]


def by_client(home: ClientHome, k: int, **more: Any) -> list[str]:
    return [line.item_id for line in suggest(ClientHome.open(home.folder), "me", k, **more)]


HISTORIES = [
    (3,),
    (3, 7),
    (7, 3),
    (0, 1, 2, 3, 4, 5, 6, 7, 8, 9),
    (20, 21),
    (23, 5, 17, 2),
    tuple(range(NUM_ITEMS - 3)),
]


@pytest.mark.parametrize("places", HISTORIES, ids=str)
def test_the_client_lists_what_the_platform_lists_item_for_item(
    place: Served, home: ClientHome, places: tuple[int, ...]
) -> None:
    fetch_model(home.folder)
    person = buyer(place, *(place.product_ids[number] for number in places))
    hold(home, place, person)
    for k in (1, 4, 10, NUM_ITEMS):
        listed = by_platform(person, k)
        assert by_client(home, k) == listed
        assert len(listed) == min(k, NUM_ITEMS - len(places))


def test_a_newcomer_is_listed_the_same_by_both(place: Served, home: ClientHome) -> None:
    fetch_model(home.folder)
    person = buyer(place)
    for k in (3, NUM_ITEMS):
        assert by_client(home, k, newcomer=True) == by_platform(person, k)
    with pytest.raises(NoInteractions):
        by_client(home, 3)


def test_the_order_of_a_history_counts_for_both(place: Served, home: ClientHome) -> None:
    # The control of the agreement above: lists that were the same for every history would agree as well.
    fetch_model(home.folder)
    lists = {tuple(by_platform(buyer(place, *(place.product_ids[n] for n in places)), 10)) for places in HISTORIES[:6]}
    assert len(lists) == 6


def test_a_model_is_fetched_once_and_again_when_another_is_live(place: Served, home: ClientHome) -> None:
    first = fetch_model(home.folder)
    assert (first.is_new, first.artifact.version, first.moved) == (True, 1, None)
    again = fetch_model(home.folder)
    assert (again.is_new, again.artifact.version) == (False, 1)
    place.make_live(2)
    try:
        newer = fetch_model(home.folder)
        assert (newer.is_new, newer.artifact.version) == (True, 2)
    finally:
        answer = place.operator.post("/models/recommender/versions/2/rollback")
        assert answer.status_code == 200, answer.text
        place.publisher.live = sha256_hex(place.publisher.posted[1].model)
    restored = fetch_model(home.folder)
    assert (restored.is_new, restored.artifact.version) == (True, 1)
    installed = installed_model(ClientHome.open(home.folder))
    assert installed is not None
    assert installed.version == 1


def test_a_damaged_model_is_fetched_anew(place: Served, home: ClientHome) -> None:
    fetch_model(home.folder)
    (path,) = home.models.glob("*/model.safetensors")
    path.write_bytes(path.read_bytes()[:-1])
    assert fetch_model(home.folder).is_new
    assert by_client(home, 3, newcomer=True) == by_platform(buyer(place), 3)


def test_a_model_of_a_publisher_who_is_not_pinned_is_refused(
    place: Served, invitation: tuple[bytes, Invitation], tmp_path: Path
) -> None:
    _, opened = invitation
    mine = signing_key("mine")
    other = replace(opened, publisher_key="9" * 64, platform_key=mine.public_key().public_bytes_raw().hex())
    home = make_joined(tmp_path / "home", sign_invitation(other, mine), other, LocalPolicy(name="x"))
    ClientHome.adopt_catalogue(home.folder, replace(home.catalogue, version=9))
    with pytest.raises(ArtifactRejected):
        fetch_model(home.folder)
    left = ClientHome.open(home.folder)
    assert installed_model(left) is None
    assert left.catalogue.version == 9, "a model that nobody may believe moves no home to its catalogue"


def test_a_snapshot_of_another_key_is_refused_before_its_file_is_asked_for(
    place: Served, invitation: tuple[bytes, Invitation], tmp_path: Path
) -> None:
    with pytest.raises(BadSignature, match="publisher of the catalogue"):
        fetch_catalogue(replace(invitation[1], catalogue_key="9" * 64), tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert fetch_catalogue(invitation[1], tmp_path).snapshot.digest == place.snapshot.digest


def test_a_file_of_another_digest_is_refused(
    place: Served, invitation: tuple[bytes, Invitation], tmp_path: Path
) -> None:
    path = place.folder / "data" / "snapshots" / f"{place.snapshot.digest}.bin"
    sound = path.read_bytes()
    path.write_bytes(sound[:-1] + bytes([sound[-1] ^ 1]))
    try:
        with pytest.raises(MalformedMessage, match="not the one that was signed"):
            fetch_catalogue(invitation[1], tmp_path)
    finally:
        path.write_bytes(sound)
    assert fetch_catalogue(invitation[1], tmp_path, version=1).snapshot.version == 1


def test_a_part_that_is_there_is_not_fetched_again_and_a_strange_one_is_thrown_away(
    place: Served, invitation: tuple[bytes, Invitation], tmp_path: Path
) -> None:
    data = place.snapshot.to_bytes()
    digest, part = place.snapshot.digest, tmp_path / "file.part"
    path = "/api/v1/snapshots/1/file"
    platform = Platform(place.url)
    for begun in (data[:1000], data, b""):
        part.write_bytes(begun)
        assert platform.get_file(path, digest=digest, limit=len(data), part=part) == data
        assert not part.exists()
    part.write_bytes(b"x" * 1000)
    with pytest.raises(MalformedMessage, match="not the one"):
        platform.get_file(path, digest=digest, limit=len(data), part=part)
    assert platform.get_file(path, digest=digest, limit=len(data), part=part) == data
    with pytest.raises(MalformedMessage, match="more than 1000 bytes"):
        platform.get_file(path, digest=digest, limit=1000, part=part)


def test_the_newest_snapshot_and_the_one_that_the_model_is_for_are_both_found(tmp_path: Path) -> None:
    with served(tmp_path) as place:
        place.make_live(1)
        first = place.snapshot
        data, opened = place.invited()
        home = make_joined(tmp_path / "home", data, opened, LocalPolicy(name="device"))
        fetch_model(home.folder)
        gone = place.product_ids[4]
        assert place.market.step(place.market.creator, gone, "archive").status_code == 200
        second = place.publish_snapshot()
        assert second.version == 2
        adopt_catalogue(home.folder, fetch_catalogue(opened, home.models))
        assert ClientHome.open(home.folder).catalogue.digest == second.digest
        # The model that is live still ranks the first one: the home goes back to it, and nothing is fetched twice.
        moved = fetch_model(home.folder)
        assert moved.moved is not None
        assert (moved.moved.digest, moved.is_new) == (first.digest, False)
        offered = place.publisher.offer(artifact(2, catalogue=second), second)
        assert offered.json()["state"] == "candidate", offered.text
        assert place.publisher.promote(2).status_code == 200
        newest = fetch_model(home.folder)
        assert newest.moved is not None
        assert newest.moved.digest == second.digest
        # What was archived is on neither list: only the signed document says so, the file keeps its place.
        place.shop.app.state.histories = FixedHistories()
        person = buyer(place, place.product_ids[1])
        hold(ClientHome.open(home.folder), place, person)
        listed = by_platform(person, NUM_ITEMS)
        assert by_client(home, NUM_ITEMS) == listed
        assert len(listed) == NUM_ITEMS - 2
        assert gone not in listed


def test_commands_join_and_fetch_and_say_what_they_did(
    place: Served, invitation: tuple[bytes, Invitation], tmp_path: Path
) -> None:
    def ran(*arguments: object) -> Any:
        result = CliRunner().invoke(client_app, [*map(str, arguments), "--json"], catch_exceptions=True)
        if isinstance(result.exception, ZhiyinError):
            raise result.exception
        assert result.exit_code == 0, (result.output, result.exception)
        # The service logs to the same stream, a line for each request.
        return json.loads(re.split(r"^(?=[\[{]$)", result.stdout, maxsplit=1, flags=re.M)[-1])

    file, home = tmp_path / "invitation.json", tmp_path / "home"
    file.write_bytes(invitation[0])
    ran("join", file, "--home", home, "--name", "device", "--fingerprint", invitation[1].fingerprint)
    assert ran("fetch", "model", "--home", home)["is_new"]
    assert ran("fetch", "catalogue", "--home", home) == {
        "version": 1, "digest": place.snapshot.digest, "events_left_out": 0,
    }  # fmt: skip
    with pytest.raises(DeploymentError, match="no such snapshot"):
        ran("fetch", "catalogue", "--home", home, "--version", 9)
    listed = [line["item_id"] for line in ran("recommend", "--newcomer", "-k", 5, "--home", home)]
    assert listed == by_platform(buyer(place), 5)


class _Liar(BaseHTTPRequestHandler):
    """Answers with what is asked of it by path."""

    def do_GET(self) -> None:
        answers: dict[str, tuple[int, dict[str, str], bytes]] = {
            "/elsewhere": (302, {"Location": "http://127.0.0.1:1/"}, b""),
            "/long": (200, {}, b"x" * 1001),
            "/text": (200, {}, b"hello"),
            "/list": (200, {}, b"[]"),
            "/problem": (409, {"Content-Type": "application/problem+json"}, b'{"detail": "no\\u001b[2J way"}'),
            "/page": (500, {"Content-Type": "text/html"}, b"<h1>secret</h1>"),
        }
        status, headers, body = answers[self.path]
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None: ...


@pytest.fixture(scope="module")
def liar() -> Iterator[Platform]:
    server = HTTPServer(("127.0.0.1", 0), _Liar)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield Platform(f"http://127.0.0.1:{server.server_port}")
    server.shutdown()
    thread.join()
    server.server_close()


def test_answers_are_bounded_and_lead_nowhere_else(liar: Platform) -> None:
    with pytest.raises(DeploymentError, match="302"):
        liar.get("/elsewhere")
    with pytest.raises(MalformedMessage, match="more than 1000 bytes"):
        liar.get("/long", limit=1000)
    assert len(liar.get("/long", limit=1001).body) == 1001
    for path in ("/text", "/list"):
        with pytest.raises(MalformedMessage, match="no JSON"):
            liar.get_json(path)
    with pytest.raises(DeploymentError, match=r"409 no\[2J way"):
        liar.get("/problem")
    with pytest.raises(DeploymentError) as caught:
        liar.get("/page")
    assert "secret" not in str(caught.value)
    with pytest.raises(DeploymentError, match="cannot be reached"):
        Platform("http://127.0.0.1:1").get("/")


def test_the_catalogue_that_a_model_is_for_must_be_listed(
    place: Served, home: ClientHome, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetch_model(home.folder)
    monkeypatch.setattr("client.fetching._snapshots", lambda *_: iter([{"digest": "0" * 64, "version": 1}]))
    other = replace(home.catalogue, version=9)
    ClientHome.adopt_catalogue(home.folder, other)
    with pytest.raises(CatalogueMismatch, match="lists no catalogue"):
        fetch_model(home.folder)
