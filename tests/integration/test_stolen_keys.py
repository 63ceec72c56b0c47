"""The procedures for lost and stolen keys, walked through with real homes, the issuer's commands and real answers."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from numpy.typing import NDArray

from client.cli import client_app
from client.vault import Vault
from shared.errors import BadSeal, BadSetting, BadSignature
from shared.secagg import ring
from shared.secagg.context import join_fields, vector_digest
from shared.secagg.prg import MaskSeed, add_keystreams
from shared.secagg.sealing import open_seal
from shared.secagg.topology_h import Contribution, HelperAnswer, _answer_message
from shared.wire import ContributionReply, Refusal, UnmaskReply
from tests.federation_cast import NUM_ITEMS, fill, history_of
from tests.identity_cast import HELPERS, Federation, command, errors_of, make_federation, works

IDENTITY = ("rotate", "--key", "signing", "--key", "node")
EVERYTHING = (*IDENTITY, "--key", "sealing")


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Federation:
    return make_federation(tmp_path_factory.mktemp("federation"))


@pytest.fixture
def federation(original: Federation, tmp_path: Path) -> Federation:
    shutil.copytree(original.folder, tmp_path / "copy")
    return Federation(
        folder=tmp_path / "copy",
        homes={name: tmp_path / "copy" / "homes" / name for name in original.homes},
        issuer_public=original.issuer_public,
        signed=original.signed,
    )


def stolen(federation: Federation, name: str) -> Path:
    """The thief's copy of a home."""
    copy = federation.folder / f"stolen-{name}"
    shutil.copytree(federation.homes[name], copy)
    return copy


def refusals(federation: Federation, contributions: list[Contribution]) -> dict[str, str]:
    """What each helper says to a cohort, by the name of the error."""
    said = {name: federation.answer_of(federation.homes[name], contributions) for name in HELPERS}
    return {name: reply.error for name, reply in said.items() if isinstance(reply, Refusal)}


def contributions(federation: Federation, *names: str) -> list[Contribution]:
    replies = [federation.contribution_of(federation.homes[name]) for name in names]
    return [reply.contribution for reply in replies if isinstance(reply, ContributionReply)]


def test_a_stolen_tenant_key(federation: Federation) -> None:
    old = federation.signed
    assert works(federation.turn())
    thief = stolen(federation, "carl")
    assert works(federation.turn(carl=thief))  # nobody can tell yet
    asleep = thief.with_name("asleep")
    shutil.copytree(thief, asleep)

    federation.revoke("carl")
    federation.publish()
    # Everybody who is asked under the new list knows it from then on; only the one who is not on it is refused.
    assert errors_of(federation.turn()) == {"carl": "UnknownKey"}
    assert errors_of(federation.turn(carl=thief)) == {"carl": "UnknownKey"}
    # A thief does not run our checks: with the key alone, under the new list, no helper takes it.
    federation.attempt += 1
    key = Vault.open(thief / "keys").signing_key
    cohort = [*contributions(federation, "anna", "bert"), federation.forged("carl", key)]
    assert refusals(federation, cohort) == dict.fromkeys(HELPERS, "UnknownKey")
    # And a server that hands out the old list again is refused by everybody who has seen the new one.
    assert errors_of(federation.turn(old, carl=asleep)) == {"anna": "OldRoster", "bert": "OldRoster"}

    federation.enrol(federation.request("carl", *IDENTITY))
    federation.publish()
    assert works(federation.turn())
    federation.attempt += 1
    cohort = [*contributions(federation, "anna", "bert"), federation.forged("carl", key)]
    assert refusals(federation, cohort) == dict.fromkeys(HELPERS, "BadSignature")
    assert errors_of(federation.turn(carl=thief)) == {"carl": "UnknownKey"}
    assert errors_of(federation.turn(old)) == dict.fromkeys(federation.homes, "OldRoster")
    assert len(federation.home("carl").ledger.spent()) > 0  # a new identity, and the same account


def test_a_lost_tenant_key(federation: Federation) -> None:
    old = federation.signed
    assert works(federation.turn())
    (federation.homes["carl"] / "keys" / "sign.key").unlink()
    with pytest.raises(BadSetting, match=r"sign\.key: the file is missing"):
        federation.turn()
    with pytest.raises(BadSetting, match=r"sign\.key: the file is missing"):
        federation.request("carl")

    request = federation.request("carl", *IDENTITY)
    with pytest.raises(BadSetting, match="enrolled with another signing key"):
        federation.enrol(request)  # whoever asks, the old identity has to be revoked on purpose
    assert errors_of(federation.turn()) == {"carl": "UnknownKey"}
    federation.revoke("carl")
    federation.enrol(request)
    federation.publish()
    assert works(federation.turn())
    assert errors_of(federation.turn(old)) == dict.fromkeys(federation.homes, "OldRoster")


def opens(keys: list[X25519PrivateKey], contribution: Contribution, helper: str) -> MaskSeed | None:
    """The mask seed that was sealed to `helper`, if any of `keys` opens it."""
    # Without spare helpers a slot is named after its only holder.
    slot, client = helper.encode(), contribution.client.encode()
    bound = join_fields(b"zhiyin/seal-to/2", contribution.ctx, client, slot, helper.encode())
    sealed = next(each.sealed for each in contribution.seals if each.helper == helper)
    for key in keys:
        try:
            return MaskSeed(open_seal(key, sealed, associated=bound))
        except BadSeal:
            continue
    return None


def unmasked(contribution: Contribution, homes: dict[str, Path]) -> NDArray[np.int64] | None:
    """One contribution, opened with all that the keys in the helpers' homes open: None if a seed stays closed."""
    found = [
        opens(list(Vault.open(home / "keys").sealing_keys.values()), contribution, name) for name, home in homes.items()
    ]
    seeds = [seed for seed in found if seed is not None]
    if len(seeds) < len(homes):
        return None
    buffer = ring.unpack(contribution.masked, 64, NUM_ITEMS).copy()
    add_keystreams(buffer, [seed.key(contribution.ctx) for seed in seeds])
    return ring.decode(buffer, 64)


def test_a_stolen_sealing_key(federation: Federation) -> None:
    old = federation.signed
    fill(federation.home("carl"), history_of("carl", 20))
    assert works(federation.turn())
    thief = list(Vault.open(stolen(federation, "bert") / "keys").sealing_keys.values())
    federation.attempt += 1
    (before,) = contributions(federation, "carl")
    assert opens(thief, before, "bert") is not None

    federation.enrol(federation.request("bert", "rotate"))
    federation.publish()
    assert works(federation.turn())  # nobody changed a policy: the pin is on the signing key
    federation.attempt += 1
    (after,) = contributions(federation, "carl")
    assert opens(thief, after, "bert") is None
    assert opens(list(federation.home("bert").vault.sealing_keys.values()), after, "bert") is not None
    # Handed the old list, nobody seals to the stolen key again.
    assert errors_of(federation.turn(old)) == dict.fromkeys(federation.homes, "OldRoster")


def test_what_was_recorded_before_a_rotation_stays_closed_when_every_helper_is_broken_into_after_it(
    federation: Federation,
) -> None:
    fill(federation.home("carl"), history_of("carl", 20))
    helpers = {name: federation.homes[name] for name in HELPERS}
    federation.attempt += 1
    (recorded,) = contributions(federation, "carl")
    # The control: broken into now, both helpers' keys give the contribution away, users' counts and all.
    opened = unmasked(recorded, helpers)
    assert opened is not None
    assert opened.sum() > 0
    assert opened.max() < 2**40

    federation.enrol(federation.request("bert", "rotate"))
    assert unmasked(recorded, helpers) is not None  # made, and not yet listed
    federation.publish()
    assert unmasked(recorded, helpers) is not None  # listed, and not yet seen
    assert works(federation.turn())
    assert sorted(path.name for path in (helpers["bert"] / "keys").iterdir()) == [
        "node.key", "node.pub", "seal-0002.key", "sign.key",
    ]  # fmt: skip
    assert unmasked(recorded, helpers) is None


def test_a_stolen_helper_signing_key(federation: Federation) -> None:
    old = federation.signed
    assert works(federation.turn())
    thief = stolen(federation, "bert")
    assert works(federation.turn(bert=thief))

    federation.revoke("bert")
    federation.enrol(federation.request("bert", *EVERYTHING))
    federation.publish()
    # The issuer's word is not enough for a new helper of an old name: every partner pinned the key.
    assert errors_of(federation.turn()) == dict.fromkeys(federation.homes, "PolicyViolation")
    federation.repin()
    assert works(federation.turn())

    assert errors_of(federation.turn(bert=thief)) == {"bert": "UnknownKey"}
    federation.attempt += 1
    cohort = contributions(federation, "anna", "carl")
    honest = {name: federation.answer_of(federation.homes[name], cohort) for name in HELPERS}
    given = [reply.answer for reply in honest.values() if isinstance(reply, UnmaskReply)]
    federation.opened(cohort, given)
    # What the thief signs with the old key is no answer of bert's.
    digest = vector_digest(given[1].mask_sum)
    message = _answer_message(given[1].ctx, "bert", given[1].slots, given[1].cohort, digest)
    assert Vault.open(federation.homes["bert"] / "keys").signing_key.sign(message) == given[1].signature
    forged = Vault.open(thief / "keys").signing_key.sign(message)
    with pytest.raises(BadSignature):
        federation.opened(cohort, [given[0], HelperAnswer(**{**vars(given[1]), "signature": forged})])
    assert errors_of(federation.turn(old)) == dict.fromkeys(federation.homes, "OldRoster")
    assert errors_of(federation.turn(old, bert=thief)) == {
        "anna": "OldRoster",
        "carl": "OldRoster",
        "bert": "OldRoster",
    }


def test_a_party_that_never_saw_the_new_list_still_accepts_the_old_one_until_it_is_told(federation: Federation) -> None:
    old = federation.signed
    federation.revoke("carl")
    signed = federation.publish()
    # What is left over: nobody was online since.
    assert works(federation.turn(old))
    (federation.folder / "by-mail.bin").write_bytes(signed)
    told = command(client_app, "roster", federation.folder / "by-mail.bin", "--home", federation.homes["anna"])
    assert (told["epoch"], told["new"]) == (2, True)
    assert errors_of(federation.turn(old)) == {"anna": "OldRoster"}
