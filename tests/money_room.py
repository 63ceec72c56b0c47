"""Orders and money by their rules, without HTTP: one database, one provider, and messages held in a test's hand."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import text
from sqlmodel import SQLModel

from platform_api.access import Caller
from platform_api.accounts.tables import User
from platform_api.database import Database
from platform_api.idempotency import Once
from platform_api.orders.checkout import Till
from platform_api.orders.schemas import NewOrder
from platform_api.orders.service import Terms
from platform_api.payments import refunds, webhooks
from platform_api.payments.schemas import NewRefund
from platform_api.problems import Problem
from platform_api.sandbox.provider import Sandbox
from tests.money_cast import KEY, SECRET, Rack, provider_of, thing
from tests.platform_cast import Hand

OPERATOR = Caller(kind="person", id="usr_op", roles=frozenset({"platform-operator"}), scopes=frozenset(), tenant_id="")
Message = tuple[str, bytes]


@dataclass
class Room:
    """users: ids of three learners; makers: of two creators without a tenant.

    messages: sent by the provider, and not yet, or not for the last time, taken.
    """

    database: Database
    clock: Hand = field(default_factory=Hand)
    rack: Rack = field(default_factory=Rack)
    users: tuple[str, ...] = ("usr_1", "usr_2", "usr_3")
    makers: tuple[str, ...] = ("usr_wang", "usr_lin")
    messages: list[Message] = field(default_factory=list)

    def __post_init__(self) -> None:
        SQLModel.metadata.create_all(self.database.engine)
        self.sandbox = Sandbox(webhook_secret=SECRET, api_key=KEY, clock=self.clock)
        self.provider = provider_of(self.sandbox)
        self.rack.put(thing("prd_course"), thing("prd_book", 801, seller_tenant_id="tnt_b"), thing("prd_free", 0))
        self.rack.put(thing("prd_cheap", 7), thing("prd_talk", 3000, kind="consulting"))
        # Their makers sell by themselves; the second one's is dear enough for odd shares of the fee.
        self.rack.put(thing("prd_solo", 1003, seller_tenant_id="", creator_user_id=self.makers[0]))
        self.rack.put(thing("prd_duo", 3, seller_tenant_id="", creator_user_id=self.makers[1]))
        self.rack.slots.update({"slt_1": "prd_talk", "slt_2": "prd_talk"})
        terms = Terms(minutes=30, fee_basis_points=1_000)
        self.till = Till(database=self.database, provider=self.provider, shelf=self.rack, terms=terms)
        with self.database.writing() as session:
            self.rack.prepare(session)
            for user_id in (*self.users, *self.makers):
                session.add(User(id=user_id, created_at=self.clock.now))

    def close(self) -> None:
        self.provider.close()
        self.sandbox.books.close()
        self.database.close()

    @property
    def now(self) -> datetime:
        return self.clock.now

    def place(self, user_id: str, lines: list[dict[str, str]], key: str) -> int:
        """The status of the answer, a Problem's included."""
        wish = NewOrder.model_validate({"lines": lines})
        steps = self.till.placing(user_id, wish, self.now)
        return self._status(lambda: Once(self.database, user_id, key, "order", self.now).run_steps(steps).status_code)

    def refund(self, order_id: str, line_id: str, amount: int | None, key: str) -> int:
        wish = NewRefund(line_id=line_id, amount_minor=amount)
        steps = refunds.refunding(self.till, OPERATOR, order_id, wish, self.now)
        return self._status(
            lambda: Once(self.database, OPERATOR.id, key, "refund", self.now).run_steps(steps).status_code
        )

    def complete(self, user_id: str, order_id: str) -> int:
        return self._status(lambda: self.till.complete(user_id, order_id, self.now) and 200)

    def cancel(self, user_id: str, order_id: str) -> int:
        return self._status(lambda: self.till.cancel(user_id, order_id, self.now) and 200)

    def card(self, intent_id: str, card: str) -> int:
        return self.sandbox.answer("POST", f"/intents/{intent_id}/confirm", {}, {}, b'{"card": "%s"}' % card.encode())[
            0
        ]

    def collect(self) -> None:
        """Take what the provider sends into the hand."""

        def send(headers: dict[str, str], body: bytes) -> int:
            self.messages.append((headers["webhook-id"], body))
            return 200

        self.sandbox.step(send)

    def take(self, message: Message) -> int:
        """The shop takes one message."""

        def apply() -> int:
            with self.database.writing() as session:
                webhooks.apply_event(session, self.rack, message[0], webhooks.read(message[1]), self.now)
            return 204

        return self._status(apply)

    def rows(self, query: str) -> list[dict[str, Any]]:
        with self.database.reading() as session:
            return [dict(row) for row in session.execute(text(query)).mappings()]

    @staticmethod
    def _status(ask: Any) -> int:
        try:
            status: int = ask()
        except Problem as problem:
            return problem.status
        return status


def provider_books(sandbox: Sandbox) -> int:
    """What the provider holds, by its own rows."""
    paid = sandbox.books.one("SELECT COALESCE(SUM(amount_minor), 0) AS minor FROM intents WHERE status = 'succeeded'")
    given = sandbox.books.one("SELECT COALESCE(SUM(amount_minor), 0) AS minor FROM refunds WHERE status = 'succeeded'")
    assert paid is not None
    assert given is not None
    return int(paid["minor"]) - int(given["minor"])
