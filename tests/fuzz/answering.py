"""A whole client, asked anything: past the frame, with a roster that is good, and with plans made of any JSON.

Whatever it is asked, `client.answer` gives a frame that decodes. A home is renewed after some hundred questions, for
its ledger grows with what it answers.
"""

import json
import logging
import os
import shutil
from collections.abc import Sequence
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord, RecordDict

from client.answer import answer
from client.home import ClientHome
from client.policy import LocalPolicy, PinnedHelper
from server.exchange import Silence, _received
from shared.canonical import canonical_json
from shared.catalogue import CatalogueSnapshot
from shared.errors import MalformedMessage
from shared.frame import Frame, pack_frame
from shared.plan import CooccurrencePlan, ReconPlan, make_plan, plan_to_json
from shared.roster import Member, Roster, sign_roster
from shared.sealing_certificate import SealingCertificate
from shared.wire import decode

HELPERS = ("north", "south")
_questions = count()


@cache
def client(turn: int, folder: Path, catalogue: CatalogueSnapshot, issuer: Any, certificates: Any) -> tuple[Any, bytes]:
    """A home that allows as much as a policy can, and the signed roster that lists it."""
    shutil.rmtree(folder / f"home-{turn - 1}", ignore_errors=True)
    pins = {name: PinnedHelper(signing=key) for name, key, _ in certificates}
    policy = LocalPolicy(
        name="amber",
        epsilon=float("inf"),
        max_epsilon_per_job=1e9,
        delta=0.5,
        min_users=1,
        max_rounds=10_000,
        allowed_noise=("helpers", "tenant", "shared", "none"),
        allowed_topologies=("helpers", "pairwise"),
        pairwise_corrupt=0.0,
        pairwise_dropped=0.0,
        issuer_public_key=issuer.public_key().public_bytes_raw().hex(),
        helpers=pins,
    )
    home = ClientHome.create(folder / f"home-{turn}", policy=policy, catalogue=catalogue)
    own = Member(
        name="amber",
        signing_key=home.vault.signing_public,
        sealing=None,
        roles=("tenant",),
        not_before=0,
        not_after=2_000,
    )
    helpers = tuple(
        Member(name=name, signing_key=key, sealing=sealing, roles=("tenant", "helper"), not_before=0, not_after=2_000)
        for name, key, sealing in certificates
    )
    return home, sign_roster(Roster(entries=(own, *helpers), epoch=1, issued_at=0, expires_at=1_000), issuer)


def certified(documents: Any) -> tuple[tuple[str, str, SealingCertificate], ...]:
    """Name, signing key and certificate of the helpers on the golden roster."""
    entries = json.loads(bytes.fromhex(documents["roster"]["good"])[64:])["entries"]
    return tuple(
        (each["name"], each["signing_key"], SealingCertificate(**each["sealing"]))
        for each in entries
        if each["name"] in HELPERS
    )


def ask(data: bytes, *, folder: Path, catalogue: CatalogueSnapshot, issuer: Any, documents: Any, now: int) -> None:
    """data: a kind and a JSON object whose fields take the place of a good question's; or a frame as it stands."""
    home, roster = client(next(_questions) // 200, folder, catalogue, issuer, certified(documents))
    frame = data if data.startswith(b"ZHIY") else question(data, catalogue, roster)
    log = logging.getLogger("zhiyin.client")
    log.disabled = True
    try:
        decode(answer(home, frame, now=now, random_bytes=os.urandom))
    finally:
        log.disabled = False


def question(data: bytes, catalogue: CatalogueSnapshot, roster: bytes) -> bytes:
    kind = {1: 1, 3: 3}.get(data[0] if data else 0, 16)
    try:
        changes = json.loads(data[1:])
        good = headers(catalogue)[kind]
        header = {**good, **changes, "plan": {**good["plan"], **changes.get("plan", {})}}
        return pack_frame(Frame(kind=kind, header=header, sections={"roster": roster}))
    except (ValueError, TypeError, AttributeError, RecursionError, MalformedMessage):
        return b""


@cache
def headers(catalogue: CatalogueSnapshot) -> dict[int, dict[str, Any]]:
    start = {"step": 0, "attempt": 0}
    helped, pairwise = plans(catalogue)[:2]
    terms = {"num_parties": 3, "degree": 2, "threshold": 2, "min_active": 3}
    return {
        1: {**start, "plan": helped, "inputs": {}},
        3: {**start, "plan": helped, "inputs_digest": "00" * 32, "slots": ["north"], "headers": []},
        16: {**start, "plan": pairwise, "inputs_digest": "00" * 32, "terms": terms},
    }


def plans(catalogue: CatalogueSnapshot) -> list[dict[str, Any]]:
    items = catalogue.num_items
    fields: dict[str, Any] = {
        "job_id": "fuzzed", "catalogue_digest": catalogue.digest, "num_items": items, "popularity_share": 0.25,
        "min_tenants": 3, "min_users": 1, "max_users": 8, "bits": 64, "epsilon": 1.0, "delta": 1e-6,
    }  # fmt: skip
    pairs = CooccurrencePlan(num_head_items=items, gamma=1.0, max_head_items_per_user=2)
    recon = ReconPlan(
        num_factors=2, num_rounds=2, num_head_items=items, max_items_per_user=2, ridge=1.0, negative_weight=0.1,
        learning_rate=1.0, momentum=0.5, init_seed=1, init_std=0.1, max_grad_norm=1.0,
    )  # fmt: skip
    terms = {"topology": "pairwise", "num_parties": 3, "degree": 2, "threshold": 2, "colluding": 0}
    helped: dict[str, Any] = {**fields, "noise": "helpers", "helpers": HELPERS}
    shared: dict[str, Any] = {**fields, **terms, "noise": "shared", "helpers": ()}
    made = (make_plan(recipe=pairs, **helped), make_plan(recipe=pairs, **shared), make_plan(recipe=recon, **helped))
    return [plan_to_json(each) for each in made]


def question_seeds(catalogue: CatalogueSnapshot) -> Sequence[bytes]:
    helped, pairwise, recon = plans(catalogue)
    changes: list[tuple[int, dict[str, Any]]] = [
        (1, {}),
        (3, {}),
        (16, {}),
        (1, {"plan": recon, "step": 1}),
        (1, {"plan": {**recon, "recipe": {**recon["recipe"], "num_rounds": 2**40}}}),
        (16, {"plan": {"num_parties": 2**30, "degree": 2**29, "min_tenants": 2**20}}),
        (16, {"plan": {"num_parties": 4_000, "degree": 2_000, "threshold": 1_900}}),
        (1, {"plan": {"helpers": ["north"] * 3_000}}),
        (1, {"plan": {**helped, "mu": 1e-300}}),
        (16, {"plan": {**pairwise, "noise": "tenant", "bits": 16}}),
    ]
    return [bytes([kind]) + canonical_json(change) for kind, change in changes]


class _Reply:
    def __init__(self, content: RecordDict) -> None:
        self.content = content

    def has_error(self) -> bool:
        return False


def receive(data: bytes) -> None:
    """A node's reply whose array holds these bytes in the place of numpy's own format."""
    array = Array(dtype="uint8", shape=(1,), stype="numpy.ndarray", data=data)
    found: bytes | Silence = _received(_Reply(RecordDict({"frame": ArrayRecord({"frame": array})})), 2**30)  # type: ignore[arg-type]
    assert isinstance(found, bytes | Silence)


def array_seeds() -> Sequence[bytes]:
    good = Array(np.frombuffer(b"ZHIY and more", np.uint8)).data
    return [
        good,
        good.replace(b"(13,), }           ", b"(1099511627776,), }"),
        good.replace(b"|u1", b"|O "),
        good.replace(b"(13,)", b"(-1,)"),
        good[:20],
        b"PK\x03\x04" + good,
    ]
