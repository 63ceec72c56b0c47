"""Joining a federation by an invitation: what it would pin, beside what is pinned already, and pinning it.

A key that is pinned is never replaced here. Whoever means a change takes the old key out of policy.toml first, having
compared the new one in person.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from client.durable_files import write_file
from client.home import POLICY_FILE
from client.policy import LocalPolicy, PinnedHelper
from client.policy_file import load_policy, render_policy
from shared.errors import BadSetting, ProtocolError, UnknownKey
from shared.fingerprint import key_fingerprint
from shared.invitation import Invitation, certificate_fingerprint, read_invitation

INVITATION_FILE = "invitation.json"
AUTHORITY_FILE = "superlink-ca.crt"
POLICY_BEFORE_FILE = "policy.toml.before"


@dataclass(frozen=True, kw_only=True)
class Pin:
    """One thing that an invitation pins. before: "" where nothing was pinned. compare: whom to compare it with."""

    what: str
    before: str
    after: str
    compare: str = ""

    @property
    def is_new(self) -> bool:
        return self.before != self.after


def joined(folder: Path) -> Invitation | None:
    """The invitation by which a home joined, None for one that never did. Raises BadSetting where it is damaged.

    Its time may have run out since: that ends who may join with it, not who did.
    """
    path = folder / INVITATION_FILE
    if not path.is_file():
        return None
    try:
        return read_invitation(path.read_bytes())
    except (OSError, ProtocolError) as error:
        raise BadSetting(f"{path}: {error}; join again with the file that you were given") from error


def require_joined(folder: Path) -> Invitation:
    """Raises BadSetting for a home that never joined a platform."""
    found = joined(folder)
    if found is None:
        raise BadSetting(f"{folder}: this home has joined no platform; run `zhiyin client join FILE`")
    return found


def pins(policy: LocalPolicy, kept: Invitation | None, invitation: Invitation) -> tuple[Pin, ...]:
    """All that would be pinned. Raises UnknownKey where another key is pinned already."""
    found = tuple(_pins(policy, kept, invitation))
    for pin in found:
        if pin.before and pin.is_new and pin.compare:
            raise UnknownKey(
                f"the invitation has another {pin.what} ({pin.after[:12]}…) than the one pinned here "
                f"({pin.before[:12]}…); nothing was changed. If the change is meant, compare it with {pin.compare} in "
                f"person, then take the old one out of {_place(pin.what)} and join again"
            )
    return found


def pinned(policy: LocalPolicy, invitation: Invitation) -> LocalPolicy:
    """The policy with the invitation's keys. Bundles and helpers that are allowed already stay allowed."""
    invited = {helper.name: PinnedHelper(signing=helper.signing) for helper in invitation.helpers}
    return replace(
        policy,
        issuer_public_key=invitation.issuer_key,
        publisher_public_key=invitation.publisher_key,
        app_digests=tuple(dict.fromkeys((*policy.app_digests, invitation.app_digest))),
        helpers={**policy.helpers, **invited},
    )


def join(folder: Path, data: bytes, invitation: Invitation) -> None:
    """Pin everything. data: the file as it was given. Raises UnknownKey as `pins` does, with nothing changed.

    policy.toml is written last: a crash before leaves a home to which jobs are as closed as they were. It is written
    anew, and the one before it is kept beside it for comments that people had put there.
    """
    policy = load_policy(folder / POLICY_FILE)
    pins(policy, joined(folder), invitation)
    after = pinned(policy, invitation)
    write_file(folder / INVITATION_FILE, data)
    write_file(folder / AUTHORITY_FILE, invitation.certificate.encode())
    if after != policy:
        write_file(folder / POLICY_BEFORE_FILE, (folder / POLICY_FILE).read_bytes())
        write_file(folder / POLICY_FILE, render_policy(after).encode())


def _pins(policy: LocalPolicy, kept: Invitation | None, invitation: Invitation) -> Iterator[Pin]:
    def own(name: str) -> str:
        return "" if kept is None else str(getattr(kept, name))

    yield Pin(what="platform", before=own("platform_url"), after=invitation.platform_url)
    yield Pin(
        what="platform key",
        before=own("platform_key"),
        after=invitation.platform_key,
        compare="the platform's operator",
    )
    yield Pin(
        what="catalogue key", before=own("catalogue_key"), after=invitation.catalogue_key,
        compare="the platform's operator",
    )  # fmt: skip
    yield Pin(what="issuer key", before=policy.issuer_public_key, after=invitation.issuer_key, compare="the issuer")
    yield Pin(
        what="publisher key", before=policy.publisher_public_key, after=invitation.publisher_key,
        compare="the publisher of models",
    )  # fmt: skip
    for helper in invitation.helpers:
        pin = policy.helpers.get(helper.name)
        before = "" if pin is None else pin.signing
        yield Pin(what=f"helper {helper.name}", before=before, after=helper.signing, compare=helper.name)
    known = invitation.app_digest if invitation.app_digest in policy.app_digests else ""
    yield Pin(what="app bundle", before=known, after=invitation.app_digest)
    yield Pin(what="SuperLink", before=own("superlink"), after=invitation.superlink)
    before = "" if kept is None else certificate_fingerprint(kept.certificate)
    yield Pin(what="server's authority", before=before, after=certificate_fingerprint(invitation.certificate))
    yield Pin(what="model", before=own("model"), after=invitation.model)


def shown(pin: Pin) -> str:
    """A line for people: the value, for a key its fingerprint too, and what becomes of what was there."""
    mark = "  " if not pin.is_new else "+ "
    words = pin.after if not pin.compare else f"{pin.after}\n    {key_fingerprint(pin.after)}, of {pin.compare}"
    was = f"\n    instead of {pin.before}" if pin.before and pin.is_new else ""
    return f"{mark}{pin.what}: {words}{was}"


def _place(what: str) -> str:
    return INVITATION_FILE + " (remove the file)" if what in ("platform key", "catalogue key") else POLICY_FILE
