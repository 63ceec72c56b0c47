"""A second, plain implementation of the formats, from their description and not from the product's code.

`python -m tests.golden.secagg_reference` prints secagg_vectors.json. It shares the primitives of `cryptography` with
the product, which the published vectors in the same file pin down, and nothing else; BLAKE3 is a second one here too.
"""

import hashlib
import hmac
import json
import struct
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from tests.golden.blake3_reference import blake3


def hkdf(secret: bytes, salt: bytes, info: bytes) -> bytes:
    extracted = hmac.digest(salt or bytes(32), secret, "sha256")
    return hmac.digest(extracted, info + b"\1", "sha256")


def joined(*fields: bytes) -> bytes:
    return b"".join(struct.pack(">Q", len(field)) + field for field in fields)


def sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def canonical(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def context(fields: dict[str, Any]) -> bytes:
    numbers = [struct.pack(">Q", fields[name]) for name in ("step", "attempt", "num_coordinates", "bits")]
    inputs, roster = bytes.fromhex(fields["inputs_digest"]), bytes.fromhex(fields["roster_digest"])
    plan, job = bytes.fromhex(fields["plan_digest"]), fields["job_id"].encode()
    return sha256(joined(b"zhiyin/context/1", plan, job, *numbers, inputs, roster))


def stream(seed: bytes, ctx: bytes, size: int) -> bytes:
    key = hkdf(seed, ctx, b"zhiyin/mask/1")
    return Cipher(algorithms.AES256(key), modes.CTR(bytes(16))).encryptor().update(bytes(size))


def mask(seed: bytes, ctx: bytes, bits: int, size: int) -> list[int]:
    width = {16: 2, 24: 4, 32: 4, 64: 8}[bits]
    raw = stream(seed, ctx, width * size)
    return [int.from_bytes(raw[i : i + width], "little") % 2**bits for i in range(0, len(raw), width)]


def packed(values: list[int], bits: int) -> bytes:
    return b"".join((value % 2**bits).to_bytes(bits // 8, "little") for value in values)


def seal(public: bytes, secret: bytes, associated: bytes, ephemeral: bytes) -> bytes:
    own = X25519PrivateKey.from_private_bytes(ephemeral)
    own_public = own.public_key().public_bytes_raw()
    agreed = own.exchange(X25519PublicKey.from_public_bytes(public))
    key = hkdf(agreed, b"", b"zhiyin/seal/1" + own_public + public)
    return own_public + ChaCha20Poly1305(key).encrypt(bytes(12), secret, associated)


def frame(kind: int, header: dict[str, Any], sections: dict[str, bytes]) -> bytes:
    raw = canonical(header)
    parts = b"".join(
        bytes([len(name)]) + name.encode() + struct.pack(">Q", len(data)) + data
        for name, data in sorted(sections.items())
    )
    return b"ZHIY" + struct.pack(">BBI", 1, kind, len(raw)) + raw + struct.pack(">H", len(sections)) + parts


FIELDS = {
    "plan_digest": "11" * 32,
    "job_id": "autumn-1",
    "step": 1,
    "attempt": 2,
    "num_coordinates": 5,
    "bits": 24,
    "inputs_digest": "22" * 32,
    "roster_digest": "33" * 32,
}
VALUES = {"amber": [1, -1, 0, 8_388_607, -8_388_608], "birch": [5, 6, 7, -8, 9]}
HELPERS = ("north", "south", "east")
# One seed a slot, sealed to each of its holders: without a spare helper, and with one of three.
SHARINGS = {
    "two helpers": [("north", ["north"]), ("south", ["south"])],
    "two of three": [
        ("east+north", ["east", "north"]),
        ("east+south", ["east", "south"]),
        ("north+south", ["north", "south"]),
    ],
}
ASKED = {
    "two helpers": [("north", ["north"]), ("south", ["south"])],
    "two of three": [("east", ["east+north", "east+south"]), ("south", ["north+south"])],
}


def private(what: str, name: str) -> bytes:
    return sha256(f"{what} {name}".encode())


def sealing_public(name: str) -> bytes:
    return X25519PrivateKey.from_private_bytes(private("seal", name)).public_key().public_bytes_raw()


def contribution(client: str, ctx: bytes, sharing: str) -> dict[str, Any]:
    values, seals = list(VALUES[client]), []
    seeds, ephemerals = [], []
    for slot, holders in SHARINGS[sharing]:
        seed = private(f"seed {client}", slot)
        seeds.append(seed)
        values = [value - term for value, term in zip(values, mask(seed, ctx, 24, 5), strict=True)]
        for helper in holders:
            ephemeral = private(f"ephemeral {client} {slot}", helper)
            ephemerals.append(ephemeral)
            associated = joined(b"zhiyin/seal-to/2", ctx, client.encode(), slot.encode(), helper.encode())
            seals.append((slot, helper, seal(sealing_public(helper), seed, associated, ephemeral)))
    masked = packed(values, 24)
    parts = [part for slot, helper, sealed in seals for part in (slot.encode(), helper.encode(), sealed)]
    message = joined(b"zhiyin/contribution/3", ctx, client.encode(), struct.pack(">Q", 40), blake3(masked), *parts)
    signature = Ed25519PrivateKey.from_private_bytes(private("sign", client)).sign(message)
    header = {
        "client": client,
        "ctx": ctx.hex(),
        "declared_users": 40,
        "seals": [{"slot": slot, "helper": helper, "seal": sealed.hex()} for slot, helper, sealed in seals],
        "signature": signature.hex(),
    }
    return {
        "client": client,
        "declared_users": 40,
        "values": VALUES[client],
        "random": b"".join(seeds + ephemerals).hex(),
        "masked": masked.hex(),
        "signature": signature.hex(),
        "frame": frame(2, header, {"masked": masked}).hex(),
    }


def answer(helper: str, slots: list[str], ctx: bytes, made: list[dict[str, Any]]) -> dict[str, Any]:
    total = [0] * 5
    for client in VALUES:
        for slot in slots:
            seed = private(f"seed {client}", slot)
            total = [value + term for value, term in zip(total, mask(seed, ctx, 24, 5), strict=True)]
    mask_sum = packed(total, 24)
    parts = [part for each in made for part in cohort_part(each)]
    cohort = sha256(joined(b"zhiyin/cohort/2", *parts))
    named = joined(*(slot.encode() for slot in slots))
    message = joined(b"zhiyin/answer/3", ctx, helper.encode(), named, cohort, blake3(mask_sum))
    signature = Ed25519PrivateKey.from_private_bytes(private("sign", helper)).sign(message)
    header = {
        "helper": helper,
        "ctx": ctx.hex(),
        "slots": slots,
        "cohort": cohort.hex(),
        "signature": signature.hex(),
    }
    return {
        "helper": helper,
        "slots": slots,
        "mask_sum": mask_sum.hex(),
        "frame": frame(4, header, {"mask_sum": mask_sum}).hex(),
    }


def aggregation(sharing: str, ctx: bytes) -> dict[str, Any]:
    made = [contribution(client, ctx, sharing) for client in VALUES]
    return {
        "helpers": sorted({helper for _, holders in SHARINGS[sharing] for helper in holders}),
        "spare": len(SHARINGS[sharing][0][1]) - 1,
        "contributions": made,
        "answers": [answer(helper, slots, ctx, made) for helper, slots in ASKED[sharing]],
        "sum": [(sum(column) + 2**23) % 2**24 - 2**23 for column in zip(*VALUES.values(), strict=True)],
    }


def complaint(helper: str, client: str, ctx: bytes) -> dict[str, Any]:
    message = joined(b"zhiyin/complaint/1", ctx, helper.encode(), client.encode())
    signature = Ed25519PrivateKey.from_private_bytes(private("sign", helper)).sign(message)
    header = {"helper": helper, "ctx": ctx.hex(), "client": client, "signature": signature.hex()}
    return {"helper": helper, "client": client, "frame": frame(6, header, {}).hex()}


def cohort_part(made: dict[str, Any]) -> tuple[bytes, bytes, bytes]:
    return made["client"].encode(), blake3(bytes.fromhex(made["masked"])), bytes.fromhex(made["signature"])


def bad_frames(good: bytes) -> list[dict[str, str]]:
    refusal = {"party": "amber", "error": "E", "message": "m"}
    raw = canonical(refusal)

    def by_hand(header: bytes, start: bytes = b"ZHIY\1\5", rest: bytes = b"\0\0") -> bytes:
        return start + struct.pack(">I", len(header)) + header + rest

    cases = {
        "another magic": b"ZHIX" + good[4:],
        "another version": good[:4] + b"\2" + good[5:],
        "an unknown kind": good[:5] + b"\7" + good[6:],
        "a contribution that calls itself a complaint": good[:5] + b"\6" + good[6:],
        "cut": good[:-1],
        "a byte too many": good + b"\0",
        "white space in the header": by_hand(b" " + raw),
        "keys out of order": by_hand(b'{"party":"amber","error":"E","message":"m"}'),
        "a key twice": by_hand(b'{"error":"E","error":"E","message":"m","party":"amber"}'),
        "NaN": by_hand(b'{"error":"E","message":NaN,"party":"amber"}'),
        "a section too many": by_hand(raw, rest=b"\0\1\1a" + bytes(8)),
        "a section longer than the frame": by_hand(raw, rest=b"\0\1\1a" + b"\xff" * 8),
        "a field missing": by_hand(b'{"error":"E","message":"m"}'),
        "a name that is none": by_hand(canonical({**refusal, "party": "../x"})),
    }
    return [{"why": why, "frame": data.hex()} for why, data in cases.items()]


def certificate(name: str) -> dict[str, Any]:
    fields = {"key": sealing_public(name).hex(), "not_before": 0, "not_after": 2000}
    signing = Ed25519PrivateKey.from_private_bytes(private("sign", name))
    message = b"zhiyin/sealing-key/1\0" + canonical({"name": name, **fields})
    return {**fields, "signature": signing.sign(message).hex()}


def roster() -> dict[str, Any]:
    entries = [
        {
            "name": name,
            "signing_key": Ed25519PrivateKey.from_private_bytes(private("sign", name))
            .public_key()
            .public_bytes_raw()
            .hex(),
            "sealing": certificate(name) if name in HELPERS else None,
            "roles": ["helper"] if name in HELPERS else ["tenant"],
            "not_before": 0,
            "not_after": 2000,
        }
        for name in (*VALUES, *HELPERS)
    ]
    body = canonical({"format": "zhiyin-roster-2", "epoch": 7, "issued_at": 10, "expires_at": 1000, "entries": entries})
    issuer = Ed25519PrivateKey.from_private_bytes(private("sign", "issuer"))
    signed = issuer.sign(b"zhiyin/roster/2\0" + body) + body
    moved = issuer.sign(body) + body
    return {
        "issuer": issuer.public_key().public_bytes_raw().hex(),
        "signed": signed.hex(),
        "digest": sha256(body).hex(),
        "bad": [
            {"why": "signed without the label", "signed": moved.hex(), "now": 500, "error": "BadSignature"},
            {"why": "a changed byte", "signed": (signed[:-1] + b" ").hex(), "now": 500, "error": "BadSignature"},
            {"why": "not yet valid", "signed": signed.hex(), "now": 9, "error": "ExpiredKey"},
            {"why": "expired", "signed": signed.hex(), "now": 1000, "error": "ExpiredKey"},
        ],
    }


def seals() -> dict[str, Any]:
    secret, associated, ephemeral = bytes(range(32)), b"for this round", private("ephemeral", "golden")
    good = seal(sealing_public("north"), secret, associated, ephemeral)
    flipped = {
        f"byte {at} flipped": good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :] for at in (0, 31, 32, 63, 64, 79)
    }
    bad = {**flipped, "short": good[:-1], "long": good + b"\0", "a point of low order": bytes(32) + good[32:]}
    return {
        "private_key": private("seal", "north").hex(),
        "ephemeral": ephemeral.hex(),
        "secret": secret.hex(),
        "associated": associated.hex(),
        "seal": good.hex(),
        "bad": [{"why": why, "seal": data.hex(), "associated": associated.hex()} for why, data in bad.items()]
        + [{"why": "other associated data", "seal": good.hex(), "associated": b"for another".hex()}],
    }


PUBLISHED = {
    "RFC 7748 6.1": {
        "private": "5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb",
        "public": "8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a",
        "shared": "4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742",
    },
    "RFC 8032 7.1 test 1": {
        "private": "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
        "message": "",
        "signature": "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46b"
        "d25bf5f0595bbe24655141438e7a100b",
    },
    "RFC 8439 2.8.2": {
        "key": bytes(range(0x80, 0xA0)).hex(),
        "nonce": "070000004041424344454647",
        "associated": "50515253c0c1c2c3c4c5c6c7",
        "plaintext": b"Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, "
        b"sunscreen would be it.".hex(),
        "ciphertext_start": "d31a8d34648e60db7b86afbc53ef7ec2",
        "tag": "1ae10b594f09e26a7e902ecbd0600691",
    },
    "RFC 5869 A.1": {
        "secret": "0b" * 22,
        "salt": "000102030405060708090a0b0c",
        "info": "f0f1f2f3f4f5f6f7f8f9",
        "output": "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865",
    },
    "NIST SP 800-38A F.5.5": {
        "key": "603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4",
        "counter": "f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff",
        "plaintext": "6bc1bee22e409f96e93d7e117393172a",
        "ciphertext": "601ec313775789a5b7a7f504bbf3d228",
    },
}


# --- topology P ---

TRIO = ("amber", "birch", "cedar")
NUMBERS = {"num_parties": 3, "degree": 2, "threshold": 2, "min_active": 2}
FIELD = 2**256 + 297


def shamir() -> dict[str, Any]:
    """Shares from coefficients written out, and the secret back from them by Lagrange in fractions of the field."""
    secret, coefficients, points = bytes(range(32)), [5, FIELD - 1, 2**255], [1, 2, 7, 100]
    constant = int.from_bytes(secret, "big")
    values = [(constant + sum(a * x**power for power, a in enumerate(coefficients, 1))) % FIELD for x in points]
    shares = [value.to_bytes(33, "big").hex() for value in values]
    wrong = [(values[0] + 1) % FIELD, *values[1:]]
    recovered = 0
    for x, y in zip(points, wrong, strict=True):
        above = below = 1
        for other in points:
            if other != x:
                above, below = above * -other, below * (x - other)
        recovered += y * above * pow(below, FIELD - 2, FIELD)
    return {
        "secret": secret.hex(),
        # As they are drawn: the highest power first.
        "random": b"".join(a.to_bytes(33, "big") for a in reversed(coefficients)).hex(),
        "points": points,
        "shares": shares,
        "bad": [
            {"why": "the modulus itself", "share": FIELD.to_bytes(33, "big").hex(), "error": "WrongShare"},
            {"why": "a byte short", "share": shares[0][2:], "error": "WrongShare"},
            {"why": "a byte long", "share": "00" + shares[0], "error": "WrongShare"},
        ],
        "another": {"share": wrong[0].to_bytes(33, "big").hex(), "opens_to": f"{recovered % FIELD:064x}"},
    }


def graph() -> dict[str, Any]:
    root, members = sha256(b"a root"), [f"party-{index}" for index in range(9)]
    order = sorted(members, key=lambda name: sha256(joined(b"zhiyin/pairwise-order/1", root, name.encode())))
    around = {name: sorted(order[(place + step) % 9] for step in (-2, -1, 1, 2)) for place, name in enumerate(order)}
    return {"root": root.hex(), "members": members, "degree": 4, "order": order, "neighbours": around}


def pairwise_ctx(base: bytes) -> bytes:
    return sha256(joined(b"zhiyin/context-pairwise/1", base, *(struct.pack(">Q", NUMBERS[n]) for n in NUMBERS)))


def exchanged(own: bytes, peer: bytes) -> bytes:
    public = X25519PrivateKey.from_private_bytes(peer).public_key()
    return X25519PrivateKey.from_private_bytes(own).exchange(public)


def public(secret: bytes) -> bytes:
    return X25519PrivateKey.from_private_bytes(secret).public_key().public_bytes_raw()


def signed_by(client: str, *fields: bytes) -> bytes:
    return Ed25519PrivateKey.from_private_bytes(private("sign", client)).sign(joined(*fields))


def keys_of(client: str, ctx: bytes) -> dict[str, Any]:
    mask_key, seal_key = public(private("pair mask", client)), public(seal_secret(client))
    commitment = sha256(joined(b"zhiyin/pairwise-self/1", ctx, client.encode(), private("pair self", client)))
    fields = (ctx, client.encode(), struct.pack(">Q", 40), mask_key, seal_key, possession(client, ctx), commitment)
    return {"message": joined(b"zhiyin/pairwise-bundle/2", *fields),
            "signature": signed_by(client, b"zhiyin/pairwise-bundle/2", *fields)}  # fmt: skip


def seal_secret(client: str) -> bytes:
    """A seal key is made as an Ed25519 key is: the first half of the seed's hash."""
    return hashlib.sha512(private("pair seal", client)).digest()[:32]


def possession(client: str, ctx: bytes) -> bytes:
    """An Ed25519 signature with the seal key's seed, and the sign of its public point in the last bit."""
    signing = Ed25519PrivateKey.from_private_bytes(private("pair seal", client))
    parts = (b"zhiyin/seal-key-possession/1", ctx, client.encode(), public(seal_secret(client)))
    number = int.from_bytes(signing.sign(joined(*parts)), "little")
    odd = int.from_bytes(signing.public_key().public_bytes_raw(), "little") >> 255
    return (number | odd << 511).to_bytes(64, "little")


def keystream(key: bytes, size: int) -> bytes:
    return Cipher(algorithms.AES256(key), modes.CTR(bytes(16))).encryptor().update(bytes(size))


def line(secret: bytes, seed: bytes, ctx: bytes, root: bytes, kind: str) -> tuple[int, int]:
    """The polynomial of degree 1 that shares a secret: its constant, and the slope drawn from the dealing seed."""
    raw = keystream(hkdf(seed, ctx, joined(b"zhiyin/pairwise-deal/1", root, kind.encode())), 33 * 64)
    for start in range(0, len(raw), 33):
        slope = int.from_bytes(raw[start : start + 33], "big") % 2**257
        if slope < FIELD:
            return int.from_bytes(secret, "big"), slope
    raise AssertionError


def dealt(client: str, ctx: bytes, root: bytes) -> list[dict[str, Any]]:
    seed = private("pair deal", client)
    lines = {kind: line(private(f"pair {what}", client), seed, ctx, root, kind)
             for kind, what in (("self", "self"), ("key", "mask"))}  # fmt: skip
    found = []
    for place, peer in enumerate(TRIO, 1):
        if peer == client:
            continue
        shares = {kind: ((constant + slope * place) % FIELD).to_bytes(33, "big")
                  for kind, (constant, slope) in lines.items()}  # fmt: skip
        ends = (client.encode(), peer.encode())
        way = joined(b"zhiyin/pairwise-seal/1", ctx, root, *ends)
        key = hkdf(exchanged(seal_secret(client), seal_secret(peer)), ctx, way)
        digests = {kind: sha256(joined(b"zhiyin/pairwise-share/1", kind.encode(), ctx, root, *ends, share))
                   for kind, share in shares.items()}  # fmt: skip
        found.append({
            "receiver": peer,
            "sealed": ChaCha20Poly1305(key).encrypt(bytes(12), shares["self"] + shares["key"], way),
            "self_digest": digests["self"],
            "key_digest": digests["key"],
            "self_share": shares["self"],
            "key_share": shares["key"],
        })  # fmt: skip
    return found


def masked_vector(client: str, ctx: bytes, values: list[int]) -> bytes:
    own = keystream(hkdf(private("pair self", client), ctx, b"zhiyin/mask/1"), 4 * len(values))
    total = [value + int.from_bytes(own[4 * i : 4 * i + 4], "little") for i, value in enumerate(values)]
    for peer in TRIO:
        if peer == client:
            continue
        low, high = sorted((client.encode(), peer.encode()))
        secret = exchanged(private("pair mask", client), private("pair mask", peer))
        raw = keystream(hkdf(secret, ctx, joined(b"zhiyin/pairwise-mask/1", low, high)), 4 * len(values))
        sign = 1 if peer < client else -1
        total = [each + sign * int.from_bytes(raw[4 * i : 4 * i + 4], "little") for i, each in enumerate(total)]
    return packed(total, 24)


def pairwise() -> dict[str, Any]:
    """A round of three, all active: what each says, from fixed secrets."""
    base = context(FIELDS)
    ctx = pairwise_ctx(base)
    keys = {client: keys_of(client, ctx) for client in TRIO}
    root = sha256(joined(b"zhiyin/pairwise-root/1", *(part for client in TRIO
                         for part in (keys[client]["message"], keys[client]["signature"]))))  # fmt: skip
    active = sha256(joined(b"zhiyin/pairwise-set/1", *(client.encode() for client in TRIO)))
    all_dealt = {client: dealt(client, ctx, root) for client in TRIO}
    parties = []
    for index, client in enumerate(TRIO):
        name, values = client.encode(), [index, -index, 8_388_607 // 3, -5, 70]
        vector = masked_vector(client, ctx, values)
        parts = [each[key] if isinstance(each[key], bytes) else each[key].encode() for each in all_dealt[client]
                 for key in ("receiver", "sealed", "self_digest", "key_digest")]  # fmt: skip
        shares = {peer: next((each["self_share"] for each in all_dealt[peer] if each["receiver"] == client), b"")
                  for peer in TRIO}  # fmt: skip
        held = joined(*(part for peer in TRIO if peer != client for part in (peer.encode(), shares[peer])))
        parties.append({
            "client": client,
            "random": b"".join(private(f"pair {what}", client) for what in ("mask", "seal", "self", "deal")).hex(),
            "values": values,
            "bundle_signature": keys[client]["signature"].hex(),
            "sealed": [each["sealed"].hex() for each in all_dealt[client]],
            "dealing_signature": signed_by(client, b"zhiyin/pairwise-dealing/1", ctx, root, name, *parts).hex(),
            "masked": vector.hex(),
            "vector_signature": signed_by(client, b"zhiyin/pairwise-vector/2", ctx, root, name, blake3(vector)).hex(),
            "active_signature": signed_by(client, b"zhiyin/pairwise-active/1", ctx, root, name, active).hex(),
            "unmasking_signature": signed_by(
                client, b"zhiyin/pairwise-unmasking/1", ctx, root, name, active, held, b"").hex(),
        })  # fmt: skip
    return {
        "numbers": NUMBERS,
        "ctx": ctx.hex(),
        "root": root.hex(),
        "parties": parties,
        "sum": [sum(column) for column in zip(*(party["values"] for party in parties), strict=True)],
    }


def vectors() -> dict[str, Any]:
    ctx = context(FIELDS)
    rounds = {sharing: aggregation(sharing, ctx) for sharing in SHARINGS}
    seed = bytes(range(32))
    return {
        "published": PUBLISHED,
        "context": {"fields": FIELDS, "ctx": ctx.hex()},
        "masks": [
            {"seed": seed.hex(), "ctx": ctx.hex(), "bits": bits, "mask": mask(seed, ctx, bits, 5)}
            for bits in (16, 24, 32, 64)
        ],
        "seal": seals(),
        "rounds": rounds,
        "complaint": complaint("south", "birch", ctx),
        "roster": roster(),
        "bad_frames": bad_frames(bytes.fromhex(rounds["two helpers"]["contributions"][0]["frame"])),
        "shamir": shamir(),
        "graph": graph(),
        "pairwise": pairwise(),
    }


if __name__ == "__main__":
    print(json.dumps(vectors(), indent=1))
