"""The store: what is asked of it besides importing."""

from pathlib import Path

import pytest

from client.home import ClientHome
from client.rejects import Rejects
from client.store import Event, Store
from shared.errors import BadSetting, CatalogueMismatch, MalformedFile, NoInteractions
from tests.unit.client_homes import CATALOGUE, make_catalogue, make_home


@pytest.fixture
def store(tmp_path: Path) -> Store:
    home = make_home(tmp_path)
    fill(home, [("ann", 3, 2.0), ("ann", 11, 1.0), ("ben", 11, 5.0), ("ann", 3, 9.0)])
    return home.store


def fill(home: ClientHome, events: list[tuple[str, int, float]]) -> None:
    rows = [
        Event(row=n, user=user, item=f"course-{item}", position=position, weight=1.0)
        for n, (user, item, position) in enumerate(events, start=2)
    ]
    home.store.add(rows, catalogue=home.catalogue, order="timestamp", rejects=Rejects("events.csv", "line", 20))


def test_an_empty_store_says_so(tmp_path: Path) -> None:
    home = make_home(tmp_path)
    with pytest.raises(NoInteractions, match="zhiyin client import"):
        home.store.interactions(CATALOGUE)
    assert home.store.counts().num_users == 0


def test_one_history_is_the_row_of_all_histories(store: Store) -> None:
    rows, users = store.interactions(CATALOGUE)
    for number, user in enumerate(users):
        assert store.history(user, CATALOGUE).tolist() == rows.history(number).tolist()


def test_a_user_who_is_not_there_is_not_repeated_in_the_message(store: Store) -> None:
    for ask in (
        lambda: store.history("zoe-secret", CATALOGUE),
        lambda: store.about("zoe-secret"),
        lambda: store.erase("zoe-secret"),
    ):
        with pytest.raises(NoInteractions) as caught:
            ask()
        assert "zoe" not in str(caught.value)


def test_another_catalogue_is_refused_until_it_is_adopted(store: Store) -> None:
    smaller = make_catalogue(num_items=10, version=2)
    with pytest.raises(CatalogueMismatch):
        store.interactions(smaller)
    assert store.adopt(smaller) == 2  # the two events of course-11
    rows, users = store.interactions(smaller)
    assert users == ("ann", "ben")
    assert [rows.history(n).tolist() for n in range(2)] == [[3], []]
    with pytest.raises(NoInteractions):
        store.history("ben", smaller)
    store.adopt(CATALOGUE)
    assert store.history("ben", CATALOGUE).tolist() == [11]


def test_an_erased_user_is_gone_from_every_answer_and_from_the_bytes(store: Store) -> None:
    assert b"ann" in store.path.read_bytes()
    assert store.erase("ann") == 3
    assert store.interactions(CATALOGUE)[1] == ("ben",)
    with pytest.raises(NoInteractions):
        store.about("ann")
    assert b"ann" not in store.path.read_bytes()
    assert not (store.path.parent / "store.db-journal").read_bytes()


def test_everything_about_a_user_can_be_shown_to_them(store: Store) -> None:
    assert store.about("ben") == {
        "user": "ben",
        "order": "timestamp",
        "events": [{"item": "course-11", "position": 5.0, "weight": 1.0}],
    }


def test_a_store_that_others_can_read_is_refused(store: Store) -> None:
    store.path.chmod(0o644)
    with pytest.raises(BadSetting, match="chmod 600"):
        Store.open(store.path)


@pytest.mark.parametrize("damage", [b"", b"nonsense" * 1000])
def test_a_damaged_store_is_refused_with_its_name(store: Store, damage: bytes) -> None:
    store.path.write_bytes(damage)
    with pytest.raises(MalformedFile, match=r"store\.db"):
        Store.open(store.path)
