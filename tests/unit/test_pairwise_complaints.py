"""Shares that do not open: what a neighbour can prove of their dealer, and of nobody else."""

from dataclasses import replace
from typing import Any

import pytest

from shared.errors import BadSignature, IllegalTransition, MalformedMessage, WrongContext, ZhiyinError
from shared.secagg import share_complaint
from shared.secagg.exchange_proof import prove_exchange
from shared.secagg.pairwise_keys import exchange, open_exchanged, private_key, seal_shares
from shared.secagg.pairwise_messages import Dealing, SealedShares
from shared.secagg.pairwise_opening import deliveries_to
from shared.secagg.share_complaint import ShareComplaint, verify_share_complaint
from shared.secagg.topology_p import check_deliveries, prove_bad_shares
from tests.pairwise_cast import NOW, Course, Round, resigned, signing_key

ROUND = Round()
COURSE: Course = ROUND.run()
HOLDER, DEALER, OTHER = ROUND.names[:3]
HONEST = next(dealing for dealing in COURSE.dealings if dealing.client == DEALER)


def dealt(change: Any) -> Dealing:
    """The dealer's dealing with other shares for the holder, signed by the dealer."""
    shares = tuple(change(each) if each.receiver == HOLDER else each for each in HONEST.shares)
    made: Dealing = resigned(HONEST, shares=shares)
    return made


def garbage(shares: SealedShares) -> SealedShares:
    return replace(shares, sealed=bytes(len(shares.sealed)))


def sealed_as(plain: bytes) -> Any:
    """Properly sealed by the dealer's own key of the round, and not what it committed to."""
    state = COURSE.advertised[DEALER][0]

    def change(shares: SealedShares) -> SealedShares:
        sealed = seal_shares(
            plain, private_key(state.seal_secret), COURSE.agreement.bundles[HOLDER].seal_key, ctx=ROUND.ctx,
            root=COURSE.agreement.root, sender=DEALER, receiver=HOLDER,
        )  # fmt: skip
        return replace(shares, sealed=sealed)

    return change


def other_digest(shares: SealedShares) -> SealedShares:
    return replace(shares, key_digest=bytes(32))


BAD = {"garbage": dealt(garbage), "another share": dealt(sealed_as(bytes(66))), "another digest": dealt(other_digest)}


def complain(dealing: Dealing, holder: str = HOLDER, **changes: Any) -> ShareComplaint:
    arguments: dict[str, Any] = {"roster": ROUND.roster, "now": NOW, "signing_key": signing_key(holder), **changes}
    return prove_bad_shares(COURSE.dealt[holder][0], dealing, **arguments)


def verify(complaint: ShareComplaint, dealing: Dealing, **changes: Any) -> None:
    arguments: dict[str, Any] = {"agreement": COURSE.agreement, "roster": ROUND.roster, "now": NOW, **changes}
    verify_share_complaint(complaint, dealing, **arguments)


@pytest.mark.parametrize("kind", BAD)
def test_everybody_can_check_the_proof_that_dealt_shares_do_not_open(kind: str) -> None:
    with pytest.raises(ZhiyinError) as caught:
        check_deliveries(COURSE.dealt[HOLDER][0], deliveries_to(HOLDER, [BAD[kind], *others()]))
    assert DEALER in {getattr(caught.value, "client", ""), getattr(caught.value, "owner", "")}
    complaint = complain(BAD[kind])
    assert (complaint.client, complaint.dealer) == (HOLDER, DEALER)
    verify(complaint, BAD[kind])
    assert complain(BAD[kind]) == complaint


def test_a_complaint_is_about_one_dealing_though_the_dealer_signed_another_bad_one() -> None:
    with pytest.raises(WrongContext, match="another dealing"):
        verify(complain(BAD["garbage"]), BAD["another share"])


def others() -> list[Dealing]:
    return [dealing for dealing in COURSE.dealings if dealing.client != DEALER]


def test_of_an_honest_dealer_nothing_can_be_said() -> None:
    for dealing in COURSE.dealings:
        if dealing.client != HOLDER:
            with pytest.raises(WrongContext, match="do open"):
                complain(dealing)


def test_nor_by_a_server_that_changes_what_it_delivers() -> None:
    # The holder tells its exchange about nothing that the dealer did not sign.
    changed = replace(HONEST, shares=tuple(garbage(each) for each in HONEST.shares))
    with pytest.raises(BadSignature):
        complain(changed)
    stranger = resigned(changed, client=DEALER)
    with pytest.raises(BadSignature):
        complain(replace(stranger, signature=signing_key(OTHER).sign(b"anything")))


def test_a_liar_has_no_proof_whatever_it_says_the_exchange_is() -> None:
    """A holder with its own key and everybody's messages complains of shares that do open."""
    true = complain(BAD["garbage"])
    about_honest = replace(true, dealt=lie_about(HONEST))
    with pytest.raises(BadSignature):
        verify(signed_by(about_honest, HOLDER), HONEST)
    with pytest.raises(WrongContext):
        verify(true, HONEST)


def lie_about(dealing: Dealing) -> bytes:
    return share_complaint._digest(dealing)


def signed_by(complaint: ShareComplaint, name: str) -> ShareComplaint:
    return replace(complaint, signature=signing_key(name).sign(share_complaint._message(complaint)))


def test_even_a_true_exchange_does_not_make_a_complaint_true() -> None:
    state, agreement = COURSE.dealt[HOLDER][0], COURSE.agreement
    own, peer = (agreement.bundles[name].seal_key for name in (HOLDER, DEALER))
    statement = share_complaint._statement(agreement, HOLDER, DEALER, lie_about(HONEST))
    point, proof = prove_exchange(state.seal_secret.reveal(), own, peer, statement)
    lie = signed_by(
        replace(complain(BAD["garbage"]), dealt=lie_about(HONEST), exchange=point, proof=proof), HOLDER
    )  # fmt: skip
    with pytest.raises(WrongContext, match="do open"):
        verify(lie, HONEST)


@pytest.mark.parametrize("field", ["client", "ctx", "root", "dealer", "dealt", "exchange", "proof", "signature"])
def test_no_field_of_a_complaint_can_be_changed(field: str) -> None:
    complaint = complain(BAD["garbage"])
    value = getattr(complaint, field)
    other = OTHER if isinstance(value, str) else bytes([value[0] ^ 1]) + value[1:]
    changed = replace(complaint, **{field: other})
    with pytest.raises((WrongContext, BadSignature)):
        verify(changed, BAD["garbage"])
    with pytest.raises((WrongContext, BadSignature)):
        verify(changed if field == "signature" else signed_by(changed, HOLDER), BAD["garbage"])


def test_a_complaint_in_another_s_name_is_refused() -> None:
    complaint = complain(BAD["garbage"])
    with pytest.raises(BadSignature):
        verify(signed_by(complaint, OTHER), BAD["garbage"])


def test_what_a_complaint_tells_opens_the_seals_between_these_two_and_no_other() -> None:
    complaint, agreement = complain(BAD["garbage"]), COURSE.agreement
    state = COURSE.dealt[HOLDER][0]
    told = exchange(private_key(state.seal_secret), agreement.bundles[DEALER].seal_key, DEALER)
    opened = []
    for dealing in COURSE.dealings:
        for each in dealing.shares:
            try:
                open_exchanged(
                    each.sealed, told, ctx=ROUND.ctx, root=agreement.root, sender=dealing.client, receiver=each.receiver
                )
            except ZhiyinError:
                continue
            opened.append({dealing.client, each.receiver})
    assert opened == [{HOLDER, DEALER}, {HOLDER, DEALER}]
    assert state.seal_secret.reveal() not in b"".join(v for v in vars(complaint).values() if isinstance(v, bytes))


def test_a_dealing_without_shares_for_the_holder_or_of_the_holder_itself_is_refused() -> None:
    fewer = resigned(HONEST, shares=tuple(each for each in HONEST.shares if each.receiver != HOLDER))
    with pytest.raises(MalformedMessage):
        complain(fewer)
    own = next(dealing for dealing in COURSE.dealings if dealing.client == HOLDER)
    with pytest.raises(ZhiyinError):
        complain(own)


def test_after_its_vector_a_party_proves_nothing_more() -> None:
    with pytest.raises(IllegalTransition):
        prove_bad_shares(
            COURSE.masked[HOLDER][0], BAD["garbage"], roster=ROUND.roster, now=NOW, signing_key=signing_key(HOLDER)
        )


def test_another_round_s_dealing_is_none_of_this_round_s() -> None:
    other = Round(step=1).run().dealings[1]
    with pytest.raises(WrongContext):
        complain(other)
