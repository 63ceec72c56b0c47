"""A payment provider as a function from requests to answers, with its books and a queue of messages to deliver.

It behaves as real ones do: keys make requests happen once, answers get lost, payments take their time, and messages
come late, twice and out of order, as its dials say. It moves no money and knows the test cards only.
"""

import json
import random
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from hashlib import sha256
from hmac import compare_digest
from typing import Any, Final

from standardwebhooks import Webhook

from platform_api.sandbox.books import Books, Message

CARDS: Final = {
    "4242424242424242": "succeeded",
    "4000000000000002": "failed",
    "4000000000003220": "requires_action",
    "4000000000000077": "processing",  # succeeds after settle_seconds
    "4000000000000119": "succeeded",  # and the answer is lost
}
LOST_ANSWER_CARD: Final = "4000000000000119"
_WAITING = ("requires_payment", "requires_action", "failed")
_AGAIN_AFTER = (5, 30, 120, 600, 3600, 14_400, 43_200)
PAGE = 100


@dataclass(kw_only=True)
class Dials:
    """How badly it behaves.

    lose_requests, lose_answers: so many of the next POSTs with a key are answered 503 before, or 504 after being done.
    duplicates: more copies of each message. delay_seconds: before its first try; shuffle_seconds: up to so much more.
    refunds: how they end; pending ones succeed after settle_seconds.
    """

    lose_requests: int = 0
    lose_answers: int = 0
    duplicates: int = 0
    delay_seconds: float = 0.0
    shuffle_seconds: float = 0.0
    settle_seconds: float = 10.0
    refunds: str = "succeeded"


class Refused(Exception):
    """An answer other than 200."""

    def __init__(self, status: int, code: str) -> None:
        super().__init__(code)
        self.status, self.code = status, code


class Sandbox:
    """`answer` is the service, `step` its passing time. clock: UTC; seed: for the order of shuffled messages."""

    def __init__(
        self,
        *,
        webhook_secret: str,
        api_key: str,
        clock: Callable[[], datetime],
        path: str = ":memory:",
        public_url: str = "http://127.0.0.1:8400",
        seed: int = 0,
    ) -> None:
        self.books = Books(path)
        self.dials = Dials()
        self._signer = Webhook(webhook_secret)
        self._api_key, self._clock, self._public_url = api_key, clock, public_url
        self._random = random.Random(seed)  # noqa: S311

    def answer(
        self, method: str, path: str, query: Mapping[str, str], headers: Mapping[str, str], body: bytes
    ) -> tuple[int, dict[str, Any]]:
        """headers: names in lower case. The status and the JSON body."""
        try:
            parts = [part for part in path.split("/") if part]
            payer = len(parts) == 3 and parts[0] == "intents" and parts[2] in ("confirm", "approve")
            given = headers.get("authorization", "").removeprefix("Bearer ")
            if not payer and not compare_digest(given.encode(), self._api_key.encode()):
                raise Refused(401, "unknown_key")
            said = json.loads(body) if body else {}
            if not isinstance(said, dict):
                raise Refused(400, "malformed")
            return 200, self._route(method, parts, query, headers.get("idempotency-key", ""), said)
        except Refused as refused:
            return refused.status, {"code": refused.code}
        except (ValueError, KeyError, TypeError):
            return 400, {"code": "malformed"}

    def _route(
        self, method: str, parts: list[str], query: Mapping[str, str], key: str, said: dict[str, Any]
    ) -> dict[str, Any]:
        match (method, *parts):
            case ("POST", "intents"):
                return self._once("intent", key, said, self._create_intent)
            case ("POST", "refunds"):
                return self._once("refund", key, said, self._create_refund)
            case ("GET", "intents" | "refunds" as table):
                return self._list(table, query)
            case ("GET", "intents", intent_id):
                return self._shown("intents", intent_id)
            case ("POST", "intents", intent_id, "cancel"):
                return self._cancel(intent_id)
            case ("POST", "intents", intent_id, "confirm"):
                return self._confirm(intent_id, str(said["card"]))
            case ("POST", "intents", intent_id, "approve"):
                return self._approve(intent_id, said["approved"] is True)
            case ("PUT", "dials"):
                return self._dial(said)
        raise Refused(404, "not_found")

    def _once(self, kind: str, key: str, said: dict[str, Any], make: Callable[[dict[str, Any]], str]) -> dict[str, Any]:
        if not key:
            raise Refused(400, "key_missing")
        if self.dials.lose_requests > 0:
            self.dials.lose_requests -= 1
            raise Refused(503, "unavailable")
        told = sha256(json.dumps([kind, said], sort_keys=True).encode()).hexdigest()
        with self.books.writing():
            known = self.books.one("SELECT request, subject FROM keys WHERE key = ?", key)
            if known is not None and known["request"] != told:
                raise Refused(422, "key_reused")
            subject = known["subject"] if known else make(said)
            if known is None:
                self.books.do("INSERT INTO keys VALUES (?, ?, ?)", key, told, subject)
        if self.dials.lose_answers > 0:
            self.dials.lose_answers -= 1
            raise Refused(504, "timeout")
        return self._shown(f"{kind}s", subject)

    def _create_intent(self, said: dict[str, Any]) -> str:
        if type(said["amount_minor"]) is not int or said["amount_minor"] <= 0:
            raise Refused(422, "amount")
        intent_id = _new_id("int")
        self.books.do(
            "INSERT INTO intents (id, order_id, amount_minor, currency, status, updated_at) VALUES (?, ?, ?, ?, ?, ?)",
            *(intent_id, str(said["order_id"]), said["amount_minor"], str(said["currency"])),
            *("requires_payment", self._now()),
        )
        return intent_id

    def _create_refund(self, said: dict[str, Any]) -> str:
        intent = self.books.one("SELECT * FROM intents WHERE id = ?", said["intent_id"])
        if intent is None or intent["status"] != "succeeded":
            raise Refused(422, "nothing_paid")
        given = self.books.one(
            "SELECT COALESCE(SUM(amount_minor), 0) AS minor FROM refunds WHERE intent_id = ? AND status <> 'failed'",
            intent["id"],
        )
        assert given is not None
        amount = said["amount_minor"]
        if type(amount) is not int or not 0 < amount <= intent["amount_minor"] - given["minor"]:
            raise Refused(422, "amount")
        if said["currency"] != intent["currency"]:
            raise Refused(422, "currency")
        refund_id = _new_id("ref")
        settles = self._now() + self.dials.settle_seconds if self.dials.refunds == "pending" else None
        self.books.do(
            "INSERT INTO refunds (id, refund_id, intent_id, amount_minor, currency, status, updated_at, settles_at) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            *(refund_id, str(said["refund_id"]), intent["id"], amount, intent["currency"]),
            *(self.dials.refunds, self._now(), settles),
        )
        self._announce("refunds", refund_id)
        return refund_id

    def _confirm(self, intent_id: str, card: str) -> dict[str, Any]:
        if card not in CARDS:
            raise Refused(422, "unknown_card")
        with self.books.writing():
            if self._shown("intents", intent_id)["status"] not in _WAITING:
                raise Refused(422, "not_waiting")
            status = CARDS[card]
            settles = self._now() + self.dials.settle_seconds if status == "processing" else None
            self._move("intents", intent_id, status, settles)
        if card == LOST_ANSWER_CARD:
            raise Refused(504, "timeout")
        return self._shown("intents", intent_id)

    def _approve(self, intent_id: str, approved: bool) -> dict[str, Any]:
        with self.books.writing():
            if self._shown("intents", intent_id)["status"] != "requires_action":
                raise Refused(422, "not_waiting")
            self._move("intents", intent_id, "succeeded" if approved else "failed")
        return self._shown("intents", intent_id)

    def _cancel(self, intent_id: str) -> dict[str, Any]:
        with self.books.writing():
            if self._shown("intents", intent_id)["status"] in _WAITING:
                self._move("intents", intent_id, "cancelled")
        return self._shown("intents", intent_id)

    def _dial(self, said: dict[str, Any]) -> dict[str, Any]:
        known = {field.name: field.type for field in fields(Dials)}
        if not said.keys() <= known.keys() or said.get("refunds", "failed") not in ("succeeded", "pending", "failed"):
            raise Refused(422, "unknown_dial")
        for name, value in said.items():
            setattr(self.dials, name, value)
        return dict(vars(self.dials))

    def _list(self, table: str, query: Mapping[str, str]) -> dict[str, Any]:
        since = datetime.fromisoformat(query["since"]).timestamp() if query.get("since") else 0.0
        rows = self.books.all(
            f"SELECT number, id FROM {table} WHERE number > ? AND updated_at >= ? ORDER BY number LIMIT ?",  # noqa: S608
            *(int(query.get("after") or 0), since, PAGE),
        )
        more = str(rows[-1]["number"]) if len(rows) == PAGE else ""
        return {"items": [self._shown(table, row["id"]) for row in rows], "next": more}

    def _shown(self, table: str, subject: str) -> dict[str, Any]:
        row = self.books.one(f"SELECT * FROM {table} WHERE id = ?", subject)  # noqa: S608
        if row is None:
            raise Refused(404, "not_found")
        hidden = ("number", "updated_at", "settles_at")
        shown = {name: value for name, value in row.items() if name not in hidden}
        return {**shown, "pay_url": f"{self._public_url}/pay/{subject}"} if table == "intents" else shown

    def _move(self, table: str, subject: str, status: str, settles_at: float | None = None) -> None:
        self.books.do(
            f"UPDATE {table} SET status = ?, updated_at = ?, settles_at = ? WHERE id = ?",  # noqa: S608
            *(status, self._now(), settles_at, subject),
        )
        self._announce(table, subject)

    def _announce(self, table: str, subject: str) -> None:
        shown = self._shown(table, subject)
        if shown["status"] == "requires_action":
            return
        kind = f"{table.removesuffix('s')}.{shown['status']}"
        body = json.dumps({"type": kind, "timestamp": self._clock().isoformat(), "data": shown})
        message_id = _new_id("msg")
        for _ in range(1 + self.dials.duplicates):
            late = self.dials.delay_seconds + self._random.uniform(0, self.dials.shuffle_seconds)
            self.books.queue(message_id, body, self._now() + late)

    def step(self, send: Callable[[dict[str, str], bytes], int]) -> int:
        """Settle what is due, then deliver what is due. send(headers, body) -> status, 0 for no answer.

        How many messages were sent; those not answered with 2xx come again later, less and less often.
        """
        for table in ("intents", "refunds"):
            due = f"SELECT id FROM {table} WHERE settles_at <= ?"  # noqa: S608
            for row in self.books.all(due, self._now()):
                with self.books.writing():
                    self._move(table, row["id"], "succeeded")
        messages = self.books.due(self._now())
        for message in messages:
            if 200 <= send(self.signed(message.id, message.body), message.body.encode()) < 300:
                self.books.delivered(message)
            else:
                self._put_off(message)
        return len(messages)

    def signed(self, message_id: str, body: str) -> dict[str, str]:
        """The headers of a message that is sent now."""
        now = self._clock()
        return {
            "webhook-id": message_id,
            "webhook-timestamp": str(int(now.timestamp())),
            "webhook-signature": self._signer.sign(message_id, now, body),
            "content-type": "application/json",
        }

    def _put_off(self, message: Message) -> None:
        if message.tries >= len(_AGAIN_AFTER):
            self.books.delivered(message)  # given up
        else:
            self.books.put_off(message, self._now() + _AGAIN_AFTER[message.tries])

    def _now(self) -> float:
        return self._clock().timestamp()


def utc_now() -> datetime:
    """The clock of a sandbox that runs by itself."""
    return datetime.now(UTC)


def _new_id(prefix: str) -> str:
    return f"{prefix}_{secrets.token_hex(13)}"
