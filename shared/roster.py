"""Who takes part: names, public keys, roles and validity, in one list that an issuer signs.

Every party opens the list with the issuer's key that it was given in person. The server carries the list and can
neither add a party nor bring back one that was removed longer ago than the list's own expiry.
"""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, get_args

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from shared.canonical import canonical_json, sha256_hex
from shared.errors import BadSetting, BadSignature, ExpiredKey, MalformedMessage, UnknownKey

FORMAT = "zhiyin-roster-1"
MAX_ROSTER_BYTES = 16 * 2**20
Role = Literal["tenant", "helper"]
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_KEY = re.compile(r"[0-9a-f]{64}")
_LABEL = b"zhiyin/roster/1\x00"
_SIGNATURE_BYTES = 64


@dataclass(frozen=True, kw_only=True)
class Member:
    """One party. Raises BadSetting for a field that cannot be used.

    name: 1 to 64 of a-z, 0-9, dot, hyphen, underscore. signing_key: Ed25519, sealing_key: X25519, 64 hex digits;
    the sealing key may be empty for a party that is no helper.
    not_before, not_after: seconds since 1970 UTC, both inclusive.
    """

    name: str
    signing_key: str
    sealing_key: str
    roles: tuple[Role, ...]
    not_before: int
    not_after: int

    def __post_init__(self) -> None:
        check_name(self.name)
        if not _is_text(_KEY, self.signing_key):
            raise BadSetting(f"roster: {self.name}: signing_key must be 64 hex digits")
        if not _is_text(_KEY, self.sealing_key) and (self.sealing_key != "" or "helper" in self.roles):
            raise BadSetting(
                f"roster: {self.name}: sealing_key must be 64 hex digits (empty only without the role helper)"
            )
        if not self.roles or set(self.roles) - set(get_args(Role)) or len(set(self.roles)) != len(self.roles):
            raise BadSetting(f"roster: {self.name}: roles must be one or both of {', '.join(get_args(Role))}")
        if not all(_is_time(time) for time in (self.not_before, self.not_after)) or self.not_before > self.not_after:
            raise BadSetting(f"roster: {self.name}: not_before and not_after must be whole seconds, in this order")

    def verify(self, signature: bytes, message: bytes) -> None:
        """Raise BadSignature unless this member signed `message`."""
        try:
            Ed25519PublicKey.from_public_bytes(bytes.fromhex(self.signing_key)).verify(signature, message)
        except (InvalidSignature, ValueError) as error:
            raise BadSignature(f"the signature of {self.name} does not verify") from error


@dataclass(frozen=True, kw_only=True)
class Roster:
    """All members, sorted or not; names and keys occur once, or one party could count as two.

    issued_at, expires_at: seconds since 1970 UTC. A removed member is refused once the lists that name it have expired.
    """

    entries: tuple[Member, ...]
    issued_at: int
    expires_at: int

    def __post_init__(self) -> None:
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
    if not _is_text(_KEY, issuer_public_key):
        raise UnknownKey("the roster issuer's public key must be 64 hex digits; ask whoever runs the federation for it")
    if len(data) > MAX_ROSTER_BYTES:
        raise MalformedMessage(f"a roster has at most {MAX_ROSTER_BYTES} bytes, got {len(data)}")
    signature, body = data[:_SIGNATURE_BYTES], data[_SIGNATURE_BYTES:]
    try:
        Ed25519PublicKey.from_public_bytes(bytes.fromhex(issuer_public_key)).verify(signature, _LABEL + body)
    except (InvalidSignature, ValueError) as error:
        raise BadSignature("the roster is not signed by the issuer that this party trusts") from error
    roster = _parse(body)
    if not roster.issued_at <= now < roster.expires_at:
        raise ExpiredKey(f"the roster is valid from {roster.issued_at} to {roster.expires_at}, now is {now}")
    return roster


def _body(roster: Roster) -> bytes:
    entries: Iterable[dict[str, Any]] = ({**vars(member), "roles": list(member.roles)} for member in roster.entries)
    fields = {
        "format": FORMAT,
        "issued_at": roster.issued_at,
        "expires_at": roster.expires_at,
        "entries": list(entries),
    }
    return canonical_json(fields)


def _parse(body: bytes) -> Roster:
    try:
        fields = json.loads(body)
        if fields.pop("format") != FORMAT:
            raise ValueError(f"format must be {FORMAT}")
        members = tuple(Member(**{**entry, "roles": tuple(entry["roles"])}) for entry in fields.pop("entries"))
        return Roster(entries=members, **fields)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, BadSetting) as error:
        raise MalformedMessage(f"the roster cannot be read: {error}") from error


def _is_text(pattern: re.Pattern[str], value: Any) -> bool:
    return isinstance(value, str) and pattern.fullmatch(value) is not None


def _is_time(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**53
