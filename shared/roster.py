"""Who takes part: names, public keys, roles and validity, in one list that an issuer signs.

Every party opens the list with the issuer's key that it was given in person. The server carries the list and can add
nobody. Each list has an epoch, which only rises: whoever accepted one refuses an older list and a second list of the
same epoch from then on, so a party that was removed stays removed for everybody who saw the newer list. Remembering
that is durable state and therefore the caller's duty.
"""

import re
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, get_args

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from shared.canonical import canonical_json, sha256_hex, strict_json
from shared.errors import BadSetting, BadSignature, ExpiredKey, MalformedMessage, UnknownKey
from shared.sealing_certificate import SealingCertificate

FORMAT = "zhiyin-roster-2"
MAX_ROSTER_BYTES = 16 * 2**20
Role = Literal["tenant", "helper"]
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_KEY = re.compile(r"[0-9a-f]{64}")
_LABEL = b"zhiyin/roster/2\x00"
_SIGNATURE_BYTES = 64


@dataclass(frozen=True, kw_only=True)
class Member:
    """One party. Raises BadSetting for a field that cannot be used.

    name: 1 to 64 of a-z, 0-9, dot, hyphen, underscore. signing_key: Ed25519, 64 hex digits.
    sealing: the helper's own certificate of its sealing key; None only for a party that is no helper.
    not_before, not_after: seconds since 1970 UTC, both inclusive.
    """

    name: str
    signing_key: str
    sealing: SealingCertificate | None
    roles: tuple[Role, ...]
    not_before: int
    not_after: int

    def __post_init__(self) -> None:
        check_name(self.name)
        if not _is_text(_KEY, self.signing_key):
            raise BadSetting(f"roster: {self.name}: signing_key must be 64 hex digits")
        if self.sealing is None and "helper" in self.roles:
            raise BadSetting(f"roster: {self.name}: a helper needs a certified sealing key")
        check_roles(f"roster: {self.name}", self.roles)
        if not all(_is_time(time) for time in (self.not_before, self.not_after)) or self.not_before > self.not_after:
            raise BadSetting(f"roster: {self.name}: not_before and not_after must be whole seconds, in this order")

    @property
    def sealing_key(self) -> str:
        """X25519 public key in hex, as listed and not yet verified; empty for a party without one."""
        return "" if self.sealing is None else self.sealing.key

    def verify(self, signature: bytes, message: bytes) -> None:
        """Raise BadSignature unless this member signed `message`."""
        try:
            Ed25519PublicKey.from_public_bytes(bytes.fromhex(self.signing_key)).verify(signature, message)
        except (InvalidSignature, ValueError) as error:
            raise BadSignature(f"the signature of {self.name} does not verify") from error


@dataclass(frozen=True, kw_only=True)
class Roster:
    """All members, sorted or not; names and keys occur once, or one party could count as two.

    epoch: from 1; higher than that of every list the issuer signed before. issued_at, expires_at: seconds since 1970
    UTC; a party that never sees a newer list accepts this one until then.
    """

    entries: tuple[Member, ...]
    epoch: int
    issued_at: int
    expires_at: int

    def __post_init__(self) -> None:
        if type(self.epoch) is not int or not 1 <= self.epoch < 2**53:
            raise BadSetting("roster: epoch must be a whole number from 1")
        if not _is_time(self.issued_at) or not _is_time(self.expires_at) or self.issued_at >= self.expires_at:
            raise BadSetting("roster: issued_at and expires_at must be whole seconds, in this order")
        for what in ("name", "signing_key", "sealing_key"):
            values = [getattr(member, what) for member in self.entries if getattr(member, what)]
            if len(set(values)) != len(values):
                raise BadSetting(f"roster: two members share a {what}")

    @cached_property
    def digest(self) -> str:
        """SHA-256 in hex of the list without its signature; part of every context."""
        return sha256_hex(_body(self))

    @cached_property
    def _by_name(self) -> dict[str, Member]:
        return {member.name: member for member in self.entries}

    def member(self, name: str, now: int) -> Member:
        """The member called `name`; raises UnknownKey if there is none, ExpiredKey outside the validity of its keys."""
        member = self._by_name.get(name)
        if member is None:
            raise UnknownKey(f"{name!r} is not on the roster")
        if not member.not_before <= now <= member.not_after:
            raise ExpiredKey(
                f"the keys of {name} are valid from {member.not_before} to {member.not_after}, now is {now}"
            )
        return member

    def member_as(self, name: str, role: Role, now: int) -> Member:
        """As `member`; raises UnknownKey too if the party does not hold the role."""
        member = self.member(name, now)
        if role not in member.roles:
            raise UnknownKey(f"{name} is on the roster, but not as a {role}")
        return member

    def sealing_key(self, helper: str, *, pinned: str, now: int) -> bytes:
        """The X25519 public key of `helper`, 32 bytes, certified by the signing key that the caller pinned.

        pinned: Ed25519, 64 hex digits, from the caller's own settings and never from the list.
        Raises UnknownKey (not a helper), ExpiredKey, BadSignature.
        """
        member = self.member_as(helper, "helper", now)
        if member.sealing is None:
            raise UnknownKey(f"{helper} is on the roster without a sealing key")
        return member.sealing.opened(helper, pinned, now)


def check_roles(what: str, roles: Any) -> None:
    """Raise BadSetting, beginning with `what`, unless `roles` is a tuple of one or more different roles."""
    known = get_args(Role)
    if not isinstance(roles, tuple) or not roles or any(role not in known for role in roles):
        raise BadSetting(f"{what}: roles must be one or both of {', '.join(known)}")
    if len(set(roles)) != len(roles):
        raise BadSetting(f"{what}: a role is given twice")


def check_name(name: Any) -> str:
    """`name` if it can name a party; raises BadSetting."""
    if not _is_text(_NAME, name):
        raise BadSetting(f"a party's name must be 1 to 64 of a-z, 0-9, dots, hyphens and underscores, got {name!r:.80}")
    return str(name)


def sign_roster(roster: Roster, issuer_key: Ed25519PrivateKey) -> bytes:
    """Signature (64 bytes), then the list as canonical JSON."""
    body = _body(roster)
    return issuer_key.sign(_LABEL + body) + body


def open_roster(data: bytes, issuer_public_key: str, now: int) -> Roster:
    """The list, if the issuer signed it and it has not expired.

    issuer_public_key: Ed25519, 64 hex digits. now: seconds since 1970 UTC.
    Raises UnknownKey for an issuer's key that is none, BadSignature, ExpiredKey, or MalformedMessage for a signed list
    of another format.
    """
    roster = verified_roster(data, issuer_public_key)
    if not roster.issued_at <= now < roster.expires_at:
        raise ExpiredKey(f"the roster is valid from {roster.issued_at} to {roster.expires_at}, now is {now}")
    return roster


def verified_roster(data: bytes, issuer_public_key: str) -> Roster:
    """As `open_roster`, of any age: for telling a person about a list, never for acting on it."""
    if not _is_text(_KEY, issuer_public_key):
        raise UnknownKey("the roster issuer's public key must be 64 hex digits; ask whoever runs the federation for it")
    if len(data) > MAX_ROSTER_BYTES:
        raise MalformedMessage(f"a roster has at most {MAX_ROSTER_BYTES} bytes, got {len(data)}")
    signature, body = data[:_SIGNATURE_BYTES], data[_SIGNATURE_BYTES:]
    try:
        Ed25519PublicKey.from_public_bytes(bytes.fromhex(issuer_public_key)).verify(signature, _LABEL + body)
    except (InvalidSignature, ValueError) as error:
        raise BadSignature("the roster is not signed by the issuer that this party trusts") from error
    return _parse(body)


def _body(roster: Roster) -> bytes:
    fields = {
        "format": FORMAT,
        "epoch": roster.epoch,
        "issued_at": roster.issued_at,
        "expires_at": roster.expires_at,
        "entries": [_member_to_json(member) for member in roster.entries],
    }
    return canonical_json(fields)


def _member_to_json(member: Member) -> dict[str, Any]:
    sealing = None if member.sealing is None else vars(member.sealing)
    return {**vars(member), "roles": list(member.roles), "sealing": sealing}


def _member_from_json(entry: dict[str, Any]) -> Member:
    sealing = None if entry["sealing"] is None else SealingCertificate(**entry["sealing"])
    return Member(**{**entry, "roles": tuple(entry["roles"]), "sealing": sealing})


def _parse(body: bytes) -> Roster:
    try:
        fields = strict_json(body)
        if fields.pop("format") != FORMAT:
            raise ValueError(f"format must be {FORMAT}")
        members = tuple(map(_member_from_json, fields.pop("entries")))
        return Roster(entries=members, **fields)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, BadSetting) as error:
        raise MalformedMessage(f"the roster cannot be read: {error}") from error


def _is_text(pattern: re.Pattern[str], value: Any) -> bool:
    return isinstance(value, str) and pattern.fullmatch(value) is not None


def _is_time(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**53
