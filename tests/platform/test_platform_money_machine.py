"""Random things that happen to money, after each of which no journal may be out of balance."""

import os
import re
from collections import Counter
from collections.abc import Callable
from itertools import count
from types import SimpleNamespace
from typing import Any, ClassVar

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from sqlmodel import SQLModel

from platform_api import columns
from platform_api.accounts.service import erase_account
from platform_api.accounts.tables import User
from platform_api.database import Database
from platform_api.idempotency import ABANDONED_AFTER, Once
from platform_api.orders.service import erase_orders
from platform_api.payments import http_provider
from platform_api.payments.reconcile import reconcile
from platform_api.sandbox import provider as sandbox
from tests.money_cast import DECLINED, GOOD_CARD
from tests.money_room import Room, provider_books

PRODUCTS = ("prd_course", "prd_book", "prd_cheap", "prd_free", "prd_talk", "prd_solo", "prd_duo")
CARDS = (GOOD_CARD, GOOD_CARD, GOOD_CARD, DECLINED, "4000000000000077", "4000000000003220", "4000000000000119")
ANY = st.integers(min_value=0, max_value=10**6)


class Killed(BaseException):
    """The process died here."""


class Money(RuleBasedStateMachine):
    """What customers, operators, the network and the provider do, in any order."""

    url: ClassVar[str] = "sqlite://"
    operations: ClassVar[Counter[str]] = Counter()

    def __init__(self) -> None:
        super().__init__()
        # Identifiers are the only chance outside the machine's: counted, so that a failure can be played again.
        numbers, self.patches = count(1), pytest.MonkeyPatch()
        counted = SimpleNamespace(
            randbits=lambda bits: next(numbers), token_hex=lambda size: f"{next(numbers):0{2 * size}x}"
        )
        self.patches.setattr(columns, "secrets", counted)
        self.patches.setattr(sandbox, "secrets", counted)
        self.room = Room(Database(self.url))
        self.orders: list[tuple[str, list[dict[str, str]], str]] = []
        self.refunds: list[tuple[str, str, int | None, str]] = []
        self.makers = list(self.room.makers)

    def teardown(self) -> None:
        try:
            self._ends_well()
        finally:
            self.patches.undo()
            if not self.room.database.is_sqlite:
                SQLModel.metadata.drop_all(self.room.database.engine)
                with self.room.database.writing() as session:
                    session.connection().exec_driver_sql("DROP TABLE rack_slots")
            self.room.close()

    # -- what happens ------------------------------------------------------------------------------------------------

    @rule(user=st.sampled_from([0, 1, 2]), picks=st.sets(st.sampled_from(PRODUCTS), min_size=1, max_size=2), slot=ANY)
    def order(self, user: int, picks: set[str], slot: int) -> None:
        lines = [{"product_id": name} for name in sorted(picks)]
        for line in lines:
            if line["product_id"] == "prd_talk":
                line["slot_id"] = f"slt_{1 + slot % 2}"
        self.orders.append((self.room.users[user], lines, f"order-{len(self.orders)}"))
        # 404: its maker has gone.
        self._seen("order", self.room.place(*self.orders[-1]), {201, 404, 409, 503})

    @precondition(lambda self: self.orders)
    @rule(number=ANY)
    def same_order_again(self, number: int) -> None:
        self._seen("same order again", self.room.place(*self._pick(self.orders, number)), {201, 404, 409, 503})

    @rule(number=ANY, card=st.sampled_from(CARDS))
    def pay(self, number: int, card: str) -> None:
        intents = self.room.sandbox.books.all(
            "SELECT id FROM intents WHERE status IN ('requires_payment', 'failed') ORDER BY number"
        )
        if intents:
            self._seen("pay", self.room.card(self._pick(intents, number)["id"], card), {200, 504})

    @rule(number=ANY, approved=st.booleans())
    def approve(self, number: int, approved: bool) -> None:
        intents = self.room.sandbox.books.all("SELECT id FROM intents WHERE status = 'requires_action' ORDER BY number")
        if intents:
            path, body = f"/intents/{self._pick(intents, number)['id']}/approve", b'{"approved": %s}'
            said = body % (b"true" if approved else b"false")
            self._seen("approve", self.room.sandbox.answer("POST", path, {}, {}, said)[0], {200})

    @rule(number=ANY, last=st.booleans())
    def message(self, number: int, last: bool) -> None:
        """Any message, in any order; one that is not the last time comes again."""
        self.room.collect()
        if self.room.messages:
            message = self._pick(self.room.messages, number)
            # 404: the shop has not heard which payment the order has; 409 never, for the provider is honest.
            status = self.room.take(message)
            self._seen("message", status, {204, 404})
            if last and status == 204:
                self.room.messages.remove(message)

    @rule(number=ANY)
    def lost_message(self, number: int) -> None:
        if self.room.messages:
            self.room.messages.remove(self._pick(self.room.messages, number))
            self._seen("lost message", 0, {0})

    @rule(number=ANY, how=st.sampled_from(["complete", "complete", "cancel"]))
    def client(self, number: int, how: str) -> None:
        found = self.room.rows("SELECT id, user_id FROM orders ORDER BY created_at, id")
        if found:
            order = self._pick(found, number)
            ask = self.room.complete if how == "complete" else self.room.cancel
            self._seen(how, ask(order["user_id"], order["id"]), {200, 503} | ({409} if how == "cancel" else set()))

    @rule(number=ANY, part=st.sampled_from([None, 1, 3, 500]))
    def refund(self, number: int, part: int | None) -> None:
        lines = self.room.rows(
            "SELECT l.id, l.order_id FROM order_lines l JOIN orders o ON o.id = l.order_id "
            "WHERE o.status IN ('paid', 'partly_refunded') ORDER BY l.id"
        )
        if lines:
            line = self._pick(lines, number)
            self.refunds.append((line["order_id"], line["id"], part, f"refund-{len(self.refunds)}"))
            self._seen("refund", self.room.refund(*self.refunds[-1]), {201, 409, 503})

    @precondition(lambda self: self.refunds)
    @rule(number=ANY)
    def same_refund_again(self, number: int) -> None:
        self._seen("same refund again", self.room.refund(*self._pick(self.refunds, number)), {201, 409, 503})

    @rule(number=ANY, rarely=st.integers(0, 4))
    def maker_erased(self, number: int, rarely: int) -> None:
        """A creator goes; what is open, paid or given back afterwards is still their account's."""
        if rarely == 0 and self.makers:
            gone = self.makers.pop(number % len(self.makers))
            with self.room.database.writing() as session:
                session.get_one(User, gone, with_for_update=True)
                erase_orders(session, gone, self.room.now)
                erase_account(session, gone, self.room.now)
            for product in [name for name, thing in self.room.rack.things.items() if thing.creator_user_id == gone]:
                del self.room.rack.things[product]
            self._seen("maker erased", 0, {0})

    @rule(dial=st.sampled_from(["lose_requests", "lose_answers"]), count=st.integers(1, 2))
    def bad_line(self, dial: str, count: int) -> None:
        setattr(self.room.sandbox.dials, dial, count)
        self._seen("bad line", 0, {0})

    @rule(duplicates=st.integers(0, 2), refunds=st.sampled_from(["succeeded", "succeeded", "pending", "failed"]))
    def moods(self, duplicates: int, refunds: str) -> None:
        self.room.sandbox.dials.duplicates, self.room.sandbox.dials.refunds = duplicates, refunds
        self._seen("moods", 0, {0})

    @rule(seconds=st.sampled_from([1, 11, 90, 1_900]))
    def time_passes(self, seconds: int) -> None:
        self.room.clock.forward(seconds=seconds)
        self._seen("time passes", 0, {0})

    @rule(after=st.booleans(), what=st.sampled_from(["order", "refund"]), number=ANY)
    def killed(self, after: bool, what: str, number: int) -> None:
        """The process dies as it asks the provider, before or after it was heard, and nothing is cleaned up."""
        ask = http_provider.HttpProvider._ask

        def dying(provider: Any, method: str, *told: Any, **more: Any) -> Any:
            if after:
                ask(provider, method, *told, **more)
            raise Killed

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(http_provider.HttpProvider, "_ask", dying)
            patch.setattr(Once, "_release", lambda once: None)
            try:
                if what == "order":
                    self.order(number % 3, {PRODUCTS[number % len(PRODUCTS)]}, number)
                else:
                    self.refund(number, None)
            except Killed:
                self._seen("killed", 0, {0})

    @rule(rarely=st.integers(0, 9))
    def reconcile(self, rarely: int) -> None:
        if rarely == 0:
            self.room.sandbox.dials.lose_requests = self.room.sandbox.dials.lose_answers = 0
            report = reconcile(self.room.till, self.room.now)
            self._seen("reconcile", 0, {0})
            assert report.clean, report.findings

    # -- what always holds -------------------------------------------------------------------------------------------

    @invariant()
    def every_journal_sums_to_zero(self) -> None:
        assert self.room.rows("SELECT journal_id FROM postings GROUP BY journal_id HAVING SUM(amount_minor) <> 0") == []

    @invariant()
    def every_seller_is_owed_what_was_sold_less_what_is_given_back(self) -> None:
        """Recomputed from orders and refunds; a part that went to another seller, or to the platform, is missed."""
        sold = self.room.rows(
            "SELECT l.seller_tenant_id AS tenant, l.creator_account_id AS creator, "
            "SUM(l.price_minor - l.fee_minor) AS minor FROM order_lines l JOIN orders o ON o.id = l.order_id "
            "WHERE o.status IN ('paid', 'partly_refunded', 'refunded') GROUP BY 1, 2"
        )
        given = self.room.rows(
            "SELECT l.seller_tenant_id AS tenant, l.creator_account_id AS creator, "
            "SUM(r.amount_minor - r.fee_minor) AS minor FROM refunds r JOIN order_lines l ON l.id = r.line_id "
            "WHERE r.status <> 'failed' GROUP BY 1, 2"
        )
        booked = self.room.rows(
            "SELECT tenant_id AS tenant, creator_account_id AS creator, SUM(amount_minor) AS minor FROM postings "
            "WHERE tenant_id <> '' OR creator_account_id <> '' GROUP BY 1, 2"
        )
        owed: Counter[tuple[str, str]] = Counter()
        for rows, sign in ((sold, 1), (given, -1), (booked, 1)):
            for row in rows:
                owed[row["tenant"], row["creator"]] += sign * int(row["minor"])
        assert not any(owed.values()), owed

    def _ends_well(self) -> None:
        """After reconciling, the books agree, and whoever paid owns what was not given back."""
        room = self.room
        room.sandbox.dials.lose_requests = room.sandbox.dials.lose_answers = 0
        room.clock.forward(seconds=ABANDONED_AFTER.total_seconds() + 3_600)
        room.sandbox.step(lambda headers, body: 200)
        assert reconcile(room.till, room.now).clean
        assert reconcile(room.till, room.now).findings == ()
        for placed in self.orders:
            room.place(*placed)
        for refund in self.refunds:
            room.refund(*refund)
        room.sandbox.step(lambda headers, body: 200)
        room.clock.forward(seconds=3_600)
        room.sandbox.step(lambda headers, body: 200)
        reconcile(room.till, room.now)
        report = reconcile(room.till, room.now)
        assert report.findings == (), report.findings
        clearing = room.rows("SELECT SUM(amount_minor) AS minor FROM postings WHERE account = 'provider-clearing'")
        assert int(clearing[0]["minor"] or 0) == provider_books(room.sandbox)
        assert room.rows("SELECT 1 FROM refunds WHERE status = 'requested'") == []
        assert room.rows("SELECT 1 FROM orders WHERE status IN ('pending', 'failed')") == []
        self._claims_follow_the_money()

    def _claims_follow_the_money(self) -> None:
        owned = {(row["user_id"], row["line_id"]) for row in self._claims("active")}
        kept = self.room.rows(
            "SELECT o.user_id, l.id AS line_id FROM order_lines l JOIN orders o ON o.id = l.order_id "
            "LEFT JOIN (SELECT line_id, COUNT(*) AS times, SUM(amount_minor) AS given FROM refunds "
            "WHERE status = 'succeeded' GROUP BY line_id) r ON r.line_id = l.id "
            "WHERE o.status IN ('paid', 'partly_refunded', 'refunded') "
            "AND (COALESCE(r.times, 0) = 0 OR r.given < l.price_minor)"
        )
        assert owned == {(row["user_id"], row["line_id"]) for row in kept}
        assert self._claims("reserved") == []
        beyond = self.room.rows(
            "SELECT l.id FROM order_lines l JOIN refunds r ON r.line_id = l.id WHERE r.status <> 'failed' "
            "GROUP BY l.id, l.price_minor HAVING SUM(r.amount_minor) > l.price_minor"
        )
        assert beyond == []

    def _claims(self, status: str) -> list[dict[str, Any]]:
        return self.room.rows(f"SELECT user_id, line_id FROM entitlements WHERE status = '{status}'")

    def _pick(self, things: Any, number: int) -> Any:
        return things[number % len(things)]

    def _seen(self, name: str, status: int, expected: set[int]) -> None:
        assert status in expected, f"{name} was answered {status}"
        self.operations[name] += 1


def _run(url: str, examples: int) -> Counter[str]:
    machine = type("MoneyOn" + re.sub(r"\W.*", "", url).title(), (Money,), {"url": url, "operations": Counter()})
    run: Callable[..., None] = run_state_machine_as_test
    run(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=120,
            deadline=None,
            database=None,
            derandomize=True,
            # Shrinking begins only after a failure; nothing is mutated or explained, which would play every step again.
            phases=(Phase.generate, Phase.shrink),
            suppress_health_check=list(HealthCheck),
        ),
    )
    counted: Counter[str] = machine.operations  # type: ignore[attr-defined]
    return counted


@pytest.mark.timeout(0 if "MONEY_EXAMPLES" in os.environ else 300)
def test_random_operations_leave_both_sides_books_in_agreement() -> None:
    """More than 10,000 operations: `MONEY_EXAMPLES=190 pytest -s tests/platform/test_platform_money_machine.py`."""
    examples = int(os.environ.get("MONEY_EXAMPLES", "8"))
    counted = _run("sqlite://", examples)
    print(sum(counted.values()), "operations", dict(counted))
    assert sum(counted.values()) >= 40 * examples, counted
    assert {"killed", "refund", "same refund again", "message", "same order again"} <= counted.keys()


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_random_operations_on_postgresql_leave_both_sides_books_in_agreement(database_url: str) -> None:
    assert sum(_run(database_url, 4).values()) >= 80
