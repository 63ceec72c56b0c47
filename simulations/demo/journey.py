"""A new learner in the demonstration: registers, agrees, buys two courses, and is recommended others, twice.

One list is made by the platform, from its own records and with consent; the other by a client on the learner's machine,
from the signed snapshot and the signed model alone. They must be the same, item for item.
"""

import csv
import json
import secrets
import time
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any
from uuid import uuid4

from client.fetching import fetch_model, make_joined
from client.home import ClientHome
from client.importing import import_source
from client.policy import LocalPolicy
from client.recommend import suggest
from server.platform_cli import checked
from server.platform_http import PlatformServer
from server.publishing import read_latest
from server.settings import load_signing_key
from shared.errors import DeploymentError
from simulations.demo.enrolling import opened
from simulations.demo.parties import Cast
from simulations.demo.scenario import Scenario
from simulations.demo.shop import GOOD_CARD, Shop
from simulations.demo.stocking import LogIn
from simulations.model_report import measured, report_of

LINES = 10
BOUGHT = 2
WEBHOOK_TRIES, WEBHOOK_PAUSE_SECONDS = 600, 0.05
USER = "me"


@dataclass(frozen=True, kw_only=True)
class Line:
    """One line of a list. sentence: why it is there; "" from the client, which says it in its own words."""

    product_id: str
    title: str
    sentence: str = ""


@dataclass(frozen=True, kw_only=True)
class Journey:
    """What happened. from_device: the lists that the local client made; they have the same items as the API's."""

    learner: LogIn
    bought: tuple[str, ...]
    before: tuple[Line, ...]
    after: tuple[Line, ...]
    device_before: tuple[Line, ...]
    device_after: tuple[Line, ...]

    def to_json(self) -> dict[str, Any]:
        lists = ("before", "after", "device_before", "device_after")
        return {
            "bought": list(self.bought),
            **{name: [line.product_id for line in getattr(self, name)] for name in lists},
        }


@dataclass(frozen=True, kw_only=True)
class Promotion:
    """A model that passed the gate. epsilon: as the platform's privacy ledger states it."""

    version: int
    ndcg_at_10: float
    epsilon: float


def promote(shop: Shop, cast: Cast, scenario: Scenario, *, state: Path) -> Promotion:
    """Measure the published model on held-out items, sign that, hand both in as the publisher's program, make it live.

    state: of the job that trained it, whose ledger must say what the model says of itself.
    """
    key = load_signing_key(cast.publisher_key)
    files = read_latest(cast.registry, shop.model)
    artifact = checked(files, key, state)
    cases = scenario.split.test
    found = measured(files, key.public_key().public_bytes_raw(), scenario.catalogue, cases)
    report = report_of(found, None, cases, test_set="each learner's last item, held out", signing_key=key)
    shop.operator.ask_json(
        "POST", "/model-publishers", {"name": "aggregation server", "public_key": cast.publisher_public_key}
    )
    program = shop.enrol_program("aggregation server", ["models:publish"])
    publisher = PlatformServer(shop.url)
    publisher.log_in_program(program["id"], program["client_secret"])
    entry = publisher.publish_candidate(shop.model, files, report)
    if entry.get("state") != "candidate":
        raise DeploymentError(f"the gate refused {shop.model}: {entry.get('reasons')}")
    shop.operator.ask_json("POST", f"/models/{shop.model}/versions/{artifact.version}/promote", {"to": "live"})
    released = shop.operator.ask("GET", "/privacy-ledger?limit=1")["items"][0]
    return Promotion(version=artifact.version, ndcg_at_10=found.figures.ndcg_at_10, epsilon=float(released["epsilon"]))


def new_learner(shop: Shop, invitation: bytes, folder: Path) -> Journey:
    """Everything that one learner does; `folder` is for the home of the client on the learner's machine.

    Raises DeploymentError where the two lists differ, before or after.
    """
    log_in = LogIn(who="learner", email="mei@example.org", password=secrets.token_urlsafe(12))
    account = {"email": log_in.email, "password": log_in.password, "display_name": "梅", "language": "en"}
    PlatformServer(shop.url).ask_json("POST", "/accounts", account)
    learner = shop.log_in(log_in)
    policy = learner.ask("GET", "/policies/current")
    agreed = {"purposes": {"service": True, "service-personalisation": True}, "policy_version": policy["version"]}
    learner.ask_json("PUT", "/me/consents", agreed)
    home = make_joined(folder, invitation, opened(invitation), LocalPolicy(name="mei-device"))
    fetch_model(home.folder)
    before, device_before = _listed(learner), _suggested(home.folder, newcomer=True)
    bought = _two_courses(before, learner)
    for product_id in bought:
        _buy(learner, product_id)
    _import_purchases(home.folder, learner, folder.with_name("purchases.csv"))
    after, device_after = _listed(learner), _suggested(home.folder, newcomer=False)
    for when, one, other in (("before", before, device_before), ("after", after, device_after)):
        if [line.product_id for line in one] != [line.product_id for line in other]:
            raise DeploymentError(f"the platform's list and the local client's differ {when} the purchases")
    return Journey(
        learner=log_in,
        bought=bought,
        before=before,
        after=after,
        device_before=device_before,
        device_after=device_after,
    )


def _listed(learner: PlatformServer) -> tuple[Line, ...]:
    items = learner.ask("GET", f"/recommendations?k={LINES}")["items"]
    return tuple(Line(product_id=item["product_id"], title=item["title"], sentence=item["sentence"]) for item in items)


def _suggested(home: Path, *, newcomer: bool) -> tuple[Line, ...]:
    lines = suggest(ClientHome.open(home), USER, LINES, newcomer=newcomer)
    return tuple(Line(product_id=line.item_id, title=line.title) for line in lines)


def _two_courses(shown: Sequence[Line], learner: PlatformServer) -> tuple[str, ...]:
    # The first courses of the list; consulting would need an appointment.
    kinds = ((line.product_id, learner.ask("GET", f"/products/{line.product_id}")["kind"]) for line in shown)
    return tuple(islice((product_id for product_id, kind in kinds if kind == "course"), BOUGHT))


def _buy(learner: PlatformServer, product_id: str) -> None:
    """Order, pay on the provider's page, and wait until its signed message made the order paid."""
    body = json.dumps({"lines": [{"product_id": product_id}]}).encode()
    order = learner.ask("POST", "/orders", body, "application/json", repeat=True, key=uuid4().hex)
    # A page of another party: it learns the card and the amount, and nothing of the list that led here.
    request = urllib.request.Request(order["pay_url"], data=f"card={GOOD_CARD}".encode(), method="POST")  # noqa: S310
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=30):
        pass
    for _ in range(WEBHOOK_TRIES):
        if learner.ask("GET", f"/orders/{order['id']}")["status"] == "paid":
            return
        time.sleep(WEBHOOK_PAUSE_SECONDS)
    raise DeploymentError("the payment provider's message about a payment did not arrive in time")


def _import_purchases(home: Path, learner: PlatformServer, path: Path) -> None:
    """What the learner owns, from their own account into their own store."""
    claims = learner.ask("GET", "/me/entitlements?limit=100")["items"]
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["user", "item", "timestamp"])
        for claim in claims:
            writer.writerow([USER, claim["product_id"], datetime.fromisoformat(claim["granted_at"]).timestamp()])
    opened_home = ClientHome.open(home)
    import_source(opened_home.store, opened_home.catalogue, str(path))
