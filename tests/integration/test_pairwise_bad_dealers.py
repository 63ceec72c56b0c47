"""Whole jobs in which a tenant deals shares that do not open, or says that of one which does not."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import client.answer
import client.pairwise
from client.pairwise_vault import FILE
from server.checkpoint import load_checkpoint
from server.releases import ReleaseLedger
from shared.errors import DeploymentError
from shared.plan import steps
from shared.secagg import share_complaint, topology_p
from shared.secagg.exchange_proof import prove_exchange
from shared.secagg.pairwise_messages import Dealing, SealedShares, signed
from shared.secagg.shamir import SHARE_BYTES
from shared.wire import Refusal, decode, encode
from shared.wire_pairwise import DealReply, KeysReply, MaskReply, MaskRequest, ProofReply, ProofRequest, SharesUnopened
from tests.federation_cast import Cast
from tests.pairwise_federation_cast import FIVE, NODES, fives, frame_of, reply_with

HONEST = ["anna", "bert", "dora", "emil"]


def released(cast: Cast) -> list[tuple[int, int, list[str]]]:
    records = ReleaseLedger.open(cast.state).records("release", cast.plan.digest)
    return [(record["step"], record["attempt"], sorted(record["cohort"])) for record in records]


def events(cast: Cast, kind: str) -> list[dict[str, Any]]:
    return [event for event in cast.events() if event["event"] == kind]


def charges(cast: Cast, name: str) -> list[tuple[int, int]]:
    entries = cast.home(name).ledger.entries()
    return [(entry.step, entry.attempt) for entry in entries if entry.kind == "release"]


class Dealer:
    """Node `name` with its own keys: its dealing is spoilt for the receivers named, and signed by itself."""

    def __init__(self, cast: Cast, name: str, *receivers: str) -> None:
        self.cast, self.node, self.name, self.receivers = cast, NODES[name], name, receivers
        self.asked: list[tuple[int, str]] = []

    def spoil(self, shares: SealedShares) -> SealedShares:
        return replace(shares, sealed=bytes(len(shares.sealed)))

    def __call__(self, node: int, message: Any, handler: Callable[[Any], Any]) -> Any:
        self.asked.append((node, type(decode(frame_of(message))).__name__))
        reply = handler(message)
        found = decode(frame_of(reply))
        if node != self.node or not isinstance(found, DealReply):
            return reply
        return reply_with(message, encode(DealReply(dealing=self._spoilt(found.dealing))))

    def _spoilt(self, dealing: Dealing) -> Dealing:
        shares = tuple(self.spoil(each) if each.receiver in self.receivers else each for each in dealing.shares)
        return signed(replace(dealing, shares=shares), self.cast.home(self.name).vault.signing_key)


class LiesAboutItsDigests(Dealer):
    def spoil(self, shares: SealedShares) -> SealedShares:
        return replace(shares, self_digest=bytes(32))


@pytest.mark.parametrize("kind", [Dealer, LiesAboutItsDigests])
def test_a_dealer_of_bad_shares_is_proven_to_be_one_and_the_job_completes_without_it(
    tmp_path: Path, kind: type[Dealer]
) -> None:
    cast = fives(tmp_path)
    dealer = kind(cast, "carl", *HONEST)
    cast.run(meddle=dealer)
    assert released(cast) == [(0, 1, HONEST), (1, 0, HONEST)]
    shown = events(cast, "bad_shares")
    assert {event["party"] for event in shown} == {"carl"}
    assert sorted(event["shown_by"] for event in shown) == HONEST
    assert "it is proven that carl dealt" in events(cast, "attempt_abandoned")[0]["reason"]
    # Nobody else paid for the attempt that it spoilt, and it is not asked again by the node it had.
    assert all(charges(cast, name) == [(0, 1), (1, 0)] for name in HONEST)
    assert [name for node, name in dealer.asked if node == NODES["carl"]].count("KeysRequest") <= 2


def test_bad_shares_for_one_neighbour_cost_that_one_a_step_and_the_dealer_the_job(tmp_path: Path) -> None:
    cast = fives(tmp_path)
    cast.run(meddle=Dealer(cast, "carl", "anna"))
    assert released(cast) == [(0, 0, ["bert", "carl", "dora", "emil"]), (1, 0, HONEST)]
    assert charges(cast, "anna") == [(1, 0)]


def test_shares_of_no_secret_show_their_dealer_when_the_sum_does_not_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Well sealed and as committed to, so no neighbour can complain, and not points of one polynomial."""
    deal, split = client.pairwise.deal, topology_p.split

    def deals(state: Any, *given: Any, **named: Any) -> Any:
        wrong = state.client == "carl"
        monkeypatch.setattr(topology_p, "split", scattered if wrong else split)
        return deal(state, *given, **named)

    def scattered(secret: bytes, *, threshold: int, points: Any, random_bytes: Any) -> tuple[bytes, ...]:
        return tuple(bytes([place]) * SHARE_BYTES for place, _ in enumerate(points))

    monkeypatch.setattr(client.pairwise, "deal", deals)
    cast = fives(tmp_path)
    cast.run()
    assert released(cast) == [(0, 1, HONEST), (1, 0, HONEST)]
    assert [(event["party"], event["shown_by"]) for event in events(cast, "bad_shares")] == [("carl", "")]


class FalseAccuser:
    """Node carl says of `about` that its shares do not open, and answers the question for proof with `proof`."""

    def __init__(self, about: str, proof: Callable[[ProofRequest], Any], ctx: bytes | None = None) -> None:
        self.about, self.proof, self.ctx, self.questions = about, proof, ctx, 0

    def __call__(self, node: int, message: Any, handler: Callable[[Any], Any]) -> Any:
        request = decode(frame_of(message))
        if node == NODES["carl"] and isinstance(request, MaskRequest):
            return reply_with(message, encode(SharesUnopened(client="carl", ctx=request.ctx, dealer=self.about)))
        if node == NODES["carl"] and isinstance(request, ProofRequest):
            self.questions += 1
            said = self.proof(request)
            return handler(message) if said is None else reply_with(message, encode(said))
        return handler(message)


def forged(cast: Cast) -> Callable[[ProofRequest], Any]:
    """As good as a liar can make it: signed by itself, an exchange of keys it does hold, the right dealing."""

    def proof(request: ProofRequest) -> ProofReply:
        base = bytes([9]) + bytes(31)
        point, shown = prove_exchange(bytes(range(32)), base, base, b"another statement")
        made = share_complaint.ShareComplaint(
            client="carl",
            ctx=request.ctx,
            root=request.dealing.root,
            dealer=request.dealing.client,
            dealt=share_complaint._digest(request.dealing),
            exchange=point,
            proof=shown,
            signature=b"",
        )
        key = cast.home("carl").vault.signing_key
        return ProofReply(complaint=replace(made, signature=key.sign(share_complaint._message(made))))

    return proof


@pytest.mark.parametrize(
    ("about", "how"),
    [("anna", "forged"), ("anna", "its own client"), ("anna", "a refusal"), ("carl", "forged"), ("nobody", "forged")],
)
def test_a_false_complaint_takes_nobody_out_but_its_author(tmp_path: Path, about: str, how: str) -> None:
    cast = fives(tmp_path)
    answers: dict[str, Callable[[ProofRequest], Any]] = {
        "forged": forged(cast),
        "its own client": lambda request: None,
        "a refusal": lambda request: Refusal(party="carl", error="X", message="no"),
    }
    accuser = FalseAccuser(about, answers[how])
    cast.run(meddle=accuser)
    assert released(cast) == [(0, 0, HONEST), (1, 0, HONEST)]
    assert events(cast, "bad_shares") == []
    # It is asked about parties that dealt, and nothing comes of it.
    assert len(events(cast, "dispute_unproven")) == accuser.questions == (0 if about == "nobody" else 2)
    assert all(charges(cast, name) == [(0, 0), (1, 0)] for name in HONEST)


def test_a_server_learns_no_exchange_by_delivering_other_bytes(tmp_path: Path) -> None:
    """The client that cannot open what it got asks for the dealer's signature before it tells anything."""
    cast = fives(tmp_path)
    told: list[Any] = []

    def meddle(node: int, message: Any, handler: Callable[[Any], Any]) -> Any:
        request = decode(frame_of(message))
        if node == NODES["anna"] and isinstance(request, MaskRequest):
            spoilt = tuple(
                replace(each, shares=replace(each.shares, sealed=bytes(len(each.shares.sealed))))
                for each in request.deliveries
            )
            message.content = reply_with(message, encode(replace(request, deliveries=spoilt))).content
        reply = handler(message)
        if node == NODES["anna"] and isinstance(request, ProofRequest):
            told.append(decode(frame_of(reply)))
        return reply

    cast.run(meddle=meddle)
    assert released(cast)[0] == (0, 0, list(FIVE[1:]))
    assert told
    assert all(isinstance(each, Refusal) and each.error == "WrongContext" for each in told)
    assert events(cast, "bad_shares") == []


def test_a_party_whose_seal_key_is_another_s_is_left_out_by_the_server(tmp_path: Path) -> None:
    cast = fives(tmp_path)

    def meddle(node: int, message: Any, handler: Callable[[Any], Any]) -> Any:
        reply = handler(message)
        found = decode(frame_of(reply))
        if node != NODES["carl"] or not isinstance(found, KeysReply):
            return reply
        # A key on the curve of which carl holds no secret, with the signature of the key that it had.
        made = replace(found.bundle, seal_key=(9).to_bytes(32, "little"))
        return reply_with(message, encode(KeysReply(bundle=signed(made, cast.home("carl").vault.signing_key))))

    cast.run(meddle=meddle)
    assert released(cast) == [(0, 0, HONEST), (1, 0, HONEST)]
    left = [event for event in events(cast, "party_left") if "did not show" in event["reason"]]
    assert [event["party"] for event in left] == ["carl", "carl"]
    assert all(event["reason"].startswith("BadSignature: carl") for event in left)


def said(reply: Any) -> str:
    """The error of a refusal, else what it answered with."""
    return reply.error if isinstance(reply, Refusal) else type(reply).__name__


class AsksAgain(Dealer):
    """The server asks anna for a proof; then for its vector in the same round, as if nothing had been told."""

    def __init__(self, cast: Cast) -> None:
        super().__init__(cast, "carl", "anna")
        self.masks: dict[bytes, MaskRequest] = {}
        self.after: list[Any] = []

    def __call__(self, node: int, message: Any, handler: Callable[[Any], Any]) -> Any:
        request = decode(frame_of(message))
        if node == NODES["anna"] and isinstance(request, MaskRequest):
            self.masks[request.ctx] = request
        reply = super().__call__(node, message, handler)
        if node == NODES["anna"] and isinstance(decode(frame_of(reply)), ProofReply):
            assert isinstance(request, ProofRequest)
            earlier = self.masks[request.ctx]
            good = tuple(each for each in earlier.deliveries if each.sender != "carl")
            for again in (replace(earlier, deliveries=good), request):
                message.content = reply_with(message, encode(again)).content
                self.after.append(decode(frame_of(handler(message))))
        return reply


def test_who_told_an_exchange_answers_nothing_more_in_that_round(tmp_path: Path) -> None:
    cast = fives(tmp_path)
    server = AsksAgain(cast)
    cast.run(meddle=server)
    assert [said(each) for each in server.after] == ["AlreadyAnswered", "AlreadyAnswered"]
    assert charges(cast, "anna") == [(1, 0)], "nor is anything charged for it"


class PutsBack(Dealer):
    """Anna sends its vector; its vault is then put back to before, and the server asks for proof of carl's shares."""

    def __init__(self, cast: Cast) -> None:
        super().__init__(cast, "carl", "anna")
        self.vault = cast.home("anna").folder / FILE
        self.spoilt: Dealing | None = None
        self.after: list[Any] = []

    def __call__(self, node: int, message: Any, handler: Callable[[Any], Any]) -> Any:
        request = decode(frame_of(message))
        if node == NODES["anna"] and isinstance(request, MaskRequest) and not self.after:
            before = self.vault.read_bytes()
            good = tuple(each for each in request.deliveries if each.sender != "carl")
            message.content = reply_with(message, encode(replace(request, deliveries=good))).content
            reply = handler(message)
            assert isinstance(decode(frame_of(reply)), MaskReply)
            moved = self.vault.read_bytes()
            self.vault.write_bytes(before)
            assert self.spoilt is not None
            message.content = reply_with(message, encode(ProofRequest(dealing=self.spoilt))).content
            self.after.append(decode(frame_of(handler(message))))
            self.vault.write_bytes(moved)
            return reply
        reply = super().__call__(node, message, handler)
        found = decode(frame_of(reply))
        if node == self.node and isinstance(found, DealReply) and self.spoilt is None:
            self.spoilt = found.dealing
        return reply


def test_a_vault_put_back_after_the_vector_left_tells_no_exchange(tmp_path: Path) -> None:
    cast = fives(tmp_path)
    server = PutsBack(cast)
    cast.run(meddle=server)
    assert [said(each) for each in server.after] == ["AlreadyAnswered"]


def test_exposed_dealers_that_leave_too_few_end_the_job_by_name(tmp_path: Path) -> None:
    cast = fives(tmp_path)
    first, second = Dealer(cast, "carl", *HONEST), Dealer(cast, "dora", "anna", "bert", "emil")

    def both(node: int, message: Any, handler: Callable[[Any], Any]) -> Any:
        return first(node, message, lambda inner: second(node, inner, handler))

    with pytest.raises(DeploymentError, match="it is proven that carl dealt"):
        cast.run(meddle=both)
    assert charges(cast, "anna") == []


def test_the_sum_without_the_dealer_is_exact(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    noted: dict[tuple[str, int], Any] = {}
    values = client.answer._values

    def noting(home: Any, plan: Any, step: Any, inputs: Any, seed: bytes) -> Any:
        noted[home.name, step.index] = values(home, plan, step, inputs, seed)
        return noted[home.name, step.index].copy()

    monkeypatch.setattr(client.answer, "_values", noting)
    cast = fives(tmp_path)
    cast.run(meddle=Dealer(cast, "carl", *HONEST))
    for step, release in enumerate(load_checkpoint(cast.state, cast.plan.digest).releases):
        np.testing.assert_array_equal(release.total, sum(noted[name, step] for name in HONEST))
    assert len(steps(cast.plan)) == 2
