"""One tenant and a server that tries everything: the real `answer`, a real home, every request made by hand."""

import os
import sqlite3
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from client.answer import answer
from client.home import POLICY_FILE, ClientHome
from client.pairwise_vault import FILE, KEEP_SECONDS, MAX_OPEN, PairwiseVault
from client.policy_file import render_policy
from client.preview import default_plan, preview
from shared.errors import IllegalTransition, MalformedFile
from shared.plan import TrainingPlan, plan_to_json, steps
from shared.roster import Roster, open_roster
from shared.secagg.context import context
from shared.secagg.pairwise_messages import Bundle, agree
from shared.secagg.pairwise_opening import deliveries_to, open_pairwise_sum
from shared.secagg.topology_p import sign_active
from shared.wire import ContributionRequest, Refusal, decode, encode, inputs_digest
from shared.wire_pairwise import (
    DealReply,
    DealRequest,
    KeysReply,
    KeysRequest,
    MaskRequest,
    OpenReply,
    OpenRequest,
    ProofRequest,
    SharesUnopened,
    SignReply,
    SignRequest,
)
from tests.federation_cast import Cast
from tests.pairwise_federation_cast import FIVE, fives

NOW = 1_800_000_000
OTHERS = FIVE[1:]


@dataclass
class Server:
    """Speaks with the homes of a cast as a server would; `to` is where a reply is refused or taken."""

    cast: Cast
    attempt: int = 0
    plan: TrainingPlan = field(init=False)
    said: dict[str, dict[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.plan = self.cast.plan

    def ask(self, name: str, request: Any, *, now: int = NOW) -> Any:
        return decode(answer(self.cast.home(name), encode(request), now=now, random_bytes=os.urandom))

    def keys_request(self, **changes: Any) -> KeysRequest:
        fields: dict[str, Any] = {
            "plan_json": plan_to_json(self.plan),
            "step": 0,
            "attempt": self.attempt,
            "roster": (self.cast.folder / "server" / "roster.bin").read_bytes(),
            "inputs_digest": inputs_digest({}),
            "terms": self.plan.terms,
        }
        return KeysRequest(**{**fields, **changes})

    @property
    def roster(self) -> Roster:
        issuer = self.cast.home("anna").policy.issuer_public_key
        return open_roster((self.cast.folder / "server" / "roster.bin").read_bytes(), issuer, NOW)

    @property
    def ctx(self) -> bytes:
        base = context(
            plan_digest=self.plan.digest,
            job_id=self.plan.job_id,
            step=0,
            attempt=self.attempt,
            num_coordinates=steps(self.plan)[0].num_coordinates,
            bits=self.plan.bits,
            inputs_digest=inputs_digest({}),
            roster_digest=self.roster.digest,
        )
        return self.plan.terms.context(base)

    def request(self, phase: str, name: str) -> Any:
        """The honest request of a phase, from what was said in the phases before it."""
        match phase:
            case "keys":
                return self.keys_request()
            case "deal":
                return DealRequest(ctx=self.ctx, bundles=self.bundles)
            case "mask":
                dealings = [reply.dealing for reply in self.said["deal"].values()]
                return MaskRequest(ctx=self.ctx, deliveries=deliveries_to(name, dealings), inputs={})
            case "sign":
                return SignRequest(ctx=self.ctx, active=tuple(sorted(self.said["mask"])))
            case _:
                others = tuple(each.signature for peer, each in sorted(self.said["sign"].items()) if peer != name)
                return OpenRequest(ctx=self.ctx, signatures=others)

    @property
    def bundles(self) -> tuple[Bundle, ...]:
        return tuple(reply.bundle for _, reply in sorted(self.said["keys"].items()))

    def run(self, *phases: str, names: Sequence[str] = FIVE) -> "Server":
        for phase in phases:
            said = {name: self.ask(name, self.request(phase, name)) for name in names}
            assert not any(isinstance(reply, Refusal) for reply in said.values()), said
            self.said[phase] = {**self.said.get(phase, {}), **said}
        return self

    def open(self) -> Any:
        agreement = agree(self.bundles, ctx=self.ctx, terms=self.plan.terms, roster=self.roster, now=NOW)
        return open_pairwise_sum(
            agreement=agreement,
            dealings=[reply.dealing for reply in self.said["deal"].values()],
            vectors=[reply.vector for reply in self.said["mask"].values()],
            unmaskings=[reply.unmasking for reply in self.said["open"].values()],
            roster=self.roster,
            now=NOW,
            bits=self.plan.bits,
            num_coordinates=steps(self.plan)[0].num_coordinates,
        )

    def charged(self, name: str = "anna") -> int:
        return sum(entry.kind == "release" for entry in self.cast.home(name).ledger.entries())


@pytest.fixture
def server(tmp_path: Path) -> Server:
    return Server(fives(tmp_path, noise="shared"))


def refused(reply: Any, error: str, words: str = "") -> None:
    assert isinstance(reply, Refusal), reply
    assert reply.error == error, reply
    assert words in reply.message, reply


ALL = ("keys", "deal", "mask", "sign", "open")


def test_the_honest_round_opens_and_charges_once(server: Server) -> None:
    server.run(*ALL)
    assert server.open().active == FIVE
    assert server.charged() == 1


# --- nothing is said twice, in whatever order it is asked ---


@pytest.mark.parametrize("phase", ALL)
def test_every_request_is_answered_once_and_then_never_again(server: Server, phase: str) -> None:
    server.run(*ALL[: ALL.index(phase) + 1])
    reply = server.ask("anna", server.request(phase, "anna"))
    assert isinstance(reply, Refusal)
    assert reply.error in ("AlreadyAnswered", "IllegalTransition")
    server.run(*ALL[ALL.index(phase) + 1 :])
    for earlier in ALL:
        assert isinstance(server.ask("anna", server.request(earlier, "anna")), Refusal)
    assert server.charged() == 1


@pytest.mark.parametrize("stage", range(1, 5))
def test_a_request_out_of_order_is_refused_and_changes_nothing(server: Server, stage: int) -> None:
    server.run(*ALL[:stage])
    made = {
        "deal": lambda: server.request("deal", "anna"),
        "mask": lambda: MaskRequest(ctx=server.ctx, deliveries=(), inputs={}),
        "sign": lambda: SignRequest(ctx=server.ctx, active=FIVE),
        "open": lambda: OpenRequest(ctx=server.ctx, signatures=()),
    }
    for phase, request in made.items():
        if phase != ALL[stage]:
            reply = server.ask("anna", request())
            assert isinstance(reply, Refusal)
            assert reply.error in ("IllegalTransition", "AlreadyAnswered"), reply
    server.run(*ALL[stage:])
    assert server.open().active == FIVE


def test_a_round_that_was_never_begun_is_not_known(server: Server) -> None:
    refused(server.ask("anna", SignRequest(ctx=server.ctx, active=FIVE)), "WrongContext", "not known here")


def test_a_second_active_set_is_never_signed(server: Server) -> None:
    server.run("keys", "deal", "mask", "sign")
    reply = server.ask("anna", SignRequest(ctx=server.ctx, active=FIVE[:4]))
    assert isinstance(reply, Refusal)


def test_not_even_by_a_vault_put_back_to_an_older_state(server: Server) -> None:
    server.run("keys", "deal", "mask")
    path = server.cast.homes["anna"] / FILE
    before = path.read_bytes()
    server.run("sign")
    path.write_bytes(before)
    refused(server.ask("anna", SignRequest(ctx=server.ctx, active=FIVE[:4])), "AlreadyAnswered")


def test_nor_are_shares_dealt_twice_under_two_lists(server: Server) -> None:
    server.run("keys")
    path = server.cast.homes["anna"] / FILE
    before = path.read_bytes()
    # A list that is refused costs nothing.
    refused(server.ask("anna", DealRequest(ctx=server.ctx, bundles=server.bundles[:3])), "TooFewClients")
    server.run("deal", names=["anna"])
    path.write_bytes(before)
    without_one = DealRequest(ctx=server.ctx, bundles=server.bundles[:4])
    refused(server.ask("anna", without_one), "AlreadyAnswered")


def test_nor_is_a_second_vector_made_by_one(server: Server) -> None:
    server.run("keys", "deal")
    path = server.cast.homes["anna"] / FILE
    before = path.read_bytes()
    server.run("mask")
    path.write_bytes(before)
    refused(server.ask("anna", server.request("mask", "anna")), "AlreadyAnswered")
    assert server.charged() == 1


def test_a_lost_vault_gives_the_round_up_and_makes_no_second_vector(server: Server) -> None:
    server.run("keys", "deal", "mask")
    (server.cast.homes["anna"] / FILE).unlink()
    refused(server.ask("anna", server.request("sign", "anna")), "WrongContext", "not known here")
    # Keys for the same context would be new ones; but what was charged under it is never released again.
    refused(server.ask("anna", server.keys_request()), "AlreadyAnswered")


# --- a server that tells different things to different clients ---


def test_a_client_that_is_called_dropped_signs_no_such_set(server: Server) -> None:
    server.run("keys", "deal", "mask")
    refused(server.ask("anna", SignRequest(ctx=server.ctx, active=OTHERS)), "IllegalTransition")


def test_two_sets_do_not_both_open_whatever_is_shown_to_whom(server: Server) -> None:
    server.run("keys", "deal", "mask")
    one, two = FIVE[:4], ("anna", "bert", "carl", "emil")
    shown = {"anna": one, "bert": one, "dora": one, "carl": two, "emil": two}
    replies = {name: server.ask(name, SignRequest(ctx=server.ctx, active=active)) for name, active in shown.items()}
    signatures = {name: reply.signature for name, reply in replies.items() if isinstance(reply, SignReply)}
    assert set(signatures) == set(FIVE)
    for name, active in shown.items():
        same = tuple(signatures[peer] for peer in sorted(shown) if shown[peer] == active and peer != name)
        refused(server.ask(name, OpenRequest(ctx=server.ctx, signatures=same)), "TooFewClients")
        mixed = tuple(signatures[peer] for peer in sorted(shown) if peer != name)
        refused(server.ask(name, OpenRequest(ctx=server.ctx, signatures=mixed)), "WrongContext")


def test_different_lists_of_keys_make_nothing_of_each_other_open(server: Server) -> None:
    server.run("keys")
    fewer = tuple(bundle for bundle in server.bundles if bundle.client != "emil")
    dealings = {}
    for name in FIVE[:4]:
        bundles = fewer if name == "anna" else server.bundles
        reply = server.ask(name, DealRequest(ctx=server.ctx, bundles=bundles))
        assert isinstance(reply, DealReply)
        dealings[name] = reply.dealing
    request = MaskRequest(ctx=server.ctx, deliveries=deliveries_to("anna", list(dealings.values())), inputs={})
    reply = server.ask("anna", request)
    assert reply == SharesUnopened(client="anna", ctx=server.ctx, dealer="bert")
    # Nor does it prove anything against whoever was shown another list.
    refused(server.ask("anna", ProofRequest(dealing=dealings["bert"])), "WrongContext")
    # It was found out before anything was paid for.
    assert server.charged() == 0


def test_a_list_with_other_keys_for_the_client_itself_is_refused(server: Server) -> None:
    server.run("keys")
    path = server.cast.homes["anna"] / FILE
    kept = path.read_bytes()
    path.unlink()
    swapped = server.ask("anna", server.keys_request())
    assert isinstance(swapped, KeysReply)
    path.write_bytes(kept)
    bundles = (swapped.bundle, *server.bundles[1:])
    refused(server.ask("anna", DealRequest(ctx=server.ctx, bundles=bundles)), "WrongContext", "does not hold the keys")


def test_signatures_of_too_few_open_nothing_and_the_quorum_still_does(server: Server) -> None:
    server.run("keys", "deal", "mask", "sign")
    signatures = server.request("open", "anna").signatures
    refused(server.ask("anna", OpenRequest(ctx=server.ctx, signatures=signatures[:2])), "TooFewClients")
    assert isinstance(server.ask("anna", OpenRequest(ctx=server.ctx, signatures=signatures[:3])), OpenReply)


def test_both_shares_of_a_neighbour_never_leave(server: Server) -> None:
    server.run("keys", "deal")
    server.run("mask", "sign", "open", names=FIVE[:4])
    unmasking = server.said["open"]["anna"].unmasking
    assert [owner for owner, _ in unmasking.self_shares] == ["bert", "carl", "dora"]
    assert [owner for owner, _ in unmasking.key_shares] == ["emil"]
    assert server.open().active == FIVE[:4]


# --- a server that asks for less than the policy ---


@pytest.mark.parametrize("field", ["num_parties", "degree", "threshold", "min_active"])
def test_terms_that_are_not_the_plan_s_are_refused(server: Server, field: str) -> None:
    changes = {"num_parties": 6, "degree": 5, "threshold": 2, "min_active": 3}
    terms = replace(server.plan.terms, **{field: changes[field]})
    refused(server.ask("anna", server.keys_request(terms=terms)), "PolicyViolation", "terms")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"threshold": 2}, "threshold is 2"),
        ({"degree": 2, "threshold": 2}, "degree is 2"),
        ({"colluding": 0}, "colluding is 0"),
        ({"num_parties": 4, "degree": 3}, "num_parties is 4"),
        ({"min_tenants": 3}, "min_tenants is 3"),
    ],
)
def test_a_plan_below_the_policy_is_refused_by_the_field(server: Server, changes: Any, words: str) -> None:
    policy = replace(server.cast.home("anna").policy, min_tenants=4)
    (server.cast.homes["anna"] / POLICY_FILE).write_text(render_policy(policy))
    server.plan = replace(server.plan, **changes)
    refused(server.ask("anna", server.keys_request()), "PolicyViolation", words)
    assert not (server.cast.homes["anna"] / FILE).exists() or server.charged() == 0


def test_a_policy_that_does_not_list_the_topology_refuses_it(server: Server) -> None:
    policy = replace(server.cast.home("anna").policy, allowed_topologies=("helpers",))
    (server.cast.homes["anna"] / POLICY_FILE).write_text(render_policy(policy))
    refused(server.ask("anna", server.keys_request()), "PolicyViolation", "topology is 'pairwise'")


def test_a_pairwise_plan_is_not_answered_by_the_messages_of_helpers(server: Server) -> None:
    asked = server.keys_request()
    request = ContributionRequest(plan_json=asked.plan_json, step=0, attempt=0, roster=asked.roster, inputs={})
    refused(server.ask("anna", request), "WrongContext", "of the other one")
    assert server.charged() == 0


@pytest.mark.parametrize("stage", range(1, 5))
def test_a_policy_made_stricter_ends_a_round_in_its_middle(server: Server, stage: int) -> None:
    server.run(*ALL[:stage])
    policy = replace(server.cast.home("anna").policy, allowed_noise=("tenant",))
    (server.cast.homes["anna"] / POLICY_FILE).write_text(render_policy(policy))
    refused(server.ask("anna", server.request(ALL[stage], "anna")), "PolicyViolation", "noise")


def test_inputs_other_than_the_round_s_are_refused_before_the_charge(server: Server) -> None:
    server.run("keys", "deal")
    request = replace(server.request("mask", "anna"), inputs={"head": np.zeros(3, np.int32)})
    refused(server.ask("anna", request), "WrongContext", "inputs")
    assert server.charged() == 0


def test_inputs_that_fit_the_step_and_not_the_round_are_refused_before_the_charge(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A round begun about other inputs; then the vector is asked for with those that the step really takes.
    others = inputs_digest({"head": np.zeros(3, np.int32)})
    monkeypatch.setitem(globals(), "inputs_digest", lambda _: others)
    server.run("keys", "deal")
    refused(server.ask("anna", server.request("mask", "anna")), "WrongContext", "inputs")
    assert server.charged() == 0


@pytest.mark.parametrize(
    ("bound", "error", "words"),
    [("max_users", "WrongContext", "the plan's sum holds 99"), ("min_users", "TooFewClients", "the minimum is 101")],
)
def test_parties_that_declare_more_or_fewer_users_than_the_plan_takes_are_dealt_no_shares(
    server: Server, bound: str, error: str, words: str
) -> None:
    """Five declare 20 users each: one too many for the sum, or one too few behind it. At the bound they deal."""
    beyond = {"max_users": 99, "min_users": 101}[bound]
    server.plan = replace(server.plan, **{bound: beyond})
    server.run("keys")
    refused(server.ask("anna", server.request("deal", "anna")), error, f"declare 100 users, {words}")
    # Nor is there a later step to be had of a round whose shares were not dealt.
    refused(server.ask("anna", MaskRequest(ctx=server.ctx, deliveries=(), inputs={})), "IllegalTransition")
    assert server.charged() == 0
    server.plan = replace(server.plan, **{bound: 100})
    server.run("keys", "deal")


@pytest.mark.parametrize("phase", ["keys", "mask"])
def test_without_budget_nothing_leaves(server: Server, phase: str) -> None:
    server.run(*ALL[: ALL.index(phase)])
    dearest = steps(server.plan)[1].mechanism
    for other in range(2):
        server.cast.home("anna").at(NOW).ledger.charge(
            job_id="other", step=0, attempt=0, context=bytes([other] * 32), mechanism=dearest, budget=None,
            job_budget=None,
        )  # fmt: skip
    tight = replace(server.cast.home("anna").policy, epsilon=1.0)
    (server.cast.homes["anna"] / POLICY_FILE).write_text(render_policy(tight))
    refused(server.ask("anna", server.request(phase, "anna")), "BudgetExhausted")
    assert server.charged() == 2


def test_the_charge_is_on_disk_before_a_history_is_looked_at(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    server.run("keys", "deal")

    def fails(*arguments: Any, **fields: Any) -> Any:
        assert server.charged() == 1
        raise RuntimeError("the history of learner-007")

    monkeypatch.setattr("client.answer.tenant_values", fails)
    reply = server.ask("anna", server.request("mask", "anna"))
    refused(reply, "ZhiyinError")
    assert "learner-007" not in reply.message
    # It cannot be tried again: the round is paid for and over.
    monkeypatch.undo()
    refused(server.ask("anna", server.request("mask", "anna")), "AlreadyAnswered")


# --- what lies on the disk ---


def test_no_secret_of_an_open_round_can_be_read_from_the_home(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[bytes] = []

    def noting(size: int) -> bytes:
        drawn.append(os.urandom(size))
        return drawn[-1]

    request = encode(server.keys_request())
    reply = decode(answer(server.cast.home("anna"), request, now=NOW, random_bytes=noting))
    assert isinstance(reply, KeysReply)
    secrets = [data for data in drawn if len(data) == 32]
    assert len(secrets) == 4
    everything = b"".join(path.read_bytes() for path in server.cast.homes["anna"].rglob("*") if path.is_file())
    for secret in secrets:
        assert secret not in everything
        assert secret.hex().encode() not in everything
    assert (server.cast.homes["anna"] / FILE).stat().st_mode & 0o077 == 0


def test_what_was_kept_is_gone_from_the_file_when_the_round_is_over(server: Server) -> None:
    server.run("keys")
    path = server.cast.homes["anna"] / FILE
    (sealed,) = sqlite3.connect(path).execute("SELECT sealed FROM rounds").fetchone()
    assert sealed[:64] in path.read_bytes()
    server.run("deal", "mask", "sign", "open")
    assert sqlite3.connect(path).execute("SELECT ctx, phase, sealed FROM rounds").fetchall() == [(server.ctx, 4, None)]
    assert sealed[:64] not in path.read_bytes()
    assert sealed[-64:] not in path.read_bytes()


def test_an_unfinished_round_is_wiped_after_a_day_and_leaves_its_name(server: Server) -> None:
    server.run("keys", "deal")
    late = NOW + KEEP_SECONDS + 1
    refused(server.ask("anna", server.request("mask", "anna"), now=late), "AlreadyAnswered", "given up")
    rows = sqlite3.connect(server.cast.homes["anna"] / FILE).execute("SELECT sealed FROM rounds").fetchall()
    assert rows == [(None,)]
    refused(server.ask("anna", server.keys_request()), "AlreadyAnswered")


def test_a_server_that_begins_many_rounds_fills_no_disk_with_secrets(server: Server) -> None:
    for attempt in range(MAX_OPEN + 3):
        assert isinstance(server.ask("anna", server.keys_request(attempt=attempt)), KeysReply)
    path = server.cast.homes["anna"] / FILE
    count = sqlite3.connect(path).execute("SELECT COUNT(*), COUNT(sealed) FROM rounds").fetchone()
    assert count == (MAX_OPEN + 3, MAX_OPEN)


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM rounds",
        "UPDATE rounds SET phase = 0",
        "UPDATE rounds SET phase = 1",
        "UPDATE rounds SET ctx = x'00', phase = 4",
        "INSERT OR REPLACE INTO rounds SELECT ctx, 0, sealed, stored_at FROM rounds",
    ],
)
def test_the_file_itself_refuses_to_go_back(server: Server, statement: str) -> None:
    server.run("keys", "deal")
    with pytest.raises(sqlite3.IntegrityError, match="round"):
        sqlite3.connect(server.cast.homes["anna"] / FILE, isolation_level=None).execute(statement)


def test_another_key_opens_nothing_of_it(server: Server) -> None:
    server.run("keys")
    foreign = PairwiseVault(server.cast.homes["anna"] / FILE, server.cast.home("bert").vault.signing_key)
    with pytest.raises(MalformedFile, match="does not decrypt"):
        foreign.load(server.ctx, now=NOW)


# --- killed between any two steps ---

KILLED = """
import os, signal, sys
from pathlib import Path
import client.pairwise_vault as vaults
from client.answer import answer
from client.home import ClientHome
from client.ledger import Ledger

where, home, request = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]).read_bytes()

def kill(*arguments, **fields):
    os.kill(os.getpid(), signal.SIGKILL)

def before(owner, name):
    setattr(owner, name, kill)

def after(owner, name):
    original = getattr(owner, name)
    def both(*arguments, **fields):
        original(*arguments, **fields)
        kill()
    setattr(owner, name, both)

Vault = vaults.PairwiseVault
places = {
    "before the state is kept": lambda: (before(Vault, "advance"), before(Vault, "begin")),
    "after the state is kept": lambda: (after(Vault, "advance"), after(Vault, "begin")),
    "after the ledger": lambda: (after(Ledger, "charge"), after(Ledger, "answer_once")),
}
places[where]()
answer(ClientHome.open(home), request, now=1_800_000_000, random_bytes=os.urandom)
"""


@pytest.mark.parametrize(
    ("where", "phase"),
    [
        *(("before the state is kept", phase) for phase in ALL),
        *(("after the state is kept", phase) for phase in ALL),
        ("after the ledger", "deal"),
        ("after the ledger", "mask"),
        ("after the ledger", "sign"),
    ],
)
def test_a_client_killed_in_the_middle_goes_on_or_refuses_and_says_nothing_else(
    server: Server, tmp_path: Path, where: str, phase: str
) -> None:
    stage = ALL.index(phase)
    server.run(*ALL[:stage])
    (tmp_path / "request").write_bytes(encode(server.request(phase, "anna")))
    command = [sys.executable, "-c", KILLED, where, str(server.cast.homes["anna"]), str(tmp_path / "request")]
    ended = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, check=False)
    assert ended.returncode == -9, ended.stderr
    again = server.ask("anna", server.request(phase, "anna"))
    said_before_it_was_kept = where == "before the state is kept" and phase not in ("deal", "mask", "sign")
    # Nothing left the process, so repeating an unkept step is safe; what was kept, charged or noted is not repeated.
    assert isinstance(again, Refusal) is not said_before_it_was_kept
    if phase == "sign":
        refused(server.ask("anna", SignRequest(ctx=server.ctx, active=FIVE[:4])), again.error)
    assert server.charged() == (1 if stage >= ALL.index("mask") else 0)
    # The others go on without it, or with it where it could be repeated.
    rest = FIVE if said_before_it_was_kept else FIVE[1:]
    if said_before_it_was_kept:
        server.said.setdefault(phase, {})["anna"] = again
    if phase == "keys" and not said_before_it_was_kept:
        server.run("keys", names=FIVE[1:])
    elif phase in ALL:
        server.run(phase, names=OTHERS)
    server.run(*ALL[stage + 1 :], names=rest)
    opened = server.open()
    in_the_sum = said_before_it_was_kept or phase in ("sign", "open")
    assert opened.active == (FIVE if in_the_sum else FIVE[1:])


def test_two_processes_that_answer_at_once_say_one_thing(server: Server) -> None:
    """The second finds the state moved on, whatever it has computed meanwhile."""
    server.run("keys", "deal", "mask")
    home = ClientHome.open(server.cast.homes["anna"])
    vault = PairwiseVault.open(home.folder, home.vault.signing_key)
    state, _ = vault.load(server.ctx, now=NOW)
    first, _ = sign_active(state, FIVE, signing_key=home.vault.signing_key)
    second, _ = sign_active(state, FIVE[:4], signing_key=home.vault.signing_key)
    vault.advance(first, now=NOW, random_bytes=os.urandom)
    with pytest.raises(IllegalTransition):
        vault.advance(second, now=NOW, random_bytes=os.urandom)


def test_the_preview_shows_every_message_with_the_size_that_it_has(server: Server) -> None:
    server.run(*ALL)
    seen = preview(server.cast.home("anna"), server.plan)
    assert seen.accepted
    first = [message for message in seen.messages if message.step == 0]
    assert [message.type for message in first] == [
        "keys", "dealt shares", "masked vector", "signature", "shares of others",
    ]  # fmt: skip
    for message, phase in zip(first, ALL, strict=True):
        # The names of the others are blanks of 12 characters there, and have 4 here.
        shorter = 4 * 8 if phase in ("deal", "open") else 0
        assert 0 <= message.size_bytes - len(encode(server.said[phase]["anna"])) - shorter <= 8
        assert all(sent.meaning for sent in message.fields)


def test_a_policy_of_pairs_alone_previews_a_round_that_bears_its_shares(server: Server) -> None:
    seen = default_plan(server.cast.home("anna"))
    assert (seen.topology, seen.noise, seen.num_parties, seen.min_tenants) == ("pairwise", "shared", 5, 4)
    assert preview(server.cast.home("anna"), seen).accepted
