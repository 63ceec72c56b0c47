from collections.abc import Iterator
from itertools import permutations

import pytest

from platform_api.database import Database
from tests.money_cast import DECLINED, GOOD_CARD
from tests.money_room import Room, provider_books

EVENTS = ("client completes", "message", "duplicate", "refund message", "late failure")


@pytest.fixture
def room(database_url: str) -> Iterator[Room]:
    room = Room(Database(database_url), users=tuple(f"usr_{number}" for number in range(120)))
    yield room
    room.close()


def test_in_every_order_of_events_there_is_one_sale_one_refund_and_one_claim(room: Room) -> None:
    """The provider refunded what it was asked to; the five statements of it come in each of 120 orders.

    A client that completes, a message, the same message again, the refund's message, and the failure of a card that
    was tried before the good one. Where the answer to the refund was lost, its message may be the first word of it.
    The rules are the same on both databases: on PostgreSQL, which waits for the disk, every fourth of the orders.
    """
    sequences = list(permutations(EVENTS))[:: 1 if room.database.is_sqlite else 4]
    for number, sequence in enumerate(sequences):
        user = room.users[number]
        _play(room, user, sequence, lost_answer=number % 2 == 1)
        (order,) = room.rows(f"SELECT * FROM orders WHERE user_id = '{user}'")
        refunds = room.rows(f"SELECT status FROM refunds WHERE order_id = '{order['id']}'")
        journals = room.rows(f"SELECT kind FROM journals WHERE order_id = '{order['id']}' ORDER BY kind")
        claims = room.rows(f"SELECT status FROM entitlements WHERE user_id = '{user}'")
        assert order["status"] == "refunded", sequence
        assert [refund["status"] for refund in refunds] == ["succeeded"], sequence
        assert [row["kind"] for row in journals] == ["refund-requested", "refund-settled", "sale"], sequence
        assert [claim["status"] for claim in claims] == ["withdrawn"], sequence
    assert room.rows("SELECT SUM(amount_minor) AS minor FROM postings WHERE account = 'provider-clearing'") == [
        {"minor": provider_books(room.sandbox)}
    ]


def _play(room: Room, user: str, sequence: tuple[str, ...], *, lost_answer: bool) -> None:
    assert room.place(user, [{"product_id": "prd_course"}], f"order of {user}") == 201
    (order,) = room.rows(f"SELECT * FROM orders WHERE user_id = '{user}'")
    room.card(order["intent_id"], DECLINED)
    room.card(order["intent_id"], GOOD_CARD)
    room.collect()
    late_failure, success = room.messages
    room.messages.clear()
    refunded = False
    waiting = list(sequence)
    while waiting:
        event = waiting.pop(0)
        if event == "client completes":
            assert room.complete(user, order["id"]) == 200
        elif event == "refund message" and not refunded:
            # There is no refund before the shop knows of the payment: the message waits for the refund.
            waiting.append(event)
        else:
            message = {"message": success, "duplicate": success, "late failure": late_failure}.get(event)
            assert room.take(message or room.messages[0]) == 204, (sequence, event)
        (now,) = room.rows(f"SELECT status FROM orders WHERE id = '{order['id']}'")
        if now["status"] == "paid" and not refunded:
            room.sandbox.dials.lose_answers = int(lost_answer)
            (line,) = room.rows(f"SELECT id FROM order_lines WHERE order_id = '{order['id']}'")
            assert room.refund(order["id"], line["id"], None, f"refund of {user}") == (503 if lost_answer else 201)
            room.collect()
            refunded = True
    room.messages.clear()
