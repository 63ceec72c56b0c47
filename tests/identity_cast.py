"""Three parties and an issuer who meet through the real commands, and a server in a few lines that carries frames."""

import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from numpy.typing import NDArray
from typer.testing import CliRunner

from client.answer import answer
from client.cli import client_app
from client.home import POLICY_FILE, ClientHome
from client.issuing.cli import issuer_app
from client.policy import PinnedHelper
from client.policy_file import render_policy
from shared.errors import ZhiyinError
from shared.plan import CooccurrencePlan, TrainingPlan, make_plan, plan_to_json, steps
from shared.roster import Roster, verified_roster
from shared.secagg.context import context
from shared.secagg.topology_h import Contribution, HelperAnswer, contribute, open_sum
from shared.wire import (
    ContributionReply,
    ContributionRequest,
    Message,
    Refusal,
    UnmaskReply,
    UnmaskRequest,
    decode,
    encode,
    inputs_digest,
)
from tests.federation_cast import CATALOGUE, COOCCURRENCE, NUM_ITEMS

HELPERS = ("anna", "bert")
ROLES: Mapping[str, tuple[str, ...]] = {
    "anna": ("tenant", "helper"),
    "bert": ("tenant", "helper"),
    "carl": ("tenant",),
}
RUNNER = CliRunner()


def command(app: Any, *arguments: object) -> Any:
    """What a command prints as JSON; raises the product's own error, and checks that it is one line."""
    result = RUNNER.invoke(app, [*map(str, arguments), "--json"], catch_exceptions=True)
    if isinstance(result.exception, ZhiyinError):
        assert "\n" not in str(result.exception)
        raise result.exception
    assert result.exit_code == 0, (result.output, result.exception)
    return json.loads(result.stdout)


def ask(home: Path, request: ContributionRequest | UnmaskRequest) -> Message:
    return decode(answer(ClientHome.open(home), encode(request), now=int(time.time()), random_bytes=os.urandom))


def plan_of(recipe: CooccurrencePlan = COOCCURRENCE) -> TrainingPlan:
    return make_plan(
        job_id="job-1", recipe=recipe, catalogue_digest=CATALOGUE.digest, num_items=NUM_ITEMS, noise="helpers",
        epsilon=1.0, delta=1e-6, popularity_share=0.1, min_tenants=2, min_users=40, max_users=1_000, bits=64,
        helpers=HELPERS,
    )  # fmt: skip


@dataclass(kw_only=True)
class Federation:
    """homes: by party. signed: the newest list that the issuer published."""

    folder: Path
    homes: dict[str, Path]
    issuer_public: str
    plan: TrainingPlan = field(default_factory=plan_of)
    signed: bytes = b""
    attempt: int = 0

    @property
    def issuer(self) -> Path:
        return self.folder / "issuer"

    def home(self, name: str) -> ClientHome:
        return ClientHome.open(self.homes[name])

    def set_policy(self, name: str, **changes: Any) -> None:
        home = self.home(name)
        (home.folder / POLICY_FILE).write_text(render_policy(replace(home.policy, **changes)), encoding="utf-8")

    def repin(self, *names: str) -> None:
        """What everybody does after having compared the helpers' signing keys in person."""
        pins = {each: PinnedHelper(signing=self.home(each).vault.signing_public) for each in HELPERS}
        for name in names or self.homes:
            self.set_policy(name, helpers=pins)

    def request(self, name: str, *arguments: object) -> Path:
        """`keys request`, or another command of `keys` that writes one."""
        out = self.folder / f"{name}.json"
        roles = [text for role in ROLES[name] for text in ("--role", role)]
        command(client_app, "keys", *(arguments or ("request",)), "--home", self.homes[name], "--out", out, *roles)
        return out

    def enrol(self, request: Path) -> None:
        command(issuer_app, "enrol", request, "--issuer", self.issuer, "--yes")

    def revoke(self, name: str) -> None:
        command(issuer_app, "revoke", name, "--issuer", self.issuer)

    def publish(self) -> bytes:
        out = self.folder / "roster.bin"
        command(issuer_app, "publish", "--issuer", self.issuer, "--out", out)
        self.signed = out.read_bytes()
        return self.signed

    def roster(self, signed: bytes | None = None) -> Roster:
        return verified_roster(signed or self.signed, self.issuer_public)

    def ctx(self, signed: bytes | None = None) -> bytes:
        step = steps(self.plan)[0]
        return context(
            plan_digest=self.plan.digest, job_id=self.plan.job_id, step=0, attempt=self.attempt,
            num_coordinates=step.num_coordinates, bits=self.plan.bits, inputs_digest=inputs_digest({}),
            roster_digest=self.roster(signed).digest,
        )  # fmt: skip

    def contribution_of(self, home: Path, signed: bytes | None = None) -> Message:
        request = ContributionRequest(
            plan_json=plan_to_json(self.plan), step=0, attempt=self.attempt, roster=signed or self.signed, inputs={}
        )
        return ask(home, request)

    def answer_of(self, home: Path, contributions: list[Contribution], signed: bytes | None = None) -> Message:
        request = UnmaskRequest(
            plan_json=plan_to_json(self.plan), step=0, attempt=self.attempt, roster=signed or self.signed,
            inputs_digest=inputs_digest({}), slots=(ClientHome.open(home).name,),
            headers=tuple(each.header() for each in contributions),
        )  # fmt: skip
        return ask(home, request)

    def forged(self, name: str, signing_key: Ed25519PrivateKey) -> Contribution:
        """A contribution in the name of a party, under the newest list, by whoever holds `signing_key`."""
        sealing = {each: bytes.fromhex(self.roster().member(each, int(time.time())).sealing_key) for each in HELPERS}
        return contribute(
            ctx=self.ctx(), client=name, declared_users=20, values=np.zeros(NUM_ITEMS, dtype=np.int64), bits=64,
            sharing=self.plan.sharing, helper_keys=sealing, signing_key=signing_key, random_bytes=os.urandom,
        )  # fmt: skip

    def turn(self, signed: bytes | None = None, **homes: Path) -> NDArray[np.int64] | dict[str, Refusal]:
        """One attempt at the first step with everybody (or with other homes in their place), as an honest server
        goes about it: the opened sum, or who refused."""
        self.attempt += 1
        places = {**self.homes, **homes}
        replies = {name: self.contribution_of(home, signed) for name, home in places.items()}
        refused = {name: reply for name, reply in replies.items() if isinstance(reply, Refusal)}
        if refused:
            return refused
        sent = [reply.contribution for reply in replies.values() if isinstance(reply, ContributionReply)]
        answers = {name: self.answer_of(places[name], sent, signed) for name in HELPERS}
        refused = {name: reply for name, reply in answers.items() if isinstance(reply, Refusal)}
        if refused:
            return refused
        given = [reply.answer for reply in answers.values() if isinstance(reply, UnmaskReply)]
        return self.opened(sent, given, signed)

    def opened(
        self, sent: list[Contribution], given: list[HelperAnswer], signed: bytes | None = None
    ) -> NDArray[np.int64]:
        return open_sum(
            ctx=self.ctx(signed), sharing=self.plan.sharing, contributions=sent, answers=given,
            roster=self.roster(signed), now=int(time.time()), bits=64, num_coordinates=NUM_ITEMS,
        )  # fmt: skip


def works(outcome: NDArray[np.int64] | dict[str, Refusal]) -> bool:
    return not isinstance(outcome, dict)


def errors_of(outcome: NDArray[np.int64] | dict[str, Refusal]) -> dict[str, str]:
    return {name: refusal.error for name, refusal in outcome.items()} if isinstance(outcome, dict) else {}


def make_federation(folder: Path) -> Federation:
    """Everybody made, enrolled, published once and pinned, with the commands that people would use."""
    (folder / "catalogue.bin").write_bytes(CATALOGUE.to_bytes())
    made = command(issuer_app, "init", "--issuer", folder / "issuer")
    federation = Federation(
        folder=folder, homes={name: folder / "homes" / name for name in ROLES}, issuer_public=made["public_key"]
    )
    for name, home in federation.homes.items():
        command(
            client_app, "init", "--name", name, "--catalogue", folder / "catalogue.bin", "--declared-users", 20,
            "--epsilon", 50, "--home", home,
        )  # fmt: skip
        federation.set_policy(
            name, issuer_public_key=made["public_key"], min_users=40, delta=1e-5, max_epsilon_per_job=50.0
        )
        out = federation.folder / f"{name}.json"
        roles = [text for role in ROLES[name] for text in ("--role", role)]
        asked = command(client_app, "keys", "request", "--home", home, "--out", out, *roles)
        command(issuer_app, "enrol", out, "--issuer", federation.issuer, "--fingerprint", asked["fingerprint"])
    federation.repin()
    federation.publish()
    return federation
