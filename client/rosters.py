"""What a client does with the list of parties that it is handed: remember the newest, refuse older ones, erase the
sealing keys that it has replaced, and warn its owner while there is time."""

from collections.abc import Iterator

from client.durable_files import write_file
from client.home import ClientHome
from shared.errors import ProtocolError
from shared.roster import Member, Roster, open_roster, verified_roster

SECONDS_A_DAY = 86_400
WARN_SECONDS = 14 * SECONDS_A_DAY
_ROTATE = "run `zhiyin client keys rotate` and send the request to the issuer"


def accept_roster(home: ClientHome, roster: Roster, signed: bytes) -> bool:
    """Remember `roster` durably, before anything is answered under it; True if it is newer than all before.

    roster: opened from `signed` with the pinned issuer key. Costs one read where it is the newest already. Raises
    OldRoster and ForkedRoster.
    """
    issuer, digest = home.policy.issuer_public_key, bytes.fromhex(roster.digest)
    newest = home.ledger.newest_roster(issuer)
    if newest is not None and (newest.epoch, newest.digest) == (roster.epoch, digest):
        return False
    if newest is None or newest.epoch < roster.epoch:
        # Only to be looked at, by `status`. First, so that a crash leaves a list too new and never one too old.
        write_file(home.kept_roster, signed)
    home.ledger.accept_roster(issuer=issuer, epoch=roster.epoch, digest=digest)
    return True


def erase_replaced_keys(home: ClientHome, roster: Roster, now: int) -> tuple[int, ...]:
    """Erase the sealing keys older than the one that `roster` lists for this party; returns their numbers.

    Call after `accept_roster`: lists that name an older key are refused from then on, so nothing is lost that could
    still be asked for. Only a key that this party certified under its present identity counts as listed.
    """
    member = _listed(roster, home.name)
    if member is None or member.sealing is None:
        return ()
    try:
        member.sealing.opened(home.name, home.vault.signing_public, now)
    except ProtocolError:
        return ()
    return home.vault.erase_older_than(member.sealing_key)


def learn_roster(home: ClientHome, signed: bytes, now: int) -> tuple[Roster, bool, tuple[int, ...]]:
    """As at a message of the server, with a list that came another way: the list, whether it is new, and erased keys.

    Raises ClockSetBack, UnknownKey, BadSignature, ExpiredKey, MalformedMessage, OldRoster or ForkedRoster.
    """
    home = home.at(now)
    roster = open_roster(signed, home.policy.issuer_public_key, now)
    new = accept_roster(home, roster, signed)
    return roster, new, erase_replaced_keys(home, roster, now)


def kept_roster(home: ClientHome) -> Roster | None:
    """The newest list that this home has seen, of any age, to tell a person about; None if there is none to tell of."""
    try:
        return verified_roster(home.kept_roster.read_bytes(), home.policy.issuer_public_key)
    except (OSError, ProtocolError):
        return None


def notices(home: ClientHome, now: int) -> list[str]:
    """What the owner of this home should do something about: validity that is over or ends soon, keys that differ.

    Empty before the first list, and while everything lasts for another fortnight.
    """
    newest, roster = home.ledger.newest_roster(home.policy.issuer_public_key), kept_roster(home)
    if newest is None:
        return []
    if (
        roster is None
        or roster.epoch < newest.epoch
        or (roster.epoch == newest.epoch and roster.digest != newest.digest.hex())
    ):
        return [f"the list of epoch {newest.epoch} is not kept here; hand it over with `zhiyin client roster`"]
    return [
        *_ending(f"the list of epoch {roster.epoch}", roster.expires_at, now, "ask the issuer for a newer one"),
        *_own_notices(home, roster, now),
        *(line for name in home.policy.helpers for line in _helper_notices(home, roster, name, now)),
    ]


def _own_notices(home: ClientHome, roster: Roster, now: int) -> Iterator[str]:
    member = _listed(roster, home.name)
    if member is None:
        yield f"{home.name} is not on the list of epoch {roster.epoch}; ask the issuer"
        return
    if member.signing_key != home.vault.signing_public:
        yield f"the list has another signing key for {home.name} than this home; ask the issuer, or enrol anew"
        return
    yield from _ending(f"the place of {home.name} on the list", member.not_after, now, "ask the issuer to extend it")
    if member.sealing is None or "helper" not in home.policy.serve_as:
        return
    if not home.vault.holds(member.sealing_key):
        yield f"this home does not hold the sealing key that the list has for {home.name}; {_ROTATE}"
    yield from _ending(f"the certified sealing key of {home.name}", member.sealing.not_after, now, _ROTATE)


def _helper_notices(home: ClientHome, roster: Roster, name: str, now: int) -> Iterator[str]:
    member = _listed(roster, name)
    if name == home.name:
        return
    if member is None or member.sealing is None:
        yield f"the pinned helper {name} is not on the list of epoch {roster.epoch} as a helper"
    elif member.signing_key != home.policy.helpers[name].signing:
        yield f"the pinned helper {name} is listed with another signing key; ask {name} in person before you pin it"
    else:
        mend = f"ask {name} and the issuer"
        yield from _ending(f"the place of the helper {name} on the list", member.not_after, now, mend)
        yield from _ending(f"the certified sealing key of the helper {name}", member.sealing.not_after, now, mend)


def _listed(roster: Roster, name: str) -> Member | None:
    return next((member for member in roster.entries if member.name == name), None)


def _ending(what: str, end: int, now: int, mend: str) -> Iterator[str]:
    left = end - now
    if left <= 0:
        yield f"{what} has run out; {mend}"
    elif left < WARN_SECONDS:
        yield f"{what} runs out in {left // SECONDS_A_DAY} days; {mend}"
