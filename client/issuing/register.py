"""Who is enrolled, as a value: what a request, a revocation or a publication makes of it. No files, no clock.

Every change is checked here, so that a list that could not be used, or that would let a stolen key back in, is never
signed: names and keys occur once, and a key that was ever taken off is never taken back.
"""

import re
from dataclasses import dataclass, replace
from typing import Any

from shared.enrolment import EnrolmentRequest
from shared.errors import BadSetting, ProtocolError
from shared.node_key import canonical_node_key
from shared.roster import Member, Role, Roster
from shared.sealing_certificate import SealingCertificate

SECONDS_A_DAY = 86_400
# The clocks of parties differ; a list or a key must not be refused for being a minute young.
CLOCK_SLACK_SECONDS = 60
MAX_AHEAD_SECONDS = SECONDS_A_DAY
_HEX_KEY = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, kw_only=True)
class Enrolled:
    """One party. requested_at: created_at of the request that was accepted last; an older one is never accepted."""

    name: str
    roles: tuple[Role, ...]
    signing_key: str
    sealing: SealingCertificate | None
    node_public_key: str
    not_before: int
    not_after: int
    requested_at: int

    @property
    def keys(self) -> tuple[str, ...]:
        sealing = () if self.sealing is None else (self.sealing.key,)
        return (self.signing_key, *sealing, self.node_public_key)

    def member(self) -> Member:
        return Member(
            name=self.name,
            signing_key=self.signing_key,
            sealing=self.sealing,
            roles=self.roles,
            not_before=self.not_before,
            not_after=self.not_after,
        )


@dataclass(frozen=True, kw_only=True)
class Register:
    """epoch: of the list published last, 0 before the first. retired: keys that were taken off, never to come back."""

    epoch: int
    members: tuple[Enrolled, ...]
    retired: tuple[str, ...]

    def find(self, name: str) -> Enrolled:
        """Raises BadSetting, with the names that there are."""
        for member in self.members:
            if member.name == name:
                return member
        names = ", ".join(member.name for member in self.members) or "nobody"
        raise BadSetting(f"{name} is not enrolled; enrolled: {names}")


def enrol(register: Register, request: EnrolmentRequest, *, now: int, days: int) -> Register:
    """The register with the party of `request` in it, new or with changed keys; its validity ends in `days`.

    `request` has been opened, so its signatures hold. Raises BadSetting for a name that is enrolled under another
    signing key, a key that another party has or that was taken off, a request older than the one accepted last.
    """
    known = next((member for member in register.members if member.name == request.name), None)
    if request.created_at > now + MAX_AHEAD_SECONDS:
        raise BadSetting(f"the request of {request.name} is dated more than a day ahead; set its clock right")
    if known is not None and known.signing_key != request.signing_key:
        raise BadSetting(
            f"{request.name} is enrolled with another signing key; if that one is lost or stolen, revoke "
            f"{request.name} first, and make sure by telephone who asks"
        )
    if known is not None and request.created_at < known.requested_at:
        raise BadSetting(f"this request of {request.name} is older than the one accepted last; ask for a new one")
    fresh = Enrolled(
        name=request.name,
        roles=request.roles,
        signing_key=request.signing_key,
        sealing=request.sealing,
        node_public_key=request.node_public_key,
        not_before=now - CLOCK_SLACK_SECONDS if known is None else known.not_before,
        not_after=now + days * SECONDS_A_DAY,
        requested_at=request.created_at,
    )
    _require_unused(register, fresh)
    others = tuple(member for member in register.members if member.name != request.name)
    replaced = () if known is None else tuple(key for key in known.keys if key not in fresh.keys)
    members = tuple(sorted((*others, fresh), key=lambda member: member.name))
    return replace(register, members=members, retired=(*register.retired, *replaced))


def revoke(register: Register, name: str) -> Register:
    """The register without `name`, whose keys are never accepted again. Raises BadSetting."""
    gone = register.find(name)
    members = tuple(member for member in register.members if member.name != name)
    return replace(register, members=members, retired=(*register.retired, *gone.keys))


def extend(register: Register, name: str, *, now: int, days: int) -> Register:
    """The register with the validity of `name` ending in `days` from now. Raises BadSetting."""
    longer = replace(register.find(name), not_after=now + days * SECONDS_A_DAY)
    return replace(register, members=tuple(longer if each.name == name else each for each in register.members))


def next_roster(register: Register, *, now: int, days: int, after: int = 0) -> tuple[Register, Roster]:
    """The list of the next epoch, above `after` too, and the register that remembers it.

    Parties whose validity is over are left out. Raises BadSetting for a list of nobody.
    """
    listed = tuple(member for member in register.members if member.not_after > now)
    if not listed:
        raise BadSetting("nobody is enrolled whose validity lasts; there is nothing to publish")
    epoch = max(register.epoch, after) + 1
    roster = Roster(
        entries=tuple(member.member() for member in listed),
        epoch=epoch,
        issued_at=now - CLOCK_SLACK_SECONDS,
        expires_at=now + days * SECONDS_A_DAY,
    )
    return replace(register, epoch=epoch), roster


def notices(register: Register, *, now: int, seconds: int) -> list[str]:
    """One line for each validity that ends within `seconds`, or is over."""
    found = []
    for member in register.members:
        if member.not_after <= now + seconds:
            found.append(f"{member.name}: {_ends(member.not_after, now)}; run: zhiyin issuer extend {member.name}")
        if member.sealing is not None and member.sealing.not_after <= now + seconds:
            found.append(
                f"{member.name}: its certified sealing key {_ends(member.sealing.not_after, now)}; ask it for the "
                "request that `zhiyin client keys rotate` writes"
            )
    return found


def register_to_json(register: Register) -> dict[str, Any]:
    return {
        "epoch": register.epoch,
        "members": [
            {
                **vars(member),
                "roles": list(member.roles),
                "sealing": None if member.sealing is None else vars(member.sealing),
            }
            for member in register.members
        ],
        "retired": list(register.retired),
    }


def register_from_json(fields: dict[str, Any]) -> Register:
    """Raises BadSetting for what is no register.

    A node key that was once accepted in another form is held in its one form from here on: keys are compared as text,
    and one that was taken off must be known again.
    """
    try:
        members = tuple(map(_member_from_json, fields["members"]))
        register = Register(epoch=fields["epoch"], members=members, retired=tuple(map(_key, fields["retired"])))
        if type(register.epoch) is not int or register.epoch < 0 or set(fields) != {"epoch", "members", "retired"}:
            raise ValueError("epoch must be a whole number")
        for member in members:
            member.member()  # checks every field that a list would hold
        return register
    except (KeyError, TypeError, ValueError, AttributeError, ProtocolError, BadSetting) as error:
        raise BadSetting(f"it is no register: {error}") from error


def _member_from_json(fields: dict[str, Any]) -> Enrolled:
    sealing = None if fields["sealing"] is None else SealingCertificate(**fields["sealing"])
    node = canonical_node_key(fields["node_public_key"])
    return Enrolled(**{**fields, "roles": tuple(fields["roles"]), "sealing": sealing, "node_public_key": node})


def _key(text: Any) -> str:
    """A signing or sealing key in hex as it is, any other as a node key in its one form."""
    if isinstance(text, str) and _HEX_KEY.fullmatch(text):
        return text
    return canonical_node_key(text)


def _require_unused(register: Register, fresh: Enrolled) -> None:
    for key in fresh.keys:
        if key in register.retired:
            raise BadSetting(
                f"the request of {fresh.name} has a key that was taken off before ({_short(key)}); "
                "its owner makes new ones with `zhiyin client keys rotate`"
            )
        for other in register.members:
            if other.name != fresh.name and key in other.keys:
                raise BadSetting(f"the request of {fresh.name} has a key of {other.name} ({_short(key)})")


def _short(key: str) -> str:
    return f"{key[-12:]}" if " " in key else f"{key[:12]}…"


def _ends(not_after: int, now: int) -> str:
    left = not_after - now
    return "has run out" if left <= 0 else f"runs out in {left / SECONDS_A_DAY:.0f} days"
