"""Every message and document against good and bad examples that a client written from docs/protocol.md made."""

import json
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from shared import errors
from shared.artifact import ArtifactFiles, open_artifact
from shared.canonical import canonical_json, strict_json
from shared.catalogue import catalogue_from_bytes
from shared.enrolment import open_request
from shared.errors import BadSetting, MalformedMessage
from shared.plan import plan_from_json, plan_to_json, steps
from shared.roster import Roster, open_roster
from shared.sealing_certificate import SealingCertificate
from shared.secagg.complaint import verify_complaint
from shared.secagg.context import context
from shared.secagg.pairwise_messages import Agreement, agree, verify, verify_bundle
from shared.secagg.pairwise_opening import check_dealing
from shared.secagg.share_complaint import verify_share_complaint
from shared.secagg.topology_h import cohort_digest, verify_answer, verify_contribution
from shared.wire import decode, encode, inputs_digest
from tests.golden import formats_reference
from tests.golden.formats_reference import spliced

VECTORS = json.loads((Path(__file__).parent / "formats_vectors.json").read_text(encoding="utf-8"))
NOW = VECTORS["now"]
DOCUMENTS = VECTORS["documents"]
FRAMES = {each["kind"]: bytes.fromhex(each["frame"]) for each in VECTORS["messages"]}


def test_the_file_is_what_the_reference_writes() -> None:
    assert json.loads(json.dumps(formats_reference.vectors())) == VECTORS


@pytest.mark.parametrize("case", VECTORS["messages"], ids=lambda case: case["name"])
def test_a_good_message_is_decoded_and_encoded_to_the_same_bytes(case: dict[str, Any]) -> None:
    message = decode(bytes.fromhex(case["frame"]))
    assert type(message).__name__ == case["name"]
    assert encode(message).hex() == case["frame"]


@pytest.mark.parametrize("case", VECTORS["messages"], ids=lambda case: case["name"])
def test_bad_messages_are_refused_by_the_error_that_is_named(case: dict[str, Any]) -> None:
    good = bytes.fromhex(case["frame"])
    for bad in case["bad"]:
        assert met(spliced(good, bad)) == bad["error"], bad["why"]


def met(data: bytes) -> str:
    """The error that a receiver of the frame comes to."""
    try:
        message = decode(data)
    except MalformedMessage:
        return "MalformedMessage"
    try:
        verified(message)
    except errors.ProtocolError as error:
        return type(error).__name__
    return "accepted"


@pytest.mark.parametrize("case", VECTORS["messages"], ids=lambda case: case["name"])
def test_the_signature_of_a_good_message_verifies(case: dict[str, Any]) -> None:
    verified(decode(bytes.fromhex(case["frame"])))


def test_lengths_that_are_only_declared_allocate_nothing() -> None:
    tracemalloc.start()
    try:
        for case in VECTORS["messages"]:
            for bad in case["bad"]:
                if "declared" not in bad["why"]:
                    continue
                data = spliced(bytes.fromhex(case["frame"]), bad)
                tracemalloc.reset_peak()
                before, _ = tracemalloc.get_traced_memory()
                with pytest.raises(MalformedMessage):
                    decode(data)
                assert tracemalloc.get_traced_memory()[1] - before < 200_000, (case["name"], bad["why"])
    finally:
        tracemalloc.stop()


def roster() -> Roster:
    return open_roster(bytes.fromhex(DOCUMENTS["roster"]["good"]), DOCUMENTS["roster"]["issuer"], NOW)


def verified(message: Any) -> None:
    """Verify what a receiver of this kind verifies; requests are unsigned, so nothing is verified of them."""
    where: dict[str, Any] = {"roster": roster(), "now": NOW}
    match type(message).__name__:
        case "ContributionReply":
            asked = decoded(3)
            verify_contribution(message.contribution, ctx=round_context(asked), sharing=plan(asked).sharing,
                                bits=24, num_coordinates=4, **where)  # fmt: skip
        case "UnmaskReply":
            asked = decoded(3)
            verify_answer(message.answer, ctx=round_context(asked), slots=asked.slots,
                          cohort=cohort_digest(asked.headers), bits=24, num_coordinates=4, **where)  # fmt: skip
        case "SealComplaint":
            verify_complaint(message.complaint, ctx=round_context(decoded(3)), **where)
        case "KeysReply":
            verify_bundle(message.bundle, ctx=pairwise_context(), **where)
        case "DealReply" | "MaskReply" | "SignReply" | "OpenReply":
            (said,) = vars(message).values()
            verify(said, agreement=agreement(), **where)
        case "ProofRequest":
            check_dealing(message.dealing, agreement=agreement(), **where)
        case "ProofReply":
            verify_share_complaint(message.complaint, decoded(27).dealing, agreement=agreement(), **where)


def agreement() -> Agreement:
    terms = plan(decoded(16)).terms
    return agree(decoded(18).bundles, ctx=pairwise_context(), terms=terms, roster=roster(), now=NOW)


def decoded(kind: int) -> Any:
    return decode(FRAMES[kind])


def plan(asked: Any) -> Any:
    return plan_from_json(asked.plan_json)


def round_context(asked: Any) -> bytes:
    of = plan(asked)
    assert asked.inputs_digest == inputs_digest({})
    return context(
        plan_digest=of.digest,
        job_id=of.job_id,
        step=asked.step,
        attempt=asked.attempt,
        num_coordinates=steps(of)[asked.step].num_coordinates,
        bits=of.bits,
        inputs_digest=asked.inputs_digest,
        roster_digest=roster().digest,
    )


def pairwise_context() -> bytes:
    asked = decoded(16)
    assert asked.terms == plan(asked).terms
    return plan(asked).terms.context(round_context(asked))


def read_roster(data: bytes, now: int) -> Any:
    return open_roster(data, DOCUMENTS["roster"]["issuer"], now)


def read_certificate(data: bytes, now: int) -> Any:
    case = DOCUMENTS["certificate"]
    try:
        certificate = SealingCertificate(**json.loads(data))
    except (BadSetting, TypeError) as error:  # what a roster or a request that holds it turns into MalformedMessage
        raise MalformedMessage(str(error)) from error
    return certificate.opened(case["name"], case["signing_key"], now)


def read_plan(data: bytes, now: int) -> Any:
    return plan_from_json(strict_json(data))


def read_artifact(data: bytes, now: int, model: bytes = bytes.fromhex(DOCUMENTS["artifact"]["model"])) -> Any:
    key = bytes.fromhex(DOCUMENTS["artifact"]["publisher"])
    return open_artifact(ArtifactFiles(model=model, manifest=data), publisher_public_key=key)


READERS: dict[str, Callable[[bytes, int], Any]] = {
    "roster": read_roster,
    "certificate": read_certificate,
    "enrolment": open_request,
    "plan": read_plan,
    "catalogue": lambda data, now: catalogue_from_bytes(data),
    "artifact": read_artifact,
}


@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_good_document_is_read(name: str) -> None:
    READERS[name](bytes.fromhex(DOCUMENTS[name]["good"]), NOW)


@pytest.mark.parametrize(
    ("name", "bad"),
    [(name, bad) for name, case in DOCUMENTS.items() for bad in case["bad"]],
    ids=lambda value: value if isinstance(value, str) else value["why"],
)
def test_a_bad_document_is_refused_by_the_error_that_is_named(name: str, bad: dict[str, Any]) -> None:
    data = spliced(bytes.fromhex(DOCUMENTS[name]["good"]), bad)
    with pytest.raises(getattr(errors, bad["error"])):
        READERS[name](data, bad.get("now", NOW))


def test_a_changed_model_does_not_fit_its_manifest() -> None:
    case = DOCUMENTS["artifact"]
    for bad in case["bad_models"]:
        with pytest.raises(errors.ArtifactRejected):
            read_artifact(bytes.fromhex(case["good"]), NOW, spliced(bytes.fromhex(case["model"]), bad))


def test_documents_have_the_digests_that_are_written_beside_them() -> None:
    assert roster().digest == DOCUMENTS["roster"]["digest"]
    assert (
        catalogue_from_bytes(bytes.fromhex(DOCUMENTS["catalogue"]["good"])).digest == DOCUMENTS["catalogue"]["digest"]
    )
    good = bytes.fromhex(DOCUMENTS["plan"]["good"])
    assert canonical_json(plan_to_json(read_plan(good, NOW))) == good
    assert read_plan(good, NOW).digest == DOCUMENTS["plan"]["digest"]
