"""docs/protocol.md says what the code does: its tables, its examples, the fields of every message."""

import json
import re
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

import server.exchange
from server.job import group_of
from server.job_state import Turn
from shared import artifact, catalogue, enrolment, errors, frame, invitation, plan, roster, signed_document, wire
from shared.canonical import canonical_json
from shared.errors import MalformedMessage
from shared.frame import Frame, pack_frame, unpack_frame
from shared.roster import Member, Roster
from shared.secagg import graph, mask_sharing, ring, sealing, shamir
from shared.secagg.cohorts import divide
from shared.secagg.context import context, join_fields, vector_digest
from shared.secagg.graph import build_graph
from shared.secagg.pairwise_messages import SEALED_BYTES
from shared.secagg.pairwise_terms import PairwiseTerms
from shared.secagg.prg import MaskSeed, add_keystreams
from shared.secagg.shamir import split
from shared.wire import Refusal, decode, encode
from tests.golden.test_secagg_vectors import given_bytes

PROJECT = Path(__file__).resolve().parent.parent.parent
DOCUMENT = (PROJECT / "docs" / "protocol.md").read_text(encoding="utf-8")
VECTORS = json.loads((Path(__file__).parent / "formats_vectors.json").read_text(encoding="utf-8"))
CODECS = wire._CODECS


def example(name: str) -> str:
    found = re.search(rf"<!-- example: {name} -->\n```\n(.*?)\n```", DOCUMENT, re.S)
    assert found, f"the document has no example {name}"
    return re.sub(r"\s", "", found[1])


def table(name: str) -> list[list[str]]:
    found = re.search(rf"<!-- table: {name} -->\n((?:\|.*\n)+)", DOCUMENT)
    assert found, f"the document has no table {name}"
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in found[1].splitlines()[2:]]


def ticked(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def test_every_example_is_recomputed_here() -> None:
    assert set(re.findall(r"<!-- example: (\S+) -->", DOCUMENT)) == {
        "joined", "refusal", "mask", "vector-digest", "context", "context-pairwise", "cohorts", "share",
    }  # fmt: skip


def golden_context() -> bytes:
    return context(
        plan_digest="11" * 32,
        job_id="autumn-1",
        step=1,
        attempt=2,
        num_coordinates=5,
        bits=24,
        inputs_digest=b"\x22" * 32,
        roster_digest="33" * 32,
    )


def test_the_examples_are_what_the_code_makes() -> None:
    assert example("joined") == join_fields(b"ab", b"").hex()
    assert example("context") == golden_context().hex()
    terms = PairwiseTerms(num_parties=3, degree=2, threshold=2, min_active=2)
    assert example("context-pairwise") == terms.context(golden_context()).hex()
    cohorts = divide(golden_context(), three_tenants(), 2)
    places = "".join(str(cohorts.of(name)) for name in ("amber", "basalt", "coral"))
    assert example("cohorts") == places + b"".join(cohorts.contexts).hex()
    buffer = ring.zeros(24, 5)
    add_keystreams(buffer, [MaskSeed(bytes(range(32))).key(golden_context())])
    assert example("mask") == ring.pack(buffer, 24).hex()
    assert example("vector-digest") == vector_digest(ring.pack(buffer, 24)).hex()
    drawn = b"".join(number.to_bytes(33, "big") for number in (2**255, shamir.PRIME - 1, 5))
    (share,) = split_at_seven(drawn)
    assert example("share") == share.hex()


def three_tenants() -> Roster:
    members = tuple(
        Member(name=name, signing_key=f"{place:02x}" * 32, sealing=None, roles=("tenant",), not_before=0, not_after=1)
        for place, name in enumerate(("amber", "basalt", "coral"))
    )
    return Roster(entries=members, epoch=1, issued_at=0, expires_at=1)


def split_at_seven(drawn: bytes) -> tuple[bytes, ...]:
    points = (1, 2, 3, 7)
    return split(bytes(range(32)), threshold=4, points=points, random_bytes=given_bytes(drawn))[3:]


def test_the_example_of_a_frame_is_one() -> None:
    said = decode(bytes.fromhex(example("refusal")))
    assert said == Refusal(party="amber", error="BudgetExhausted", message="知音: the budget is spent")
    assert encode(said).hex() == example("refusal")


def test_the_limits_are_those_of_the_code() -> None:
    told = {row[0]: int(row[1]) for row in table("limits")}
    assert told == {
        "bytes of a frame": frame.MAX_FRAME_BYTES,
        "bytes of a header": frame.MAX_HEADER_BYTES,
        "sections": frame.MAX_SECTIONS,
        "contributions in one unmask request": wire.MAX_CLIENTS,
        "parties of a pairwise round": graph.MAX_PARTIES,
        "seals of one contribution": mask_sharing.MAX_SEALS,
        "characters of a slot's name": wire.MAX_SLOT_CHARACTERS,
        "characters of a refusal's message": wire.MAX_REFUSAL_CHARACTERS,
        "bytes of a roster": roster.MAX_ROSTER_BYTES,
        "bytes of a signed document": signed_document.MAX_DOCUMENT_BYTES,
        "bytes of a manifest": artifact.MAX_MANIFEST_BYTES,
        "rounds of a plan": plan.MAX_ROUNDS,
    }


@pytest.mark.parametrize(
    "said",
    [
        f'`{frame.MAGIC.hex()}`, "{frame.MAGIC.decode()}"',
        f"| 1 | version, {frame.VERSION} |",
        f"`{roster.FORMAT}`",
        f"`{enrolment.KIND}`",
        f"format `{plan.FORMAT}`",
        f"`{artifact.FORMAT}`",
        f"`format` `{catalogue.FORMAT}`",
        f"hex of {sealing.SEAL_BYTES} ",
        f"hex of {shamir.SHARE_BYTES} ",
        f"sealed to {SEALED_BYTES} by",
        "p = 2²⁵⁶ + 297",
        f"{plan.MAX_TENANTS} with helpers, else",
        "from 2³² down to 1",
    ],
)
def test_versions_and_sizes_are_those_of_the_code(said: str) -> None:
    assert said in DOCUMENT
    assert shamir.PRIME == 2**256 + 297


def test_the_ring_widths_are_those_of_the_code() -> None:
    rows = re.findall(r"^\| (\d+) \| (\d)[^|]*\| (\d) \|$", DOCUMENT, re.M)
    told = {int(bits): (int(word), int(packed)) for bits, word, packed in rows}
    assert told == {bits: (ring.computing_type(bits).itemsize, ring.size_bytes(bits, 1)) for bits in ring.WIDTHS}


def test_the_labels_are_exactly_those_in_the_code() -> None:
    code = "".join(
        path.read_text(encoding="utf-8")
        for folder in ("shared", "client", "server")
        for path in (PROJECT / folder).rglob("*.py")
    )
    used = {label.replace("\\x00", "\\0") for label in re.findall(r'b"(zhiyin/[^"]+)"', code)}
    told = {label for row in table("labels") for label in ticked(row[0])}
    # A label of a client's own storage or of its own draws is nobody else's business.
    own = {"zhiyin/rounding/1", "zhiyin/pairwise-vault/1"}
    assert used - told == own
    assert told - used == set()


def test_the_fields_of_a_plan_are_those_of_the_code() -> None:
    told = [name for row in table("plan") for name in ticked(row[0])]
    assert sorted(told) == sorted([*plan.TrainingPlan.__dataclass_fields__, "format"])
    for kind in plan.RECIPES.values():
        for name in kind.__dataclass_fields__:
            assert f"`{name}`" in DOCUMENT


def test_the_errors_are_those_of_the_code() -> None:
    told = {name for row in table("errors") for name in ticked(row[0])}
    spoken = {
        name
        for name, value in vars(errors).items()
        if isinstance(value, type)
        and issubclass(value, errors.ProtocolError | errors.PrivacyRefusal)
        and value not in (errors.ProtocolError, errors.PrivacyRefusal)
    }
    assert told == spoken | {"ZhiyinError"}


def test_every_kind_has_a_chapter_and_every_chapter_a_kind() -> None:
    told = {int(kind): name for kind, name in re.findall(r"^### (\d+) (\w+)$", DOCUMENT, re.M)}
    assert told == {kind: known.__name__ for kind, (known, _, _) in CODECS.items()}
    flow = DOCUMENT.split("## 1 Encodings")[0]
    for kind, name in told.items():
        assert re.search(rf"\b{kind} {name}\b", flow), f"the flow leaves out {kind} {name}"


def chapter(kind: int, name: str) -> str:
    rest = DOCUMENT.split(f"### {kind} {name}\n", 1)[1]
    return re.split(r"^##", rest, maxsplit=1, flags=re.M)[0]


def fields(header: Any, start: str = "") -> set[str]:
    found = set()
    for name, value in header.items():
        found.add(start + name)
        if isinstance(value, list) and value and isinstance(value[0], dict):
            found |= fields(value[0], f"{start}{name}[].")
        elif isinstance(value, dict) and name not in ("plan", "inputs"):
            found |= fields(value, f"{start}{name}.")
    return found


@pytest.mark.parametrize("case", VECTORS["messages"], ids=lambda case: case["name"])
def test_the_fields_of_a_message_are_those_in_its_chapter(case: dict[str, Any]) -> None:
    rows = re.findall(r"^\| (section )?(`.*?) \|", chapter(case["kind"], case["name"]), re.M)
    good = unpack_frame(bytes.fromhex(case["frame"]))
    told = {name for section, cell in rows if not section for name in ticked(cell)}
    held = fields(good.header)
    if case["name"] == "OpenReply":  # in the example one of the two lists has one owner, in another round it may not
        assert {"self_shares", "key_shares"} <= held
    assert told == held
    sections = {name.replace("input.*", "input.") for section, cell in rows if section for name in ticked(cell)}
    assert {name.split(".")[0] for name in good.sections} <= {name.split(".")[0] for name in sections}
    assert sections <= {"roster", "masked", "mask_sum", "input."}


def test_json_is_written_as_the_document_says() -> None:
    value = {"b": 1.0, "a": [0.25, 1e-06, 1e16, 0.0001, 123456789012345.6], "知": 'q"\\\n\x01/é', "Z": True}
    assert canonical_json(value).decode() == (
        '{"Z":true,"a":[0.25,1e-06,1e+16,0.0001,123456789012345.6],"b":1.0,"知":"q\\"\\\\\\n\\u0001/é"}'
    )


def test_another_version_and_an_unknown_kind_are_malformed() -> None:
    good = encode(Refusal(party="amber", error="E", message="m"))
    for data in (good[:4] + b"\x02" + good[5:], pack_frame(Frame(kind=99, header={}, sections={}))):
        with pytest.raises(MalformedMessage):
            decode(data)


def test_the_circle_is_ordered_as_the_document_says() -> None:
    names = tuple(f"t{index}" for index in range(7))
    order = build_graph(b"r" * 32, names, 2).order
    digests = [sha256(join_fields(b"zhiyin/pairwise-order/1", b"r" * 32, name.encode())).digest() for name in order]
    assert all(before < after for before, after in pairwise(digests))


def test_frames_travel_in_flower_as_the_document_says(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[tuple[Any, ...]] = []

    class Grid:
        def push_messages(self, messages: Any) -> list[str]:
            return []

    def message(content: Any, node: int, kind: str, *, ttl: float, group_id: str) -> None:
        sent.append((content.array_records["frame"]["frame"].numpy(), node, kind, ttl, group_id))

    monkeypatch.setattr(server.exchange, "Message", message)
    turn, grid = Turn(step=2, attempt=5), Grid()
    server.exchange.Exchange(grid).ask({7: b"frame"}, group=group_of(turn), timeout_seconds=3.0, most_bytes=9)  # type: ignore[arg-type]
    ((array, *rest),) = sent
    assert (str(array.dtype), array.ndim, array.tobytes()) == ("uint8", 1, b"frame")
    assert rest == [7, "train", 3.0, "step-2-attempt-5"]
    assert "`step-<step>-attempt-<attempt>`" in DOCUMENT


def test_the_table_of_an_invitation_lists_its_fields() -> None:
    named = [name for row in table("invitation") for name in ticked(row[0])]
    assert named == list(dict.fromkeys(named))
    assert set(named) == set(invitation.Invitation.__dataclass_fields__)
    assert f"`{invitation.KIND}`" in DOCUMENT
