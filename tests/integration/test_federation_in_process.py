"""Whole jobs in this process: the unmodified ServerApp and ClientApps, three tenants, two of them helpers."""

import shutil

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, Error, Message, RecordDict

import server.training
from client.tenant import tenant_values
from server import learning
from server.checkpoint import load_checkpoint
from server.releases import ReleaseLedger
from shared.errors import BadSetting, DeploymentError, MalformedFile, TooFewClients
from shared.interactions import concatenate
from shared.plan import steps
from shared.recipes.cooccurrence import head_items, pair_vectors, popularity_vectors
from shared.recipes.recon import apply_gradient, clipped_gradient_sum, initial_state, solve_users, training_history
from shared.secagg.complaint import complain
from shared.wire import ContributionRequest, Refusal, SealComplaint, UnmaskRequest, decode, encode
from tests.federation_cast import COOCCURRENCE, HELPERS, NAMES, NODES, RECON, Cast, history_of, make_cast

POOLED = concatenate([history_of(name) for name in NAMES])


def frame_of(message: Message) -> bytes:
    return message.content.array_records["frame"]["frame"].numpy().tobytes()


def reply_with(message: Message, frame: bytes) -> Message:
    record = ArrayRecord({"frame": Array(np.frombuffer(frame, np.uint8))})
    return Message(RecordDict({"frame": record}), reply_to=message)


class Meddler:
    """Lets `fault(node, message, handler)` replace the first `times` exchanges that `when(node, request)` picks."""

    def __init__(self, when, fault, times=1):
        self.when, self.fault, self.left = when, fault, times

    def __call__(self, node, message, handler):
        if self.left and self.when(node, decode(frame_of(message))):
            self.left -= 1
            return self.fault(node, message, handler)
        return handler(message)


def contributing(name):
    return lambda node, request: node == NODES[name] and isinstance(request, ContributionRequest)


def helping(name):
    return lambda node, request: node == NODES[name] and isinstance(request, UnmaskRequest)


def dies(node, message, handler):
    return Message(Error(8, "the node's process ended"), reply_to=message)


def is_silent(node, message, handler):
    return None


def says(frame):
    return lambda node, message, handler: reply_with(message, frame)


def tensors(cast: Cast):
    return {name: tensor.tobytes() for name, tensor in cast.published().tensors.items()}


def charges(cast: Cast, name: str):
    entries = cast.home(name).ledger.entries()
    return [(entry.step, entry.attempt) for entry in entries if entry.kind == "release" and entry.job_id == "job-1"]


def released(cast: Cast):
    records = ReleaseLedger.open(cast.state).records("release", cast.plan.digest)
    return [(record["step"], record["attempt"], sorted(record["cohort"])) for record in records]


# --- the sums are right ---


def test_opened_sums_equal_the_plain_fixed_point_sums_exactly(tmp_path, monkeypatch):
    plain = {}
    original = tenant_values

    def noting(plan, step, inputs, history, *, secret_seed):
        values = original(plan, step, inputs, history, secret_seed=secret_seed)
        plain[step.index] = plain.get(step.index, 0) + values
        return values

    monkeypatch.setattr("client.answer.tenant_values", noting)
    cast = make_cast(tmp_path)
    cast.run()
    learned = load_checkpoint(cast.state, cast.plan.digest)
    for step, release in enumerate(learned.releases):
        np.testing.assert_array_equal(release.total, plain[step])


def test_cooccurrence_equals_the_pooled_computation(tmp_path):
    cast = make_cast(tmp_path)
    cast.run()
    learned = load_checkpoint(cast.state, cast.plan.digest)
    popularity = popularity_vectors(POOLED).total()
    head = head_items(learning.real_sum(cast.plan, learned, 0), COOCCURRENCE.num_head_items)
    pairs = pair_vectors(POOLED, head, gamma=0.5, max_head_items_per_user=6).total()
    np.testing.assert_allclose(learning.real_sum(cast.plan, learned, 0), popularity, atol=1e-6)
    np.testing.assert_allclose(learning.real_sum(cast.plan, learned, 1), pairs, atol=1e-6)
    model = cast.published()
    np.testing.assert_array_equal(model.tensors["head"], head)
    assert model.plan_digest == cast.plan.digest
    assert learned.releases[1].num_users == 60


def test_recon_through_opacus_equals_the_pooled_closed_form(tmp_path):
    cast = make_cast(tmp_path, recipe=RECON)
    cast.run()
    state = initial_state(popularity_vectors(POOLED).total(), RECON)
    for _ in range(RECON.num_rounds):
        history = training_history(state.item_factors, POOLED, max_items_per_user=RECON.max_items_per_user)
        users = solve_users(state.item_factors, history, ridge=RECON.ridge, negative_weight=RECON.negative_weight)
        gradient = clipped_gradient_sum(
            state.item_factors, users, history, negative_weight=RECON.negative_weight, max_grad_norm=RECON.max_grad_norm
        )
        state = apply_gradient(state, gradient, noise_std=0.0, plan=RECON)
    model = cast.published()
    np.testing.assert_allclose(model.tensors["item_factors"], state.item_factors[model.tensors["head"]], atol=1e-6)


@pytest.mark.parametrize("noise", ["helpers", "tenant"])
def test_noise_of_the_stated_size_is_in_the_released_sum(tmp_path, noise):
    cast = make_cast(tmp_path, noise=noise)
    cast.run()
    learned = load_checkpoint(cast.state, cast.plan.digest)
    popularity = popularity_vectors(POOLED).total()
    deviations = (learning.real_sum(cast.plan, learned, 0) - popularity) / learning.noise_std(cast.plan, learned, 0)
    # 14 coordinates: the mean square of as many standard normals lies in here but for once in 10^6 times.
    assert 0.1 < np.mean(deviations**2) < 4.2
    statement = cast.published().privacy
    assert statement.epsilon <= cast.plan.epsilon
    assert len(statement.mechanisms) == 2


# --- parties that fail ---


@pytest.mark.parametrize(
    "fault",
    [dies, is_silent, says(b"nonsense"), says(b""), says(encode(Refusal(party="carl", error="X", message="no")))],
    ids=["dies", "silent", "nonsense", "empty", "refuses"],
)
def test_a_node_that_fails_leaves_and_the_round_goes_on(tmp_path, fault):
    cast = make_cast(tmp_path, collect_seconds=0.3 if fault is is_silent else 20.0)
    cast.run(meddle=Meddler(contributing("carl"), fault))
    assert released(cast) == [(0, 0, ["anna", "bert"]), (1, 0, ["anna", "bert", "carl"])]
    assert cast.published().version == 1


def test_a_contribution_for_another_round_leaves_the_round(tmp_path):
    cast, first = make_cast(tmp_path), {}

    def replays(node, message, handler):
        return reply_with(message, first["frame"])

    def meddle(node, message, handler):
        request = decode(frame_of(message))
        if node == NODES["carl"] and isinstance(request, ContributionRequest):
            if "frame" in first:
                return replays(node, message, handler)
            reply = handler(message)
            first["frame"] = frame_of(reply)
            return reply
        return handler(message)

    cast.run(meddle=meddle)
    assert released(cast) == [(0, 0, ["anna", "bert", "carl"]), (1, 0, ["anna", "bert"])]
    left = [event for event in cast.events() if event["event"] == "party_left"]
    assert left[0]["reason"].startswith("WrongContext")


def test_a_copied_home_contributes_once(tmp_path):
    cast = make_cast(tmp_path)
    shutil.copytree(cast.homes["anna"], tmp_path / "copy")
    cast.homes["carl"] = tmp_path / "copy"
    cast.run()
    assert released(cast)[0] == (0, 0, ["anna", "bert"])
    assert any("first contribution stands" in event.get("reason", "") for event in cast.events())


@pytest.mark.parametrize("fault", [dies, says(b"nonsense"), is_silent], ids=["dies", "nonsense", "silent"])
def test_a_failing_helper_abandons_the_attempt_and_the_next_one_succeeds(tmp_path, fault):
    cast = make_cast(tmp_path, collect_seconds=0.5 if fault is is_silent else 20.0)
    cast.run(meddle=Meddler(helping("bert"), fault))
    assert [record[:2] for record in released(cast)] == [(0, 1), (1, 0)]
    # The clients spoke in both attempts and were charged for both.
    assert charges(cast, "carl") == [(0, 0), (0, 1), (1, 0)]


def test_a_helper_that_answers_for_another_cohort_is_not_believed(tmp_path):
    cast = make_cast(tmp_path)

    def drops_one(node, message, handler):
        request = decode(frame_of(message))
        frame = encode(UnmaskRequest(**{**vars(request), "headers": request.headers[:2]}))
        message.content = RecordDict({"frame": ArrayRecord({"frame": Array(np.frombuffer(frame, np.uint8))})})
        return handler(message)

    cast.run(meddle=Meddler(helping("bert"), drops_one))
    abandoned = [event for event in cast.events() if event["event"] == "attempt_abandoned"]
    assert "WrongContext" in abandoned[0]["reason"]
    assert [record[:2] for record in released(cast)] == [(0, 1), (1, 0)]


def test_a_job_that_cannot_reach_its_cohort_gives_up_without_asking_a_helper(tmp_path):
    cast = make_cast(tmp_path, max_attempts=2, min_tenants=3)
    with pytest.raises(DeploymentError, match="2 tenants contributed, at least 3 are needed"):
        cast.run(meddle=Meddler(contributing("carl"), dies, times=99))
    assert not [event for event in cast.events() if event["event"] == "helpers_asked"]
    assert charges(cast, "anna") == [(0, 0), (0, 1)]
    assert released(cast) == []
    assert not any(entry.kind == "answer" for name in HELPERS for entry in cast.home(name).ledger.entries())


def test_too_few_nodes_ask_nobody(tmp_path):
    cast = make_cast(tmp_path, min_tenants=3)
    with pytest.raises(TooFewClients, match="2 nodes are connected"):
        cast.run(names=HELPERS)
    assert charges(cast, "anna") == []


def test_a_tenant_without_budget_refuses_and_the_others_go_on(tmp_path):
    cast = make_cast(tmp_path, noise="helpers", budgets={"carl": 1.0})
    # Three popularities for earlier jobs: a fourth still fits, the pairs do not.
    home, popularity = cast.home("carl"), steps(cast.plan)[0].mechanism
    for attempt in range(3):
        home.ledger.charge(
            job_id="earlier", step=0, attempt=attempt, context=bytes([attempt]) * 32, mechanism=popularity,
            budget=home.policy.budget, job_budget=home.policy.job_budget,
        )  # fmt: skip
    cast.run()
    assert released(cast) == [(0, 0, ["anna", "bert", "carl"]), (1, 0, ["anna", "bert"])]
    assert charges(cast, "carl") == [(0, 0)]
    assert any(event.get("reason", "").startswith("ProtocolError: refused: BudgetExhausted") for event in cast.events())


# --- a seal that only its helper can see is bad ---


def with_broken_seal(cast: Cast, name: str, *helpers: str):
    """`name` seals nonsense to `helpers` and signs it, in every attempt."""
    from shared.secagg import topology_h

    honest = topology_h.seal
    bad = {bytes.fromhex(cast.home(helper).vault.sealing_public) for helper in helpers}

    def seal(public_key, secret, *, associated, random_bytes):
        return honest(
            public_key, secret, associated=b"-" if public_key in bad else associated, random_bytes=random_bytes
        )

    def meddle(node, message, handler):
        if not contributing(name)(node, decode(frame_of(message))):
            return handler(message)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(topology_h, "seal", seal)
            return handler(message)

    return meddle


def test_a_client_with_a_bad_seal_spoils_one_attempt_and_is_left_out_of_the_rest_of_the_job(tmp_path):
    cast = make_cast(tmp_path)
    cast.run(meddle=with_broken_seal(cast, "carl", "bert"))
    assert released(cast) == [(0, 1, ["anna", "bert"]), (1, 0, ["anna", "bert"])]
    # It is not asked again, so it does not pay for what would not be taken.
    assert charges(cast, "carl") == [(0, 0)]
    abandoned = [event for event in cast.events() if event["event"] == "attempt_abandoned"]
    assert [event["reason"] for event in abandoned] == ["helper bert says that the seal of carl does not open"]
    complaint = [event for event in cast.events() if event["event"] == "seal_complaint"]
    assert [(event["party"], event["about"]) for event in complaint] == [("bert", "carl")]


def test_a_helper_with_a_bad_seal_is_left_out_as_a_tenant_and_goes_on_as_a_helper(tmp_path):
    cast = make_cast(tmp_path)
    cast.run(meddle=with_broken_seal(cast, "bert", "anna"))
    assert released(cast) == [(0, 1, ["anna", "carl"]), (1, 0, ["anna", "carl"])]
    assert charges(cast, "bert") == [(0, 0)]


def test_a_bad_seal_that_leaves_too_few_ends_the_job_before_anybody_pays_again(tmp_path):
    cast = make_cast(tmp_path, min_tenants=3)
    with pytest.raises(DeploymentError, match=r"bert says that the seal of carl .* without carl 2 tenants contributed"):
        cast.run(meddle=with_broken_seal(cast, "carl", "bert"))
    assert charges(cast, "anna") == [(0, 0)]
    assert released(cast) == []


def complaint_frame(cast: Cast, client: str, **changes):
    """A complaint of bert's about the turn at hand, made with bert's own key."""

    def fault(node, message, handler):
        request = decode(frame_of(message))
        honest = decode(frame_of(handler(message))).answer
        key = cast.home(changes.get("signer", "bert")).vault.signing_key
        ctx = changes.get("ctx", honest.ctx)
        assert request.headers
        return reply_with(
            message, encode(SealComplaint(complaint=complain(ctx=ctx, helper="bert", client=client, signing_key=key)))
        )

    return fault


def test_a_lying_helper_can_shut_out_one_client_an_attempt_and_never_break_the_minimum(tmp_path):
    cast = make_cast(tmp_path)
    lies = iter(["carl", "anna", "bert"])

    def lies_on(node, message, handler):
        return complaint_frame(cast, next(lies))(node, message, handler)

    with pytest.raises(DeploymentError, match=r"seal of carl .* seal of anna .* without anna 1 tenants contributed"):
        cast.run(meddle=Meddler(helping("bert"), lies_on, times=9))
    assert charges(cast, "anna") == [(0, 0), (0, 1)]
    assert released(cast) == []


@pytest.mark.parametrize(
    ("client", "changes", "reason"),
    [
        ("nobody", {}, "not in the cohort"),
        ("carl", {"signer": "carl"}, "BadSignature"),
        ("carl", {"ctx": bytes(32)}, "another round"),
    ],
)
def test_a_complaint_that_is_not_the_helpers_about_this_cohort_shuts_nobody_out(tmp_path, client, changes, reason):
    cast = make_cast(tmp_path)
    cast.run(meddle=Meddler(helping("bert"), complaint_frame(cast, client, **changes)))
    assert released(cast) == [(0, 1, ["anna", "bert", "carl"]), (1, 0, ["anna", "bert", "carl"])]
    abandoned = [event for event in cast.events() if event["event"] == "attempt_abandoned"]
    assert reason in abandoned[0]["reason"]


def test_a_tenant_that_declares_more_than_the_operator_allows_leaves_before_it_crowds_others_out(tmp_path):
    cast = make_cast(tmp_path, declared={"anna": 970}, max_declared_users='{ bert = 20, "*" = 100 }')
    cast.run()
    # The sum holds 1,000: with anna's 970 the two others, asked after it, could not both be counted.
    assert released(cast) == [(0, 0, ["bert", "carl"]), (1, 0, ["bert", "carl"])]
    left = [event for event in cast.events() if event["event"] == "party_left"]
    assert left[0]["party"] == "anna"
    assert left[0]["reason"] == "CapacityExceeded: anna declares 970 users, this server allows it 100"


def test_a_limit_on_a_name_that_is_not_on_the_roster_stops_the_job_before_anybody_is_asked(tmp_path):
    cast = make_cast(tmp_path, max_declared_users="{ carlo = 20 }")
    with pytest.raises(BadSetting, match=r"names carlo; the roster's tenants are anna, bert, carl"):
        cast.run()
    assert charges(cast, "anna") == []


# --- a server that crashes ---


class Crash(Exception):
    pass


@pytest.mark.parametrize("crash_at", [0, 1])
@pytest.mark.parametrize("phase", [ContributionRequest, UnmaskRequest])
def test_a_crashed_server_resumes_to_the_same_model_bit_for_bit(tmp_path, crash_at, phase):
    whole = make_cast(tmp_path / "whole")
    whole.run()
    cast = _twin(whole, tmp_path / "crashed")

    def meddle(node, message, handler):
        request = decode(frame_of(message))
        if isinstance(request, phase) and request.step == crash_at:
            raise Crash
        return handler(message)

    with pytest.raises(Crash):
        cast.run(meddle=meddle)
    cast.run()
    assert tensors(cast) == tensors(whole)
    assert [record[0] for record in released(cast)] == [0, 1]
    # Whatever was released before the crash was not asked for again.
    assert sum(step < crash_at for step, _ in charges(cast, "carl")) == crash_at


def test_recon_resumes_from_its_checkpoint_bit_for_bit(tmp_path):
    whole = make_cast(tmp_path / "whole", recipe=RECON)
    whole.run()
    cast = _twin(whole, tmp_path / "crashed")

    def meddle(node, message, handler):
        if decode(frame_of(message)).step == 2:
            raise Crash
        return handler(message)

    with pytest.raises(Crash):
        cast.run(meddle=meddle)
    cast.run()
    assert tensors(cast) == tensors(whole)
    assert charges(cast, "carl") == [(0, 0), (1, 0), (2, 1)]


@pytest.mark.parametrize("crash_at", [0, 1])
def test_a_crash_between_opening_and_checkpoint_asks_again_under_a_new_attempt(tmp_path, crash_at, monkeypatch):
    whole = make_cast(tmp_path / "whole")
    whole.run()
    cast = _twin(whole, tmp_path / "crashed")
    save = server.training.save_checkpoint

    def crashes(folder, digest, learned):
        if len(learned.releases) == crash_at + 1:
            raise Crash
        save(folder, digest, learned)

    with monkeypatch.context() as patch:
        patch.setattr("server.training.save_checkpoint", crashes)
        with pytest.raises(Crash):
            cast.run()
    cast.run()
    assert tensors(cast) == tensors(whole)
    assert (crash_at, 1) in charges(cast, "carl")
    assert cast.published().version == 1


def test_a_finished_job_run_again_asks_nobody_and_publishes_nothing_new(tmp_path):
    cast = make_cast(tmp_path, noise="helpers")
    cast.run()
    before, spent = tensors(cast), charges(cast, "anna")
    cast.run()
    assert tensors(cast) == before
    assert charges(cast, "anna") == spent
    assert cast.published().version == 1


def test_releases_with_noise_are_reused_not_asked_for_again(tmp_path):
    cast = make_cast(tmp_path, noise="helpers")

    def meddle(node, message, handler):
        request = decode(frame_of(message))
        if request.step == 1:
            raise Crash
        return handler(message)

    with pytest.raises(Crash):
        cast.run(meddle=meddle)
    first = load_checkpoint(cast.state, cast.plan.digest).releases[0].total
    cast.run()
    np.testing.assert_array_equal(load_checkpoint(cast.state, cast.plan.digest).releases[0].total, first)
    assert [step for step, _ in charges(cast, "anna")] == [0, 1]


def test_a_damaged_checkpoint_stops_the_job_before_anybody_is_asked(tmp_path):
    cast = make_cast(tmp_path)
    cast.run()
    spent = charges(cast, "anna")
    stored = next(cast.state.glob("step-0000-*.safetensors"))
    data = bytearray(stored.read_bytes())
    data[-1] ^= 1
    stored.write_bytes(data)
    with pytest.raises(MalformedFile, match=r"checkpoint is damaged.*has changed.*restore the folder"):
        cast.run()
    assert charges(cast, "anna") == spent


def _twin(cast: Cast, folder) -> Cast:
    """The same homes (keys, so rounding too) and job, in other folders, before anything was charged."""
    from client.ledger import Ledger

    shutil.copytree(cast.folder, folder)
    shutil.rmtree(folder / "server" / "state")
    shutil.rmtree(folder / "server" / "registry")
    homes = {name: folder / "homes" / name for name in NAMES}
    for home in homes.values():
        (home / "ledger.db").unlink()
        (home / "ledger.marks").unlink()
        Ledger.create(home / "ledger.db")
    return Cast(folder=folder, homes=homes, plan=cast.plan, publisher_public_key=cast.publisher_public_key)


def test_a_node_that_claims_to_be_the_helper_cannot_take_its_place(tmp_path):
    """bert helps without contributing, so only its unsigned refusal says where it is; another node says so first."""
    cast = make_cast(tmp_path)
    impostor, bert = 101, 104

    def meddle(node, message, handler):
        contributes = isinstance(decode(frame_of(message)), ContributionRequest)
        if node == impostor or (node == bert and contributes):
            return reply_with(message, encode(Refusal(party="bert", error="ZhiyinError", message="no")))
        return handler(message)

    cast.run(("carl", "carl", "anna", "bert"), meddle=meddle)
    assert [turn for turn in released(cast)] == [(0, 0, ["anna", "carl"]), (1, 0, ["anna", "carl"])]
