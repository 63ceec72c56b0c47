"""Good and bad examples of every message and document, written by `protocol_client` and not by the product's code.

`python -m tests.golden.formats_reference > tests/golden/formats_vectors.json` writes them anew. A bad example is its
good one with a splice: `cut` bytes from `at` on give way to `put`, a list of (bytes in hex, how often).
"""

import base64
import json
import struct
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.golden.blake3_reference import blake3
from tests.golden.exchange_reference import prove
from tests.golden.protocol_client import (
    SEALED_FIELDS,
    HelpedTenant,
    PairwiseTenant,
    canonical,
    certificate_message,
    hkdf,
    joined,
    keystream,
    mask,
    pack,
    public_of,
    ring_bytes,
    sha256,
    sign,
    unpack,
)

NOW = 500
TENANTS = ("amber", "birch", "cedar")
HELPERS = ("north", "south")
USERS = {"amber": [[(0, 1.0)], [(1, 0.5), (3, 0.25)]], "birch": [[(2, 4.0)]], "cedar": [[(0, 0.5)], []]}
NESTED = b"[" * 3_000 + b"]" * 3_000


def secret(what: str, name: str) -> bytes:
    return sha256(f"{what} {name}".encode())


def public(name: str) -> str:
    return Ed25519PrivateKey.from_private_bytes(secret("sign", name)).public_key().public_bytes_raw().hex()


def signed(name: str, message: bytes) -> str:
    return sign(secret("sign", name), message).hex()


def changed(good: bytes, bad: bytes, why: str, error: str, **more: Any) -> dict[str, Any]:
    """The least splice that makes the bad bytes of the good ones."""
    at = next((i for i, (a, b) in enumerate(zip(good, bad, strict=False)) if a != b), min(len(good), len(bad)))
    most = min(len(good), len(bad)) - at
    same = next((i for i in range(most) if good[-1 - i] != bad[-1 - i]), most)
    place = {"at": at, "cut": len(good) - same - at, "put": runs(bad[at : len(bad) - same])}
    return {"why": why, "error": error, **place, **more}


def runs(data: bytes) -> list[tuple[str, int]]:
    """The bytes as (hex, times), long repetitions of one to three bytes said once."""
    found, at, plain = [], 0, 0
    while at < len(data):
        for period in (1, 2, 3):
            unit, times = data[at : at + period], 1
            while data[at + times * period : at + (times + 1) * period] == unit:
                times += 1
            if times >= 40:
                if plain < at:
                    found.append((data[plain:at].hex(), 1))
                found.append((unit.hex(), times))
                at = plain = at + times * period
                break
        else:
            at += 1
    return [*found, (data[plain:].hex(), 1)] if plain < len(data) else found


def spliced(good: bytes, bad: dict[str, Any]) -> bytes:
    """Inverse of `changed`."""
    put = b"".join(bytes.fromhex(each) * times for each, times in bad["put"])
    return good[: bad["at"]] + put + good[bad["at"] + bad["cut"] :]


# --- messages ---


def plan(**changes: Any) -> dict[str, Any]:
    fields = {
        "format": "zhiyin-plan-1",
        "job_id": "golden",
        "recipe": {"name": "cooccurrence", "num_head_items": 2, "gamma": 1.0, "max_head_items_per_user": 2},
        "catalogue_digest": "cd" * 32,
        "num_items": 4,
        "noise": "none",
        "mu": 1.0,
        "epsilon": 1.0,
        "delta": 1e-06,
        "popularity_share": 0.25,
        "min_tenants": 2,
        "min_users": 2,
        "max_users": 8,
        "bits": 24,
        "helpers": ["north", "south"],
        "spare_helpers": 0,
        "topology": "helpers",
        "num_parties": 0,
        "degree": 0,
        "threshold": 0,
        "colluding": 0,
    }
    return {**fields, **changes}


PAIRWISE = plan(topology="pairwise", helpers=[], num_parties=3, degree=2, threshold=2)


def certificate(name: str) -> dict[str, Any]:
    key = public_of(secret("seal", name)).hex()
    return {
        "key": key,
        "not_before": 0,
        "not_after": 2_000,
        "signature": signed(name, certificate_message(name, key, 0, 2_000)),
    }


def roster_fields() -> dict[str, Any]:
    entries = [
        {
            "name": name,
            "signing_key": public(name),
            "sealing": certificate(name) if name in HELPERS else None,
            "roles": ["helper"] if name in HELPERS else ["tenant"],
            "not_before": 0,
            "not_after": 2_000,
        }
        for name in (*TENANTS, *HELPERS)
    ]
    return {"format": "zhiyin-roster-2", "epoch": 7, "issued_at": 10, "expires_at": 1_000, "entries": entries}


def signed_roster(body: bytes) -> bytes:
    return bytes.fromhex(signed("issuer", b"zhiyin/roster/2\x00" + body)) + body


def stream_of(label: str) -> Any:
    """Bytes that stand for random ones, so that the examples are the same each time."""
    data, at = keystream(secret("random", label), 10_000), 0

    def take(size: int) -> bytes:
        nonlocal at
        at += size
        return data[at - size : at]

    return take


def helped_messages() -> dict[int, bytes]:
    roster = signed_roster(canonical(roster_fields()))
    asked = {"plan": plan(), "step": 0, "attempt": 1, "inputs": {}}
    pins = {helper: public(helper) for helper in HELPERS}
    request, replies = pack(1, asked, {"roster": roster}), []
    for name in ("amber", "birch"):
        tenant = HelpedTenant(
            name=name, secret=secret("sign", name), issuer=public("issuer"), pins=pins, users=USERS[name]
        )
        replies.append(tenant.answer(request, now=NOW, random_bytes=stream_of(name)))
    headers, parts = [], []
    for reply in replies:
        _, header, sections = unpack(reply)
        digest = blake3(sections["masked"])
        ctx = header.pop("ctx")
        headers.append({**header, "masked_digest": digest.hex()})
        parts += [header["client"].encode(), digest, bytes.fromhex(header["signature"])]
    unmask = {"plan": plan(), "step": 0, "attempt": 1, "slots": ["north"], "headers": headers}
    matrix = struct.pack("<4d", 0.5, -1.0, 3.0, 0.0)
    with_inputs = {
        "plan": plan(),
        "step": 1,
        "attempt": 0,
        "inputs": {"head": {"type": "int32", "shape": [2]}, "item_factors": {"type": "float64", "shape": [2, 2]}},
    }
    sections = {"roster": roster, "input.head": struct.pack("<2i", 2, 0), "input.item_factors": matrix}
    # The mask sum of a helper that adds no noise: what it opened from its seals.
    seeds = [stream_of(name)(32) for name in ("amber", "birch")]
    total = [sum(each) for each in zip(*(mask(mask_key(seed, ctx), 24, 4) for seed in seeds), strict=True)]
    mask_sum, cohort = ring_bytes(total, 24), sha256(joined(b"zhiyin/cohort/2", *parts))
    message = joined(b"zhiyin/answer/3", bytes.fromhex(ctx), b"north", joined(b"north"), cohort, blake3(mask_sum))
    answer = {"helper": "north", "ctx": ctx, "slots": ["north"], "cohort": cohort.hex()}
    complaint = joined(b"zhiyin/complaint/1", bytes.fromhex(ctx), b"south", b"birch")
    digest = sha256(joined(b"zhiyin/inputs/1")).hex()
    return {
        1: pack(1, with_inputs, sections),
        2: replies[0],
        3: pack(3, {**unmask, "inputs_digest": digest}, {"roster": roster}),
        4: pack(4, {**answer, "signature": signed("north", message)}, {"mask_sum": mask_sum}),
        5: pack(5, {"party": "amber", "error": "BudgetExhausted", "message": "知音: the budget is spent"}, {}),
        6: pack(6, {"helper": "south", "ctx": ctx, "client": "birch", "signature": signed("south", complaint)}, {}),
    }


def mask_key(seed: bytes, ctx: str) -> bytes:
    return hkdf(seed, bytes.fromhex(ctx), b"zhiyin/mask/1")


def pairwise_messages() -> dict[int, bytes]:
    """A round of three in which cedar falls silent before its vector; amber's replies, and what it is asked."""
    roster = signed_roster(canonical(roster_fields()))
    asked = {"plan": PAIRWISE, "step": 0, "attempt": 1, "inputs_digest": sha256(joined(b"zhiyin/inputs/1")).hex()}
    terms = {"num_parties": 3, "degree": 2, "threshold": 2, "min_active": 2}
    found = {16: pack(16, {**asked, "terms": terms}, {"roster": roster})}
    parties = {
        name: PairwiseTenant(name=name, secret=secret("sign", name), issuer=public("issuer"), users=USERS[name])
        for name in TENANTS
    }
    keys = {name: each.keys(found[16], now=NOW, random_bytes=stream_of(f"p {name}")) for name, each in parties.items()}
    bundles = [unpack(each)[1] for each in keys.values()]
    ctx = bundles[0]["ctx"]
    found[18] = pack(18, {"ctx": ctx, "bundles": bundles}, {})
    dealt = {name: each.shares(found[18]) for name, each in parties.items()}

    def deliveries(receiver: str) -> list[dict[str, Any]]:
        return [
            {"sender": name, **share}
            for name, frame in dealt.items()
            for share in unpack(frame)[1]["shares"]
            if share["receiver"] == receiver
        ]

    asks = {n: pack(20, {"ctx": ctx, "deliveries": deliveries(n), "inputs": {}}, {}) for n in ("amber", "birch")}
    vectors = {name: parties[name].vector(frame) for name, frame in asks.items()}
    found[22] = pack(22, {"ctx": ctx, "active": [{"client": "amber"}, {"client": "birch"}]}, {})
    signatures = {name: parties[name].signature(found[22]) for name in asks}
    found[24] = pack(24, {"ctx": ctx, "signatures": [unpack(signatures["birch"])[1]]}, {})
    opening = parties["amber"].opening(found[24], colluding=0)
    replies = (keys["amber"], dealt["amber"], vectors["amber"], signatures["amber"], opening)
    found |= complaint(parties["amber"], unpack(dealt["birch"])[1])
    return {**found, 20: asks["amber"], **dict(zip(range(17, 26, 2), replies, strict=True))}


def complaint(amber: PairwiseTenant, dealing: dict[str, Any]) -> dict[int, bytes]:
    """Had birch dealt amber shares that do not open: what amber says, is asked and proves."""
    ctx, root = (bytes.fromhex(dealing[name]) for name in ("ctx", "root"))
    spoilt = [{**share, "sealed": flip(share["sealed"])} if share["receiver"] == "amber" else share
              for share in dealing["shares"]]  # fmt: skip
    parts = [
        part
        for share in spoilt
        for part in (share["receiver"].encode(), *(bytes.fromhex(share[name]) for name in SEALED_FIELDS))
    ]
    message = joined(b"zhiyin/pairwise-dealing/1", ctx, root, b"birch", *parts)
    spoilt_dealing = {**dealing, "shares": spoilt, "signature": signed("birch", message)}
    signature = bytes.fromhex(spoilt_dealing["signature"])
    dealt = sha256(joined(b"zhiyin/share-complaint/1", message, signature))
    statement = joined(b"zhiyin/share-complaint-statement/1", ctx, root, b"amber", b"birch", dealt)
    point, proof = prove(*amber.seal_keys("birch"), statement)
    told = joined(b"zhiyin/share-complaint/1", ctx, root, b"amber", b"birch", dealt, point, proof)
    said = {"client": "amber", "ctx": ctx.hex(), "dealer": "birch"}
    proved = {"root": root.hex(), "dealt": dealt.hex(), "exchange": point.hex(), "proof": proof.hex()}
    return {
        26: pack(26, said, {}),
        27: pack(27, spoilt_dealing, {}),
        28: pack(28, {**said, **proved, "signature": signed("amber", told)}, {}),
    }


NAMES = {
    1: "ContributionRequest", 2: "ContributionReply", 3: "UnmaskRequest", 4: "UnmaskReply", 5: "Refusal",
    6: "SealComplaint", 16: "KeysRequest", 17: "KeysReply", 18: "DealRequest", 19: "DealReply", 20: "MaskRequest",
    21: "MaskReply", 22: "SignRequest", 23: "SignReply", 24: "OpenRequest", 25: "OpenReply",
    26: "SharesUnopened", 27: "ProofRequest", 28: "ProofReply",
}  # fmt: skip


def message(kind: int, good: bytes) -> dict[str, Any]:
    bad = [changed(good, data, why, "MalformedMessage") for why, data in bad_frames(kind, good).items()]
    header = unpack(good)[1]
    if "signature" in header:
        flipped = good.replace(header["signature"].encode(), flip(header["signature"]).encode())
        bad.append(changed(good, flipped, "a flipped bit of the signature", "BadSignature"))
    return {"kind": kind, "name": NAMES[kind], "frame": good.hex(), "bad": bad}


def flip(digits: str) -> str:
    return f"{int(digits[0], 16) ^ 1:x}{digits[1:]}"


def bad_frames(kind: int, good: bytes) -> dict[str, bytes]:
    """Frames that no decoder takes, whatever the kind; then those that are wrong in a field of this kind."""
    _, header, sections = unpack(good)
    size = struct.unpack(">I", good[6:10])[0]
    raw, rest = good[10 : 10 + size], good[10 + size :]

    def by_hand(fresh: bytes, after: bytes = rest, declared: int | None = None) -> bytes:
        return good[:6] + struct.pack(">I", len(fresh) if declared is None else declared) + fresh + after

    first = sorted(header)[0]
    more = struct.pack(">H", len(sections) + 1) + rest[2:]
    escaped = raw.replace(b'"' + first.encode(), b'"\\u%04x' % ord(first[0]) + first[1:].encode(), 1)
    found = {
        "cut by a byte": good[:-1],
        "cut inside the header": good[: 10 + size // 2],
        "cut inside the start": good[:9],
        "nothing": b"",
        "another magic": b"ZHIX" + good[4:],
        "version 2": good[:4] + b"\x02" + good[5:],
        "version 0": good[:4] + b"\x00" + good[5:],
        "kind 0": good[:5] + b"\x00" + good[6:],
        "an unknown kind": good[:5] + b"\xc8" + good[6:],
        "a byte after the end": good + b"\x00",
        "a key twice": by_hand(b"{" + canonical({first: header[first]})[1:-1] + b"," + raw[1:]),
        "white space": by_hand(b"{ " + raw[1:]),
        "an escape that is not needed": by_hand(escaped),
        "NaN": by_hand(raw[:-1] + b',"zz":NaN}'),
        "infinity": by_hand(raw[:-1] + b',"zz":1e999}'),
        "half a surrogate pair": by_hand(raw[:-1] + b',"zz":"\\ud800"}'),
        "not UTF-8": by_hand(raw[:-1] + b',"zz":"\xff"}'),
        "deep nesting": by_hand(raw[:-1] + b',"zz":' + NESTED + b"}"),
        "a list for a header": by_hand(b"[" + raw + b"]"),
        "a header declared longer than the frame": by_hand(raw, declared=4 * 2**20),
        "a header declared longer than any may be": by_hand(raw, declared=2**32 - 1),
        "65535 sections declared": by_hand(raw, after=b"\xff\xff" + rest[2:]),
        "a section declared longer than memory": by_hand(raw, after=more + b"\x02zz\x7f" + b"\xff" * 7),
        "a section too many": pack(kind, header, {**sections, "zz": b""}),
        "a section without a name": by_hand(raw, after=more[:2] + b"\x00" + bytes(8) + rest[2:]),
        "a field too many": pack(kind, {**header, "zz": 1}, sections),
    }
    for name in sections:
        without = {other: data for other, data in sections.items() if other != name}
        found[f"without the section {name}"] = pack(kind, header, without)
    for name, value in header.items():
        without = {other: each for other, each in header.items() if other != name}
        found[f"without {name}"] = pack(kind, without, sections)
        for why, wrong in wrong_values(name, value).items():
            found[f"{name}: {why}"] = pack(kind, {**header, name: wrong}, sections)
    return found


def wrong_values(name: str, value: Any) -> dict[str, Any]:
    if type(value) is int:
        return {"a fraction": 1.5, "below zero": -1, "2^53": 2**53, "true": True, "text": "1"}
    if isinstance(value, str) and len(value) in (64, 128):
        return {"too short": value[:-2], "too long": value + "00", "upper case": "A" + value[1:], "null": None}
    if isinstance(value, str):
        return {"overlong": "a" * 1_001, "a number": 7}
    if isinstance(value, list):
        return {"no list": {}, "a list of numbers": [1], "a list too long": [{}] * 4_001}
    return {"a list": [], "null": None}


# --- documents ---


def documents() -> dict[str, Any]:
    return {"roster": rosters(), "certificate": certificates(), "enrolment": enrolments(), "plan": plans(),
            "catalogue": catalogues(), "artifact": artifacts()}  # fmt: skip


def rosters() -> dict[str, Any]:
    fields = roster_fields()
    good = signed_roster(canonical(fields))
    entries = fields["entries"]

    def entry(index: int, **changes: Any) -> bytes:
        new = [{**each, **changes} if place == index else each for place, each in enumerate(entries)]
        return canonical({**fields, "entries": new})

    bodies = {
        "nothing": b"",
        "not JSON": b"{",
        "NaN for an epoch": canonical(fields).replace(b'"epoch":7', b'"epoch":NaN'),
        "deep nesting": NESTED,
        "a list": b"[]",
        "another format": canonical({**fields, "format": "zhiyin-roster-1"}),
        "epoch 0": canonical({**fields, "epoch": 0}),
        "epoch 2^53": canonical({**fields, "epoch": 2**53}),
        "epoch true": canonical({**fields, "epoch": True}),
        "times in the other order": canonical({**fields, "issued_at": 1_000, "expires_at": 10}),
        "a field too many": canonical({**fields, "zz": 1}),
        "an entry too many fields": entry(0, zz=1),
        "a name that is none": entry(0, name="Amber"),
        "a name twice": entry(0, name="birch"),
        "a signing key twice": entry(0, signing_key=public("birch")),
        "a short key": entry(0, signing_key=public("amber")[:-2]),
        "a helper without a sealing key": entry(3, sealing=None),
        "a role that is none": entry(0, roles=["auditor"]),
        "a role twice": entry(0, roles=["tenant", "tenant"]),
        "no role": entry(0, roles=[]),
        "a time that is no whole number": entry(0, not_after=2.5),
        "a key twice": canonical(fields).replace(b'"epoch":7', b'"epoch":8,"epoch":7'),
    }
    bad = [changed(good, signed_roster(body), why, "MalformedMessage") for why, body in bodies.items()]
    flipped = bytes([good[0] ^ 1]) + good[1:]
    bad += [
        changed(good, flipped, "a flipped bit of the signature", "BadSignature"),
        changed(good, good[:63], "cut inside the signature", "BadSignature"),
        changed(good, good[:-1], "cut", "BadSignature"),
        changed(good, good + b"\n", "a byte too many", "BadSignature"),
        changed(good, good, "not yet valid", "ExpiredKey", now=9),
        changed(good, good, "expired", "ExpiredKey", now=1_000),
    ]
    return {"good": good.hex(), "issuer": public("issuer"), "digest": sha256(good[64:]).hex(), "bad": bad}


def certificates() -> dict[str, Any]:
    fields = certificate("north")
    good = canonical(fields)
    cases = {
        "the key of another": ({**fields, "key": public_of(secret("seal", "south")).hex()}, "BadSignature"),
        "a flipped bit of the signature": ({**fields, "signature": flip(fields["signature"])}, "BadSignature"),
        "a longer validity": ({**fields, "not_after": 3_000}, "BadSignature"),
        "a short key": ({**fields, "key": "ab"}, "MalformedMessage"),
        "a short signature": ({**fields, "signature": fields["signature"][2:]}, "MalformedMessage"),
        "times in the other order": ({**fields, "not_before": 2_001}, "MalformedMessage"),
        "a time below zero": ({**fields, "not_before": -1}, "MalformedMessage"),
        "a field too many": ({**fields, "zz": 1}, "MalformedMessage"),
    }
    bad = [changed(good, canonical(data), why, error) for why, (data, error) in cases.items()]
    bad.append(changed(good, good, "over", "ExpiredKey", now=2_001))
    return {"good": good.hex(), "name": "north", "signing_key": public("north"), "bad": bad}


def node_key(private: int) -> str:
    key = ec.derive_private_key(private, ec.SECP384R1()).public_key()
    return key.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()


def compressed_node_key() -> str:
    parts = (b"ecdsa-sha2-nistp384", b"nistp384", b"\x02" + bytes(48))
    blob = b"".join(struct.pack(">I", len(part)) + part for part in parts)
    return "ecdsa-sha2-nistp384 " + base64.b64encode(blob).decode()


def enrolment(fields: Any, signer: str = "north", kind: str = "zhiyin-enrolment-1") -> bytes:
    signature = signed(signer, b"zhiyin-enrolment-1\x00" + canonical(fields))
    return json.dumps({"kind": kind, "fields": fields, "signature": signature}, indent=2).encode() + b"\n"


def enrolments() -> dict[str, Any]:
    fields = {
        "name": "north",
        "roles": ["helper"],
        "signing_key": public("north"),
        "sealing": certificate("north"),
        "node_public_key": node_key(7),
        "created_at": 20,
    }
    good = enrolment(fields)
    resigned = {
        "a name that is none": {"name": "../north"},
        "a role that is none": {"roles": ["auditor"]},
        "a helper without a sealing key": {"sealing": None},
        "a tenant with a sealing key": {"roles": ["tenant"]},
        "a node key that is none": {"node_public_key": "ssh-ed25519 AAAA"},
        "a node key with a compressed point": {"node_public_key": compressed_node_key()},
        "a node key with a comment": {"node_public_key": node_key(7) + " north"},
        "a node key with two blanks": {"node_public_key": node_key(7).replace(" ", "  ")},
        "a node key with a blank at its end": {"node_public_key": node_key(7) + " "},
        "a time that is none": {"created_at": -1},
        "a field too many": {"zz": 1},
        "a short signing key": {"signing_key": "ab"},
    }
    cases = {why: (enrolment({**fields, **change}), "MalformedMessage") for why, change in resigned.items()}
    cases |= {
        "signed by another": (enrolment(fields, "south"), "BadSignature"),
        "changed after it was signed": (good.replace(b'"created_at": 20', b'"created_at": 21'), "BadSignature"),
        "another kind": (enrolment(fields, kind="zhiyin-register-1"), "MalformedMessage"),
        "cut": (good[:-3], "MalformedMessage"),
        "deep nesting": (b'{"fields":' + NESTED + b',"kind":"zhiyin-enrolment-1","signature":""}', "MalformedMessage"),
        "NaN": (good.replace(b'"created_at": 20', b'"created_at": NaN'), "MalformedMessage"),
        "a key twice": (good.replace(b'"kind"', b'"fields": {}, "kind"'), "MalformedMessage"),
        "a field twice": (good.replace(b'"created_at": 20', b'"created_at": 21, "created_at": 20'), "MalformedMessage"),
        "another's certificate": (enrolment({**fields, "sealing": certificate("south")}), "BadSignature"),
    }
    bad = [changed(good, data, why, error) for why, (data, error) in cases.items()]
    return {"good": good.hex(), "bad": [*bad, changed(good, good, "over", "ExpiredKey", now=2_001)]}


def plans() -> dict[str, Any]:
    good = canonical(plan())
    wrong = {
        "another format": {"format": "zhiyin-plan-2"},
        "a field too many": {"zz": 1},
        "a job name that is none": {"job_id": "Golden"},
        "a digest that is none": {"catalogue_digest": "cd"},
        "bits that are none": {"bits": 20},
        "noise that is none": {"noise": "little"},
        "noise of the other topology": {"noise": "shared"},
        "epsilon zero": {"epsilon": 0.0},
        "a real number without a point": {"mu": 1},
        "one in the recipe": {"recipe": {**plan()["recipe"], "gamma": 1}},
        "a whole number with a point": {"min_users": 2.0},
        "one cohort, said": {"cohorts": 1, "trim": 0, "max_spread": 2.0},
        "a fraction for a number": {"min_users": 2.5},
        "true for a number": {"min_users": True},
        "2^53": {"max_users": 2**53},
        "fewer users than the least": {"max_users": 1},
        "one helper": {"helpers": ["north"]},
        "a helper twice": {"helpers": ["north", "north"]},
        "a helper that is a number": {"helpers": ["north", 7]},
        "helpers that are text": {"helpers": "ns"},
        "pairwise numbers with helpers": {"degree": 2},
        "a recipe that is none": {"recipe": {"name": "magic"}},
        "a head larger than the catalogue": {"num_items": 1},
        "a recipe with a field too many": {"recipe": {**plan()["recipe"], "zz": 1}},
        "a list for a name": {"noise": ["none"]},
        "an integer too large for a float": {"mu": 10**400},
    }
    cases = {why: canonical(plan(**change)) for why, change in wrong.items()}
    cases["without a field"] = canonical({name: value for name, value in plan().items() if name != "mu"})
    cases["a list"] = b"[]"
    cases["more parties than may be"] = canonical({**PAIRWISE, "num_parties": 2**30, "degree": 2**29})
    rounds = {"name": "recon", "num_factors": 1, "num_rounds": 2**40, "num_head_items": 2, "max_items_per_user": 2}
    numbers = {name: 1.0 for name in ("ridge", "negative_weight", "learning_rate", "init_std", "max_grad_norm")}
    tiny = {**rounds, **numbers, "num_rounds": 1, "max_grad_norm": 9e-07, "momentum": 0.5, "init_seed": 1}
    cases["a clip below the least"] = canonical(plan(recipe=tiny))
    cases["more rounds than may be"] = canonical(plan(recipe={**rounds, **numbers, "momentum": 0.5, "init_seed": 1}))
    bad = [changed(good, data, why, "MalformedMessage") for why, data in cases.items()]
    return {"good": good.hex(), "digest": sha256(good).hex(), "bad": bad}


def catalogues() -> dict[str, Any]:
    item = {"id": "a", "title": "A", "category": "", "text": "", "language": "en"}
    header = {"format": "zhiyin-catalogue-1", "version": 3, "num_features": 2, "items": [item, {**item, "id": "b"}]}
    rows = struct.pack("<4f", 1.0, 0.0, 0.0, 1.0)
    good = canonical(header) + b"\n" + rows

    def headed(rest: bytes = rows, /, **changes: Any) -> bytes:
        return canonical({**header, **changes}) + b"\n" + rest

    cases = {
        "cut": good[:-1],
        "a byte too many": good + b"\x00",
        "a header alone": canonical(header),
        "not JSON": b"{\n" + rows,
        "a list": b"[]\n" + rows,
        "deep nesting": NESTED + b"\n",
        "another format": headed(format="zhiyin-catalogue-2"),
        "no items": headed(b"", items=[]),
        "an id twice": headed(items=[item, item]),
        "an id that is a number": headed(items=[item, {**item, "id": 5}]),
        "an item with a field too many": headed(items=[item, {**item, "id": "b", "zz": 1}]),
        "features below zero": headed(num_features=-1),
        "a key twice": good.replace(b'"version":3', b'"version":2,"version":3'),
        "infinite features": good.replace(b'"num_features":2', b'"num_features":1e999'),
        "a version that is no whole number": headed(version="3"),
        "huge features": headed(num_features=2**52),
        "a feature that is not finite": good[:-4] + struct.pack("<f", float("nan")),
    }
    bad = [changed(good, data, why, "MalformedFile") for why, data in cases.items()]
    return {"good": good.hex(), "digest": sha256(good).hex(), "bad": bad}


def tensors(header: Any, data: bytes) -> bytes:
    raw = canonical(header)
    raw += b" " * (-len(raw) % 8)
    return struct.pack("<Q", len(raw)) + raw + data


def manifest(body: dict[str, Any]) -> bytes:
    signature = signed("publisher", b"zhiyin model manifest 1\x00" + canonical(body))
    return canonical({**body, "signature": signature}) + b"\n"


def artifacts() -> dict[str, Any]:
    model = tensors({"popularity": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}, struct.pack("<2f", 3, 1))
    gaussian = {"kind": "discrete-gaussian", "noise_std": 10_000, "sensitivity": 1000.0, "num_coordinates": 2}
    privacy = {
        "epsilon": 1.0, "delta": 1e-06, "against": "the server", "mechanisms": [gaussian], "tuned_on_data": False,
        "scope": "this job", "unit": "user", "adjacency": "add or remove one user",
    }  # fmt: skip
    body = {
        "format": "zhiyin-model-1",
        "name": "market",
        "version": 1,
        "created": 100,
        "recipe": "cooccurrence",
        "catalogue_digest": "cd" * 32,
        "plan_digest": "ab" * 32,
        "settings": {},
        "privacy": privacy,
        "model_sha256": sha256(model).hex(),
        "model_size_bytes": len(model),
        "publisher": public("publisher"),
    }
    good = manifest(body)
    cases = {
        "cut": good[:-3],
        "not JSON": b"{",
        "a list": b"[]",
        "deep nesting": NESTED,
        "a flipped bit of the signature": good.replace(
            json.loads(good)["signature"].encode(), flip(json.loads(good)["signature"]).encode()
        ),
        "a changed field": good.replace(b'"version":1', b'"version":2'),
        "a key twice": good.replace(b'"version":1', b'"version":2,"version":1'),
        "signed without the label": canonical({**body, "signature": signed("publisher", canonical(body))}),
        "another format": manifest({**body, "format": "zhiyin-model-2"}),
        "without a digest of the model": manifest({k: v for k, v in body.items() if k != "model_sha256"}),
        "without a statement": manifest({k: v for k, v in body.items() if k != "privacy"}),
        "an unknown mechanism": manifest({**body, "privacy": {**privacy, "mechanisms": [{"kind": "magic"}]}}),
        "an epsilon that is an integer too large": manifest({**body, "privacy": {**privacy, "epsilon": 10**400}}),
        "a catalogue that is a number": manifest({**body, "catalogue_digest": 7}),
        "settings that are text": manifest({**body, "settings": "none"}),
        "a version that is text": manifest({**body, "version": "1"}),
    }
    bad = [changed(good, data, why, "ArtifactRejected") for why, data in cases.items()]
    other = [
        changed(model, model[:-1] + b"\xff", "a changed byte", "ArtifactRejected"),
        changed(model, model[:-1], "cut", "ArtifactRejected"),
    ]
    return {"good": good.hex(), "model": model.hex(), "publisher": public("publisher"), "bad": bad, "bad_models": other}


def vectors() -> dict[str, Any]:
    frames = {**helped_messages(), **pairwise_messages()}
    return {
        "now": NOW,
        "messages": [message(kind, frames[kind]) for kind in sorted(frames)],
        "documents": documents(),
    }


if __name__ == "__main__":
    print(json.dumps(vectors(), indent=None).replace('}, {"why"', '},\n{"why"'))
