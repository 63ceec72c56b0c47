"""Every reader of bytes from outside, each with the only errors it may raise and examples to start from.

A target takes any bytes: `read` returns or raises one of `errors`, and anything else is a finding. Where a signature
stands before a parser, the target signs what it is given, so that the parser is reached. Seeds are the golden vectors,
good and bad, and short texts for the formats that only people write.
"""

import gzip
import json
import os
import tempfile
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from client.connectors import open_source
from client.fetching import _read_manifest
from client.importing import ColumnNames, _events, _layout, import_source
from client.issuing.register import register_from_json
from client.ledger import Ledger
from client.policy_file import load_policy
from client.rejects import Rejects
from client.store import Store
from server.checkpoint import FILE as CHECKPOINT_FILE
from server.checkpoint import load_checkpoint
from server.plan_file import plan_from_file
from server.platform_http import Refused, _json
from server.releases import FILE as RELEASES_FILE
from server.releases import ReleaseLedger
from server.settings import load_plan, load_settings
from shared.artifact import ArtifactFiles, open_artifact
from shared.canonical import canonical_json, sha256_hex
from shared.catalogue import CatalogueSnapshot, catalogue_from_bytes
from shared.enrolment import KIND as ENROLMENT
from shared.enrolment import open_request
from shared.errors import (
    ArtifactRejected,
    BadInput,
    BadSeal,
    BadSetting,
    BadSignature,
    CatalogueMismatch,
    ExpiredKey,
    MalformedFile,
    MalformedMessage,
    TooFewClients,
    UnknownMechanism,
    WrongShare,
    ZhiyinError,
)
from shared.frame import Frame, pack_frame, unpack_frame
from shared.invitation import KIND as INVITATION
from shared.invitation import open_invitation
from shared.mechanism import from_json, to_json
from shared.plan import plan_from_json, plan_to_json, steps
from shared.published import ranking_model
from shared.roster import open_roster
from shared.sealing_certificate import SealingCertificate
from shared.secagg.pairwise_keys import exchange, open_exchanged, private_key
from shared.secagg.pairwise_state import from_bytes, to_bytes
from shared.secagg.sealing import open_seal
from shared.secagg.secret import Secret
from shared.secagg.shamir import SHARE_BYTES, combine
from shared.signed_document import read_document
from shared.wire import decode, encode
from simulations.deployment.certificates import make_server_certificates
from tests.fuzz.answering import array_seeds, ask, question_seeds, receive

GOLDEN = Path(__file__).resolve().parent.parent / "golden"
NOW = 500


@dataclass(frozen=True, kw_only=True)
class Target:
    """read: takes any bytes. errors: what it may raise. seeds: examples, good and bad. modules: what it runs."""

    name: str
    read: Callable[[bytes], object]
    errors: tuple[type[Exception], ...]
    seeds: Callable[[], Sequence[bytes]]

    def __call__(self, data: bytes) -> None:
        try:
            self.read(data)
        except self.errors:
            return


@cache
def vectors() -> Any:
    return json.loads((GOLDEN / "formats_vectors.json").read_text(encoding="utf-8"))


def spliced(case: Any, good: bytes) -> list[bytes]:
    found = [good]
    for bad in case["bad"]:
        put = b"".join(bytes.fromhex(each) * times for each, times in bad["put"])
        found.append(good[: bad["at"]] + put + good[bad["at"] + bad["cut"] :])
    return found


def message_seeds() -> list[bytes]:
    return [each for case in vectors()["messages"] for each in spliced(case, bytes.fromhex(case["frame"]))]


def document_seeds(name: str, skip: int = 0) -> list[bytes]:
    case = vectors()["documents"][name]
    return [each[skip:] for each in spliced(case, bytes.fromhex(case["good"]))]


def header_seeds() -> list[bytes]:
    found = []
    for case in vectors()["messages"]:
        frame = unpack_frame(bytes.fromhex(case["frame"]))
        found.append(bytes([frame.kind]) + canonical_json(frame.header))
    return found


@cache
def key(name: str) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(bytes.fromhex(sha256_hex(f"sign {name}".encode())))


def public(name: str) -> str:
    return key(name).public_key().public_bytes_raw().hex()


@cache
def folder() -> Path:
    return Path(tempfile.mkdtemp(prefix="zhiyin-fuzz-", dir="/dev/shm" if Path("/dev/shm").is_dir() else None))


def written(name: str, data: bytes) -> Path:
    path = folder() / name
    path.parent.mkdir(exist_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(data)
    return path


# --- readers ---


def read_frame(data: bytes) -> None:
    assert pack_frame(unpack_frame(data)) == data


def read_message(data: bytes) -> None:
    assert encode(decode(data)) == data


@cache
def sections() -> dict[int, Any]:
    frames = [unpack_frame(bytes.fromhex(case["frame"])) for case in vectors()["messages"]]
    return {frame.kind: frame.sections for frame in frames}


def read_fields(data: bytes) -> None:
    """Past the frame: any JSON in canonical form as the header of any kind."""
    try:
        header = json.loads(data[1:])
        kind = data[0] if data else 1
        frame = pack_frame(Frame(kind=kind, header=header, sections=sections().get(kind, {})))
    except (ValueError, RecursionError, TypeError, MalformedMessage):
        return
    read_message(frame)


def loaded(data: bytes) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        raise MalformedMessage("not JSON") from None


def read_plan(data: bytes) -> None:
    plan = plan_from_json(loaded(data))
    assert plan_from_json(json.loads(canonical_json(plan_to_json(plan)))) == plan
    try:
        steps(plan)
    except ZhiyinError:  # e.g. CapacityExceeded: a plan that no ring holds
        return


def read_roster_body(data: bytes) -> None:
    open_roster(key("issuer").sign(b"zhiyin/roster/2\x00" + data) + data, public("issuer"), NOW)


def read_certificate(data: bytes) -> None:
    fields = loaded(data)
    if isinstance(fields, dict) and set(fields) == set(SealingCertificate.__dataclass_fields__):
        SealingCertificate(**fields).opened("north", public("north"), NOW)


def read_enrolment_fields(data: bytes) -> None:
    fields = loaded(data)
    try:
        signature = key("north").sign(ENROLMENT.encode() + b"\x00" + canonical_json(fields)).hex()
        document = json.dumps({"kind": ENROLMENT, "fields": fields, "signature": signature}).encode()
    except (ValueError, RecursionError):
        return
    open_request(document, NOW)


def enrolment_field_seeds() -> list[bytes]:
    good = read_document(ENROLMENT, document_seeds("enrolment")[0])[0]
    return [canonical_json(good), canonical_json({**good, "zz": [None]})]


def read_invitation_fields(data: bytes) -> None:
    fields = loaded(data)
    try:
        signature = key("north").sign(INVITATION.encode() + b"\x00" + canonical_json(fields)).hex()
        document = json.dumps({"kind": INVITATION, "fields": fields, "signature": signature}).encode()
    except (ValueError, RecursionError):
        return
    open_invitation(document, NOW)


@cache
def invitation_seeds() -> list[bytes]:
    sealing = read_document(ENROLMENT, document_seeds("enrolment")[0])[0]["sealing"]
    with tempfile.TemporaryDirectory() as folder:
        certificates = make_server_certificates(Path(folder) / "tls", now=datetime.fromtimestamp(NOW, UTC))
        certificate = certificates.authority.read_text(encoding="ascii")
    url, digit = "http://127.0.0.1:8000", "5" * 64
    good = {
        "invited": "north", "role": "tenant", "client_id": "cli_1", "platform_url": url,
        "platform_key": public("north"),
        "snapshots_url": f"{url}/api/v1/snapshots", "catalogue_key": digit, "publisher_key": digit, "model": "market",
        "issuer_key": digit, "app_digest": digit, "superlink": "127.0.0.1:9092", "certificate": certificate,
        "helpers": [{"name": "north", "signing": public("north"), "sealing": sealing}], "issued_at": 0,
        "expires_at": 2 * NOW,
    }  # fmt: skip
    return [canonical_json(good), canonical_json({**good, "helpers": [None]}), canonical_json({**good, "zz": [None]})]


def read_register(data: bytes) -> None:
    fields = loaded(data)
    if isinstance(fields, dict):
        register_from_json(fields)


MODEL = bytes.fromhex(vectors()["documents"]["artifact"]["model"])
MANIFEST = bytes.fromhex(vectors()["documents"]["artifact"]["good"])
PUBLISHER = bytes.fromhex(vectors()["documents"]["artifact"]["publisher"])


def read_manifest(data: bytes) -> None:
    open_artifact(ArtifactFiles(model=MODEL, manifest=data), publisher_public_key=PUBLISHER)


def manifest_of(body: dict[str, Any]) -> bytes:
    unsigned = {name: value for name, value in body.items() if name != "signature"}
    signature = key("publisher").sign(b"zhiyin model manifest 1\x00" + canonical_json(unsigned))
    return canonical_json({**unsigned, "signature": signature.hex()})


def read_manifest_fields(data: bytes) -> None:
    """As read_manifest, with a good signature over whatever the fields are; then on to the ranking model."""
    fields = loaded(data)
    try:
        signed = manifest_of({**json.loads(MANIFEST), **fields} if isinstance(fields, dict) else {})
    except (ValueError, RecursionError):
        return
    files = ArtifactFiles(model=MODEL, manifest=signed)
    ranking_model(open_artifact(files, publisher_public_key=PUBLISHER, catalogue_digest="cd" * 32))


def read_tensors(data: bytes) -> None:
    body = {**json.loads(MANIFEST), "model_sha256": sha256_hex(data)}
    fold_in = {"recency": 0.0, "popularity_discount": 0.0, "max_items": 0, "text_weight": 0.0, "ridge": 1.0}
    settings = {"readout": "popularity", "fold_in": {**fold_in, "negative_weight": 0.0}}
    files = ArtifactFiles(model=data, manifest=manifest_of({**body, "settings": settings}))
    ranking_model(open_artifact(files, publisher_public_key=PUBLISHER))


def tensor_seeds() -> list[bytes]:
    head = {"dtype": "I32", "shape": [1], "data_offsets": [8, 12]}
    header = canonical_json({"popularity": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}, "head": head})
    header += b" " * (-len(header) % 8)
    return [len(header).to_bytes(8, "little") + header + bytes(12), MODEL, MODEL.replace(b"F32", b"BF16")]


def read_mechanism(data: bytes) -> None:
    value = loaded(data)
    assert from_json(to_json(from_json(value))) == from_json(value)


def mechanism_seeds() -> list[bytes]:
    return [
        b'{"kind":"discrete-gaussian","noise_std":3,"num_coordinates":2,"sensitivity":1.5}',
        b'{"kind":"skellam","variance":4,"sensitivity":1.5,"l1_sensitivity":2.0}',
        b'{"kind":["gaussian"]}',
        b'{"kind":"gaussian","noise_std":1' + b"0" * 400 + b',"sensitivity":1}',
        b"[]",
    ]


def read_seal(data: bytes) -> None:
    open_seal(X25519PrivateKey.from_private_bytes(bytes(range(32))), data[:81], associated=data[81:])


def read_shares(data: bytes) -> None:
    """Shares at the points 1, 2, ...; and bytes as the sealed shares of a neighbour."""
    parts = [data[at : at + SHARE_BYTES] for at in range(0, min(len(data), 8 * SHARE_BYTES), SHARE_BYTES)]
    combine(dict(enumerate(parts, start=1)), threshold=2)
    place: dict[str, Any] = {"ctx": bytes(32), "root": bytes(32), "sender": "a", "receiver": "b"}
    public_key = X25519PrivateKey.from_private_bytes(bytes(range(32))).public_key().public_bytes_raw()
    open_exchanged(data, exchange(private_key(Secret(bytes(range(32)))), public_key, "a"), **place)


def read_state(data: bytes) -> None:
    assert to_bytes(from_bytes(data)) == data


def state_seeds() -> list[bytes]:
    start = b"zhiyin-pairwise-state-2\n"
    finished = start + canonical_json({"phase": "finished", "client": "amber", "ctx": "00" * 32})
    bundle = unpack_frame(bytes.fromhex(vectors()["messages"][7]["frame"])).header
    minima = {"corrupt": 0.1, "dropped": 0.1, "privacy_bits": 40, "recovery_bits": 20, "min_active": 2, "min_users": 1}
    secrets = dict.fromkeys(("mask_secret", "seal_secret", "self_seed", "dealing_seed"), "11" * 32)
    advertised = {
        "phase": "advertised", "ctx": bundle["ctx"], "client": "amber", "num_tenants": 3, "bundle": bundle,
        "terms": {"num_parties": 3, "degree": 2, "threshold": 2, "min_active": 2},
        "minima": {**minima, "least_colluding": 0}, **secrets,
    }  # fmt: skip
    return [finished, start + canonical_json(advertised), start + b"[" * 3_000]


def read_policy(data: bytes) -> None:
    load_policy(written("policy.toml", data))


def policy_seeds() -> list[bytes]:
    return [
        b'name = "amber"\nepsilon = 1.5\nserve_as = ["tenant"]\n[helpers.north]\nsigning = "' + b"ab" * 32 + b'"\n',
        b'name = "a"\nepsilon = 1' + b"0" * 400,
        b'name = "a"\nmin_users = 1' + b"0" * 5_000,
        b"a = " + b"[" * 3_000,
    ]


def read_plan_file(data: bytes) -> None:
    written("catalogue.bin", document_seeds("catalogue")[0])
    plan_from_file(written("plan.toml", data), folder() / "catalogue.bin")


PLAN_FILE = b"""job_id = "golden"
noise = "helpers"
epsilon = 1.0
delta = 1e-6
popularity_share = 0.25
min_tenants = 2
min_users = 2
max_users = 8
bits = 64
helpers = ["north", "south"]
[recipe]
name = "cooccurrence"
num_head_items = 2
gamma = 1.0
max_head_items_per_user = 2
"""
PAIRWISE_FILE = b"""topology = "pairwise"
[pairwise]
num_parties = 5
corrupt = 0.2
dropped = 0.1
privacy_bits = 40
"""


def plan_file_seeds() -> list[bytes]:
    start, recipe = PLAN_FILE.replace(b'helpers = ["north", "south"]\n', b"").split(b"[recipe]")
    pairwise = start.replace(b'"helpers"', b'"tenant"') + PAIRWISE_FILE + b"[recipe]" + recipe
    return [
        PLAN_FILE,
        pairwise.replace(b"min_tenants = 2", b"min_tenants = 4"),
        pairwise.replace(b"num_parties = 5", b"num_parties = 150").replace(b"_bits = 40", b"_bits = 1" + b"0" * 15),
        pairwise.replace(b"num_parties = 5", b"num_parties = 1" + b"0" * 15),
        PLAN_FILE.replace(b"1e-6", b"1" + b"0" * 400),
        b"a = " + b"[" * 3_000,
    ]


def read_job(data: bytes) -> None:
    load_settings(written("job.toml", data))


def job_seeds() -> list[bytes]:
    paths = b"".join(name + b' = "x"\n' for name in (b"plan", b"roster", b"catalogue", b"signing_key", b"state"))
    start = paths + b'registry = "r"\ntuned_on_data = false\nissuer_public_key = "' + b"ab" * 32 + b'"\n'
    models = b'[[models]]\nname = "m"\nreadout = { kind = "weights", threshold = 1.0, ridge = 0.5, diagonal = 1.0 }\n'
    models += b"[models.fold_in]\nrecency = 0.5\n"
    return [
        start + models,
        start + b'nodes_seconds = 5\nmax_declared_users = { north = 5, "*" = 2 }\n' + models,
        start + b"nodes_seconds = 1" + b"0" * 400 + b"\n" + models,
        start + models.replace(b"recency = 0.5", b"recency = 1" + b"0" * 400),
        b"a = " + b"[" * 3_000,
    ]


def read_plan_json(data: bytes) -> None:
    load_plan(written("plan.json", data))


def read_checkpoint(data: bytes) -> None:
    load_checkpoint(written(f"state/{CHECKPOINT_FILE}", data).parent, "ab" * 32)


def read_checkpoint_body(data: bytes) -> None:
    """With the digest that fits, so that the body is read."""
    body = loaded(data)
    if isinstance(body, dict):
        body.pop("digest", None)
    try:
        digest = sha256_hex(canonical_json(body))
    except (ValueError, RecursionError):
        return
    if isinstance(body, dict):
        read_checkpoint(json.dumps({**body, "digest": digest}).encode())


def checkpoint_seeds() -> list[bytes]:
    counts = {"num_users": 1, "num_tenants": 2, "num_noises": 3}
    release = {"file": f"step-0000-{'00' * 32}.safetensors", **counts}
    body = {"format": "zhiyin-checkpoint-2", "plan_digest": "ab" * 32, "releases": []}
    whole = {**body, "digest": sha256_hex(canonical_json(body))}
    nameless = {**body, "plan_digest": None}
    found = (whole, body, {**body, "releases": [release]}, nameless)
    return [*map(canonical_json, found), b"[" * 3_000]


def read_releases(data: bytes) -> None:
    ReleaseLedger.read(written(f"ledger/{RELEASES_FILE}", data).parent)


def release_seeds() -> list[bytes]:
    first = canonical_json({"kind": "attempt", "previous": sha256_hex(b"zhiyin releases 1"), "step": 0})
    second = canonical_json({"kind": "release", "previous": sha256_hex(first)})
    return [first + b"\n" + second + b"\n", b"[]\n", b"[" * 3_000 + b"\n"]


@cache
def ledger() -> tuple[Path, bytes]:
    path = folder() / "home" / "ledger.db"
    path.parent.mkdir()
    return path, Ledger.create(path, clock=lambda: 0.0).marks.read_bytes()


def read_marks(data: bytes) -> None:
    path, _ = ledger()
    written("home/ledger.marks", data)
    Ledger.open(path)


@cache
def catalogue() -> CatalogueSnapshot:
    return catalogue_from_bytes(document_seeds("catalogue")[0])


def read_csv(data: bytes) -> None:
    """Every row checked, none stored: a store remembers how its rows are ordered, and refuses another order."""
    with open_source(str(written("rows.csv", data))) as source:
        rejects = Rejects(source.name, source.row_word, 5)
        deque(_events(source, _layout(source, ColumnNames()), catalogue(), rejects), maxlen=0)


def read_gzip(data: bytes) -> None:
    """All of an import, into a store of its own."""
    for path in folder().glob("store.db*"):
        path.unlink()
    store = Store.create(folder() / "store.db", catalogue())
    import_source(store, catalogue(), str(written("rows.csv.gz", data)))


def csv_seeds() -> list[bytes]:
    return [
        b"user,item,timestamp,weight\nu,a,2026-01-31T18:00:00Z,1\nu,b,5,0.5\n",
        b"user,item,position\nu,a,1\nv,b,-1e300\n",
        b"user,item,timestamp\nu,a,0001-01-01T00:00:00+23:59\nv,b,9999-12-31T23:59:59-23:59\n",
        b'user,item\n"u,a\n',
        b"user,item,weight\nu,a,1e999\nu,b,\xff\n",
        b"\xef\xbb\xbfuser,item\n\x00,a\n",
    ]


def read_platform_answer(data: bytes) -> None:
    """What the platform says to the aggregation side, and what is made of it where it is a refusal."""
    said = _json(data)
    assert isinstance(said, dict)
    str(Refused(422, said))


def ask_client(data: bytes) -> None:
    documents = vectors()["documents"]
    ask(data, folder=folder(), catalogue=catalogue(), issuer=key("issuer"), documents=documents, now=NOW)


TARGETS: tuple[Target, ...] = (
    Target(name="client", read=ask_client, errors=(), seeds=lambda: question_seeds(catalogue())),
    Target(name="flower-array", read=receive, errors=(), seeds=array_seeds),
    Target(name="frame", read=read_frame, errors=(MalformedMessage,), seeds=message_seeds),
    Target(name="message", read=read_message, errors=(MalformedMessage,), seeds=message_seeds),
    Target(name="fields", read=read_fields, errors=(MalformedMessage,), seeds=header_seeds),
    Target(name="plan", read=read_plan, errors=(MalformedMessage,), seeds=lambda: document_seeds("plan")),
    Target(
        name="roster",
        read=lambda data: open_roster(data, public("issuer"), NOW),
        errors=(MalformedMessage, BadSignature, ExpiredKey),
        seeds=lambda: document_seeds("roster"),
    ),
    Target(
        name="roster-body",
        read=read_roster_body,
        errors=(MalformedMessage, ExpiredKey),
        seeds=lambda: document_seeds("roster", 64),
    ),
    Target(
        name="certificate",
        read=read_certificate,
        errors=(MalformedMessage, BadSetting, BadSignature, ExpiredKey),
        seeds=lambda: document_seeds("certificate"),
    ),
    Target(
        name="enrolment",
        read=lambda data: open_request(data, NOW),
        errors=(MalformedMessage, BadSignature, ExpiredKey),
        seeds=lambda: document_seeds("enrolment"),
    ),
    Target(
        name="enrolment-fields",
        read=read_enrolment_fields,
        errors=(MalformedMessage, BadSignature, ExpiredKey),
        seeds=enrolment_field_seeds,
    ),
    Target(
        name="invitation",
        read=read_invitation_fields,
        errors=(MalformedMessage, BadSignature, ExpiredKey),
        seeds=invitation_seeds,
    ),
    Target(
        name="register",
        read=read_register,
        errors=(MalformedMessage, BadSetting),
        seeds=lambda: [b'{"epoch":1,"members":[],"retired":[]}', b'{"epoch":1,"members":[{}],"retired":[5]}'],
    ),
    Target(name="manifest", read=read_manifest, errors=(ArtifactRejected,), seeds=lambda: document_seeds("artifact")),
    Target(
        name="manifest-fields",
        read=read_manifest_fields,
        errors=(MalformedMessage, ArtifactRejected, CatalogueMismatch),
        seeds=lambda: [*document_seeds("artifact"), b'{"catalogue_digest":"x"}', b'{"settings":{"fold_in":{}}}'],
    ),
    Target(
        name="fetched-manifest",
        read=_read_manifest,
        errors=(ArtifactRejected,),
        seeds=lambda: [*document_seeds("artifact"), b'{"version":1,"model_size_bytes":1e400,"model_sha256":"a"}'],
    ),
    Target(
        name="platform-answer",
        read=read_platform_answer,
        errors=(),
        seeds=lambda: [b'{"access_token":"x"}', b'{"title":"no","reasons":[{"slug":1}]}', b"[]", b"[" * 3_000, b"\xff"],
    ),
    Target(name="tensors", read=read_tensors, errors=(ArtifactRejected,), seeds=tensor_seeds),
    Target(name="mechanism", read=read_mechanism, errors=(MalformedMessage, UnknownMechanism), seeds=mechanism_seeds),
    Target(
        name="catalogue",
        read=catalogue_from_bytes,
        errors=(MalformedFile,),
        seeds=lambda: document_seeds("catalogue"),
    ),
    Target(name="seal", read=read_seal, errors=(BadSeal,), seeds=lambda: [bytes(80), bytes(range(81))]),
    Target(
        name="shares",
        read=read_shares,
        errors=(BadSeal, WrongShare, TooFewClients),
        seeds=lambda: [bytes(66), b"\x01" + bytes(65), b"\xff" * 82],
    ),
    Target(name="pairwise-state", read=read_state, errors=(MalformedFile,), seeds=state_seeds),
    Target(name="policy-file", read=read_policy, errors=(BadSetting,), seeds=policy_seeds),
    Target(name="plan-file", read=read_plan_file, errors=(BadSetting,), seeds=plan_file_seeds),
    Target(name="job-file", read=read_job, errors=(BadSetting,), seeds=job_seeds),
    Target(name="plan-json", read=read_plan_json, errors=(BadSetting,), seeds=lambda: document_seeds("plan")),
    Target(name="checkpoint", read=read_checkpoint, errors=(MalformedFile, BadSetting), seeds=checkpoint_seeds),
    Target(
        name="checkpoint-body",
        read=read_checkpoint_body,
        errors=(MalformedMessage, MalformedFile, BadSetting),
        seeds=checkpoint_seeds,
    ),
    Target(name="releases", read=read_releases, errors=(MalformedFile,), seeds=release_seeds),
    Target(name="ledger-marks", read=read_marks, errors=(MalformedFile,), seeds=lambda: [ledger()[1], b"x 0 00\n"]),
    Target(name="csv", read=read_csv, errors=(BadInput,), seeds=csv_seeds),
    Target(
        name="csv-gz",
        read=read_gzip,
        errors=(BadInput,),
        seeds=lambda: [gzip.compress(each, mtime=0) for each in csv_seeds()],
    ),
)
