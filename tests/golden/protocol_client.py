"""A client from docs/protocol.md alone: integers, hashlib, json, struct, and primitives of `cryptography` and `blake3`.

It imports nothing of the product. What it needs and the document does not say would be a gap in the document; section
numbers in comments are the document's. It keeps no ledger and no policy, so it is no client to protect anybody with.
"""

import hashlib
import hmac
import json
import math
import struct
from collections.abc import Callable, Sequence
from itertools import combinations
from typing import Any

from blake3 import blake3
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

RandomBytes = Callable[[int], bytes]
User = Sequence[tuple[int, float]]


class Refused(Exception):
    """A message or document that this client does not accept."""


# --- 1: encodings ---


def canonical(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def joined(*fields: bytes) -> bytes:
    return b"".join(struct.pack(">Q", len(field)) + field for field in fields)


def sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def vector_digest(packed: bytes) -> bytes:
    return blake3(packed).digest()


def u64(number: int) -> bytes:
    return struct.pack(">Q", number)


# --- 2: frames ---


def pack(kind: int, header: dict[str, Any], sections: dict[str, bytes]) -> bytes:
    raw = canonical(header)
    parts = [b"ZHIY", struct.pack(">BBI", 1, kind, len(raw)), raw, struct.pack(">H", len(sections))]
    for name, data in sorted(sections.items()):
        parts += [bytes([len(name)]), name.encode("ascii"), u64(len(data)), data]
    return b"".join(parts)


def unpack(data: bytes) -> tuple[int, dict[str, Any], dict[str, bytes]]:
    at = 0

    def take(size: int) -> bytes:
        nonlocal at
        if size > len(data) - at:
            raise Refused("cut")
        at += size
        return data[at - size : at]

    magic, version, kind, size = struct.unpack(">4sBBI", take(10))
    if magic != b"ZHIY" or version != 1 or kind == 0 or size > 4 * 2**20:
        raise Refused("no frame of version 1")
    raw = take(size)
    header = json.loads(raw)
    if not isinstance(header, dict) or canonical(header) != raw:
        raise Refused("the header is not canonical")
    sections: dict[str, bytes] = {}
    for _ in range(struct.unpack(">H", take(2))[0]):
        name = take(take(1)[0]).decode("ascii")
        if sections and name <= max(sections):
            raise Refused("sections out of order")
        sections[name] = take(struct.unpack(">Q", take(8))[0])
    if at != len(data):
        raise Refused("bytes after the end")
    return kind, header, sections


# --- 3: cryptography ---


def hkdf(secret: bytes, salt: bytes, info: bytes) -> bytes:
    """32 bytes of HKDF-SHA256; an empty salt counts as 32 zero bytes."""
    extracted = hmac.digest(salt or bytes(32), secret, "sha256")
    return hmac.digest(extracted, info + b"\x01", "sha256")


def keystream(key: bytes, size: int) -> bytes:
    return Cipher(algorithms.AES256(key), modes.CTR(bytes(16))).encryptor().update(bytes(size))


def mask(key: bytes, bits: int, size: int) -> list[int]:
    width = {16: 2, 24: 4, 32: 4, 64: 8}[bits]
    raw = keystream(key, width * size)
    return [int.from_bytes(raw[at : at + width], "little") for at in range(0, len(raw), width)]


def ring_bytes(values: Sequence[int], bits: int) -> bytes:
    return b"".join((value % 2**bits).to_bytes(bits // 8, "little") for value in values)


def exchange(secret: bytes, public: bytes) -> bytes:
    return X25519PrivateKey.from_private_bytes(secret).exchange(X25519PublicKey.from_public_bytes(public))


def public_of(secret: bytes) -> bytes:
    return X25519PrivateKey.from_private_bytes(secret).public_key().public_bytes_raw()


def seal(public: bytes, secret: bytes, associated: bytes, ephemeral: bytes) -> bytes:
    own = public_of(ephemeral)
    key = hkdf(exchange(ephemeral, public), b"", b"zhiyin/seal/1" + own + public)
    return own + ChaCha20Poly1305(key).encrypt(bytes(12), secret, associated)


def sign(secret: bytes, message: bytes) -> bytes:
    return Ed25519PrivateKey.from_private_bytes(secret).sign(message)


def verify(public: str, signature: bytes, message: bytes) -> None:
    Ed25519PublicKey.from_public_bytes(bytes.fromhex(public)).verify(signature, message)


# --- 4: documents ---


def open_roster(data: bytes, issuer: str, now: int) -> dict[str, Any]:
    """The list with its digest; raises for one that the issuer did not sign or that is not valid now."""
    verify(issuer, data[:64], b"zhiyin/roster/2\x00" + data[64:])
    fields: dict[str, Any] = json.loads(data[64:])
    if fields["format"] != "zhiyin-roster-2" or not fields["issued_at"] <= now < fields["expires_at"]:
        raise Refused("the list is of another format or not valid now")
    return {
        **fields,
        "digest": sha256(canonical(fields)),
        "by_name": {each["name"]: each for each in fields["entries"]},
    }


def member(roster: dict[str, Any], name: str, role: str, now: int) -> dict[str, Any]:
    entry: dict[str, Any] = roster["by_name"][name]
    if role not in entry["roles"] or not entry["not_before"] <= now <= entry["not_after"]:
        raise Refused(f"{name} is no {role} now")
    return entry


def certificate_message(name: str, key: str, not_before: int, not_after: int) -> bytes:
    fields = {"name": name, "key": key, "not_before": not_before, "not_after": not_after}
    return b"zhiyin/sealing-key/1\x00" + canonical(fields)


def sealing_key(roster: dict[str, Any], helper: str, pinned: str, now: int) -> bytes:
    listed = member(roster, helper, "helper", now)["sealing"]
    message = certificate_message(helper, listed["key"], listed["not_before"], listed["not_after"])
    verify(pinned, bytes.fromhex(listed["signature"]), message)
    if not listed["not_before"] <= now <= listed["not_after"]:
        raise Refused("the certificate is not valid now")
    return bytes.fromhex(listed["key"])


# --- 5: the plan, its steps and the context ---


def steps(plan: dict[str, Any]) -> list[dict[str, Any]]:
    recipe, share = plan["recipe"], plan["popularity_share"]
    items, mu = plan["num_items"], plan["mu"]
    found = [("popularity", items, items, mu * math.sqrt(share))]
    if recipe["name"] == "cooccurrence":
        heads = recipe["num_head_items"]
        most = min(recipe["max_head_items_per_user"], heads)
        found.append(("pairs", heads * (heads - 1) // 2, most * (most - 1) // 2, mu * math.sqrt(1 - share)))
    else:
        rounds = recipe["num_rounds"]
        size = items * recipe["num_factors"]
        found += [("gradient", size, size, mu * math.sqrt((1 - share) / rounds))] * rounds
    return [step(plan, index, *each) for index, each in enumerate(found)]


def step(plan: dict[str, Any], index: int, kind: str, size: int, touched: int, mu: float) -> dict[str, Any]:
    clip = plan["recipe"]["max_grad_norm"] if kind == "gradient" else 1.0

    def sensitivity(scale: int) -> float:
        return (
            sum_sensitivity(scale * clip, size, plan) if kind == "gradient" else user_sensitivity(scale * clip, touched)
        )

    noises, multiplier = noises_of(plan, mu)
    scale = 2**32
    while True:
        noise = math.sqrt(noises) * (multiplier * sensitivity(scale) + 1) if noises else 0.0
        if plan["max_users"] * (scale * clip + 1) + 12 * noise <= 2 ** (plan["bits"] - 1) - 1:
            break
        scale //= 2
        if not scale:
            raise Refused("the sum does not fit the ring")
    bound = sensitivity(scale)
    return {"index": index, "kind": kind, "size": size, "clip": clip, "scale": scale, "bound": bound}


def user_sensitivity(length: float, touched: int) -> float:
    spread = math.sqrt(touched)
    return upwards(math.sqrt(min(length**2 + spread * spread / 4 + length + spread / 2, (length + spread) ** 2)))


def sum_sensitivity(length: float, size: int, plan: dict[str, Any]) -> float:
    users = plan["max_users"]
    summation = users * 2.0**-53
    relative = summation / (1 - summation) + 2.0**-30
    return upwards(length + math.sqrt(size) + 2 * relative * length * users)


def upwards(value: float) -> float:
    return math.nextafter(value * (1 + 2.0**-50), math.inf)


def noises_of(plan: dict[str, Any], mu: float) -> tuple[int, float]:
    parties, spare = plan["num_parties"], plan["spare_helpers"]
    honest = plan["min_tenants"] - plan["colluding"]
    slots = math.comb(len(plan["helpers"]), spare + 1)
    return {
        "none": lambda: (0, 0.0),
        "helpers": lambda: (slots, math.sqrt(spare + 1) / mu),
        "tenant": lambda: (1_000 if plan["topology"] == "helpers" else parties, 1 / mu),
        "shared": lambda: (2 * parties, 1 / (mu * math.sqrt(honest))),
    }[plan["noise"]]()


def context(plan: dict[str, Any], step: int, attempt: int, size: int, inputs: bytes, roster: bytes) -> bytes:
    numbers = map(u64, (step, attempt, size, plan["bits"]))
    return sha256(
        joined(b"zhiyin/context/1", sha256(canonical(plan)), plan["job_id"].encode(), *numbers, inputs, roster)
    )


def inputs_digest(header: dict[str, Any], sections: dict[str, bytes]) -> bytes:
    fields = []
    for name, each in sorted(header["inputs"].items()):
        sizes = map(u64, (len(each["shape"]), *each["shape"]))
        fields += [name.encode(), each["type"].encode(), *sizes, sections[f"input.{name}"]]
    return sha256(joined(b"zhiyin/inputs/1", *fields))


# --- 6: what one client adds ---


def popularity(users: Sequence[User], step: dict[str, Any], random_bytes: RandomBytes) -> list[int]:
    """Each user clipped to norm 1 and rounded alone; (item, weight) pairs, an item once."""
    total = [0] * step["size"]
    for history in users:
        norm = max(1.0, math.sqrt(sum(weight * weight for _, weight in history)))
        rounded = round_user([weight / norm for _, weight in history], step, random_bytes)
        for (item, _), value in zip(history, rounded, strict=True):
            total[item] += value
    return total


def round_user(values: Sequence[float], step: dict[str, Any], random_bytes: RandomBytes) -> list[int]:
    scaled = [value * step["scale"] for value in values]
    for _ in range(65):
        rounded = [up_or_down(value, random_bytes) for value in scaled]
        if sum(value * value for value in rounded) <= step["bound"] ** 2 * (1 - 2.0**-40):
            return rounded
    return [math.trunc(value * (1 - 2.0**-20)) for value in scaled]


def up_or_down(value: float, random_bytes: RandomBytes) -> int:
    whole = math.floor(abs(value))
    up = int.from_bytes(random_bytes(8), "big") / 2**64 < abs(value) - whole
    return int(math.copysign(whole + up, value))


# --- 7: topology H ---


class HelpedTenant:
    """A tenant of topology H. pins: helper -> Ed25519 public key in hex. users: its histories."""

    def __init__(self, *, name: str, secret: bytes, issuer: str, pins: dict[str, str], users: Sequence[User]) -> None:
        self.name, self._secret, self._issuer, self._pins, self._users = name, secret, issuer, pins, users

    def answer(self, frame: bytes, *, now: int, random_bytes: RandomBytes) -> bytes:
        """The reply to a request for the popularity step."""
        kind, header, sections = unpack(frame)
        if kind != 1:
            raise Refused("no request for a contribution")
        plan, roster = header["plan"], open_roster(sections["roster"], self._issuer, now)
        member(roster, self.name, "tenant", now)
        keys = {helper: sealing_key(roster, helper, self._pins[helper], now) for helper in plan["helpers"]}
        wanted = steps(plan)[header["step"]]
        if wanted["kind"] != "popularity":
            raise Refused("this client knows popularity alone")
        inputs = inputs_digest(header, sections)
        ctx = context(plan, header["step"], header["attempt"], wanted["size"], inputs, roster["digest"])
        values = popularity(self._users, wanted, random_bytes)
        return self._contribution(plan, ctx, values, keys, random_bytes)

    def _contribution(
        self, plan: dict[str, Any], ctx: bytes, values: list[int], keys: dict[str, bytes], random_bytes: RandomBytes
    ) -> bytes:
        seals: list[tuple[str, str, bytes]] = []
        for holders in sorted(combinations(sorted(keys), plan["spare_helpers"] + 1), key="+".join):
            slot, seed = "+".join(holders), random_bytes(32)
            stream = mask(hkdf(seed, ctx, b"zhiyin/mask/1"), plan["bits"], len(values))
            values = [value - each for value, each in zip(values, stream, strict=True)]
            for helper in holders:
                place = joined(b"zhiyin/seal-to/2", ctx, self.name.encode(), slot.encode(), helper.encode())
                seals.append((slot, helper, seal(keys[helper], seed, place, random_bytes(32))))
        masked, users = ring_bytes(values, plan["bits"]), len(self._users)
        parts = [part for slot, helper, sealed in seals for part in (slot.encode(), helper.encode(), sealed)]
        message = joined(b"zhiyin/contribution/3", ctx, self.name.encode(), u64(users), vector_digest(masked), *parts)
        header = {
            "client": self.name,
            "ctx": ctx.hex(),
            "declared_users": users,
            "seals": [{"slot": slot, "helper": helper, "seal": sealed.hex()} for slot, helper, sealed in seals],
            "signature": sign(self._secret, message).hex(),
        }
        return pack(2, header, {"masked": masked})


# --- 8: topology P ---

PRIME = 2**256 + 297


class PairwiseTenant:
    """A tenant of topology P for one round. users: its histories."""

    def __init__(self, *, name: str, secret: bytes, issuer: str, users: Sequence[User]) -> None:
        self.name, self._secret, self._issuer, self._users = name, secret, issuer, users

    def keys(self, frame: bytes, *, now: int, random_bytes: RandomBytes) -> bytes:
        kind, header, sections = unpack(frame)
        plan, terms = header["plan"], header["terms"]
        agreed = {name: plan[name] for name in ("num_parties", "degree", "threshold")}
        if kind != 16 or terms != {**agreed, "min_active": plan["min_tenants"]}:
            raise Refused("no request for keys with the plan's terms")
        roster = open_roster(sections["roster"], self._issuer, now)
        member(roster, self.name, "tenant", now)
        self._roster, self._plan, self._terms, self._now = roster, plan, terms, now
        self._step, self._inputs = steps(plan)[header["step"]], bytes.fromhex(header["inputs_digest"])
        base = context(plan, header["step"], header["attempt"], self._step["size"], self._inputs, roster["digest"])
        numbers = (terms[name] for name in ("num_parties", "degree", "threshold", "min_active"))
        self._ctx = sha256(joined(b"zhiyin/context-pairwise/1", base, *map(u64, numbers)))
        self._mask, seed, self._self, self._deal = (random_bytes(32) for _ in range(4))
        self._seal = hashlib.sha512(seed).digest()[:32]
        self._random = random_bytes
        bundle = {
            "client": self.name,
            "ctx": self._ctx.hex(),
            "declared_users": len(self._users),
            "mask_key": public_of(self._mask).hex(),
            "seal_key": public_of(self._seal).hex(),
            "possession": possession(seed, self._ctx, self.name).hex(),
            "commitment": sha256(joined(b"zhiyin/pairwise-self/1", self._ctx, self.name.encode(), self._self)).hex(),
        }
        return pack(17, {**bundle, "signature": sign(self._secret, bundle_message(bundle)).hex()}, {})

    def shares(self, frame: bytes) -> bytes:
        header = self._asked(18, frame)
        self._bundles = {each["client"]: each for each in header["bundles"]}
        self._root = sha256(joined(b"zhiyin/pairwise-root/1", *self._root_parts(header["bundles"])))
        points = {name: place for place, name in enumerate(sorted(self._bundles), 1)}
        lines = {kind: self._polynomial(kind, secret) for kind, secret in (("self", self._self), ("key", self._mask))}
        dealt = []
        for peer in self._neighbours():
            share = {kind: value_at(line, points[peer]).to_bytes(33, "big") for kind, line in lines.items()}
            key, place = self._channel(self.name, peer)
            dealt.append({
                "receiver": peer,
                "sealed": ChaCha20Poly1305(key).encrypt(bytes(12), share["self"] + share["key"], place).hex(),
                "self_digest": self._share_digest("self", self.name, peer, share["self"]).hex(),
                "key_digest": self._share_digest("key", self.name, peer, share["key"]).hex(),
            })  # fmt: skip
        parts = (
            part
            for each in dealt
            for part in (each["receiver"].encode(), *(bytes.fromhex(each[n]) for n in SEALED_FIELDS))
        )
        return self._say(19, b"zhiyin/pairwise-dealing/1", parts, {"shares": dealt})

    def vector(self, frame: bytes) -> bytes:
        header, sections = self._asked(20, frame), unpack(frame)[2]
        if inputs_digest(header, sections) != self._inputs:
            raise Refused("other inputs")
        self._held = {each["sender"]: self._opened(each) for each in header["deliveries"]}
        bits, size = self._plan["bits"], self._step["size"]
        values = popularity(self._users, self._step, self._random)
        own = mask(hkdf(self._self, self._ctx, b"zhiyin/mask/1"), bits, size)
        values = [value + each for value, each in zip(values, own, strict=True)]
        for peer in self._held:
            low, high = sorted((self.name, peer))
            info = joined(b"zhiyin/pairwise-mask/1", low.encode(), high.encode())
            key = hkdf(exchange(self._mask, bytes.fromhex(self._bundles[peer]["mask_key"])), self._ctx, info)
            sign_of = 1 if peer < self.name else -1
            values = [value + sign_of * each for value, each in zip(values, mask(key, bits, size), strict=True)]
        masked = ring_bytes(values, bits)
        return self._say(21, b"zhiyin/pairwise-vector/2", [vector_digest(masked)], {}, {"masked": masked})

    def signature(self, frame: bytes) -> bytes:
        active = [each["client"] for each in self._asked(22, frame)["active"]]
        neighbours = set(self._neighbours()) & set(active)
        if active != sorted(set(active)) or self.name not in active or not neighbours <= set(self._held):
            raise Refused("no set of active parties to sign")
        self._active = set(active)
        self._digest = sha256(joined(b"zhiyin/pairwise-set/1", *(name.encode() for name in active)))
        return self._say(23, b"zhiyin/pairwise-active/1", [self._digest], {"active": self._digest.hex()})

    def opening(self, frame: bytes, *, colluding: int) -> bytes:
        signers = {self.name}
        for each in self._asked(24, frame)["signatures"]:
            message = joined(b"zhiyin/pairwise-active/1", self._ctx, self._root, each["client"].encode(), self._digest)
            if each["client"] in signers or each["client"] not in self._active:
                raise Refused("a signer twice, or outside the set")
            self._verify(each["client"], each["signature"], message)
            signers.add(each["client"])
        if len(signers) < (len(self._bundles) + colluding) // 2 + 1:
            raise Refused("no quorum")
        mine = {owner: both[:33] for owner, both in sorted(self._held.items()) if owner in self._active}
        theirs = {owner: both[33:] for owner, both in sorted(self._held.items()) if owner not in self._active}
        lists = [joined(*(part for owner, share in each.items() for part in (owner.encode(), share)))
                 for each in (mine, theirs)]  # fmt: skip
        told = {
            name: [{"owner": owner, "share": share.hex()} for owner, share in each.items()]
            for name, each in (("self_shares", mine), ("key_shares", theirs))
        }
        return self._say(
            25, b"zhiyin/pairwise-unmasking/1", [self._digest, *lists], {"active": self._digest.hex(), **told}
        )

    def seal_keys(self, peer: str) -> tuple[bytes, bytes, bytes]:
        """The secret of the seal key, its public key and that of a peer."""
        return self._seal, public_of(self._seal), bytes.fromhex(self._bundles[peer]["seal_key"])

    def _asked(self, kind: int, frame: bytes) -> dict[str, Any]:
        found, header, _ = unpack(frame)
        if found != kind or header["ctx"] != self._ctx.hex():
            raise Refused("another kind, or another round")
        return header

    def _say(
        self, kind: int, label: bytes, parts: Any, fields: dict[str, Any], sections: dict[str, bytes] | None = None
    ) -> bytes:
        message = joined(label, self._ctx, self._root, self.name.encode(), *parts)
        start = {"client": self.name, "ctx": self._ctx.hex(), "root": self._root.hex()}
        return pack(kind, {**start, "signature": sign(self._secret, message).hex(), **fields}, sections or {})

    def _root_parts(self, bundles: list[dict[str, Any]]) -> list[bytes]:
        parts = []
        for each in bundles:
            message = bundle_message(each)
            self._verify(each["client"], each["signature"], message)
            parts += [message, bytes.fromhex(each["signature"])]
        return parts

    def _verify(self, name: str, signature: str, message: bytes) -> None:
        key = member(self._roster, name, "tenant", self._now)["signing_key"]
        verify(key, bytes.fromhex(signature), message)

    def _neighbours(self) -> list[str]:
        names, degree = sorted(self._bundles), self._terms["degree"]
        if degree >= len(names) - 1:
            return [name for name in names if name != self.name]
        label = b"zhiyin/pairwise-order/1"
        order = sorted(names, key=lambda name: sha256(joined(label, self._root, name.encode())))
        place = order.index(self.name)
        near = range(1, degree // 2 + 1)
        return sorted(order[(place + way * far) % len(order)] for far in near for way in (1, -1))

    def _polynomial(self, kind: str, secret: bytes) -> list[int]:
        key = hkdf(self._deal, self._ctx, joined(b"zhiyin/pairwise-deal/1", self._root, kind.encode()))
        raw, at, drawn = keystream(key, 33 * 64 * self._terms["threshold"]), 0, list[int]()
        while len(drawn) < self._terms["threshold"] - 1:
            value = int.from_bytes(raw[at : at + 33], "big") % 2**257
            drawn, at = [*drawn, value] if value < PRIME else drawn, at + 33
        return [*drawn, int.from_bytes(secret, "big")]

    def _channel(self, sender: str, receiver: str) -> tuple[bytes, bytes]:
        peer = receiver if sender == self.name else sender
        place = joined(b"zhiyin/pairwise-seal/1", self._ctx, self._root, sender.encode(), receiver.encode())
        return hkdf(exchange(self._seal, bytes.fromhex(self._bundles[peer]["seal_key"])), self._ctx, place), place

    def _share_digest(self, kind: str, owner: str, holder: str, share: bytes) -> bytes:
        ends = (owner.encode(), holder.encode())
        return sha256(joined(b"zhiyin/pairwise-share/1", kind.encode(), self._ctx, self._root, *ends, share))

    def _opened(self, delivery: dict[str, Any]) -> bytes:
        key, place = self._channel(delivery["sender"], self.name)
        both = ChaCha20Poly1305(key).decrypt(bytes(12), bytes.fromhex(delivery["sealed"]), place)
        for kind, share in (("self", both[:33]), ("key", both[33:])):
            if self._share_digest(kind, delivery["sender"], self.name, share).hex() != delivery[f"{kind}_digest"]:
                raise Refused("another share than was committed to")
        return both


SEALED_FIELDS = ("sealed", "self_digest", "key_digest")


def bundle_message(bundle: dict[str, Any]) -> bytes:
    keys = (bytes.fromhex(bundle[name]) for name in ("mask_key", "seal_key", "possession", "commitment"))
    start = (bytes.fromhex(bundle["ctx"]), bundle["client"].encode(), u64(bundle["declared_users"]))
    return joined(b"zhiyin/pairwise-bundle/2", *start, *keys)


def possession(seed: bytes, ctx: bytes, name: str) -> bytes:
    """The signature of a seal key's holder, with the sign of the key's point in its last bit."""
    key = public_of(hashlib.sha512(seed).digest()[:32])
    public = Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()
    signature = sign(seed, joined(b"zhiyin/seal-key-possession/1", ctx, name.encode(), key))
    return signature[:63] + bytes([signature[63] + (public[31] & 128)])


def value_at(coefficients: Sequence[int], point: int) -> int:
    total = 0
    for coefficient in coefficients:
        total = (total * point + coefficient) % PRIME
    return total
