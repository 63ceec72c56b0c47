"""Giving and withdrawing consent, new policies, export and erasure."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import structlog
from sqlalchemy.exc import IntegrityError
from sqlmodel import Session, col, select, update

from platform_api.accounts import service as accounts
from platform_api.accounts.tables import User
from platform_api.columns import new_id
from platform_api.consents import queries
from platform_api.consents.purposes import BOUND_TO_POLICY, PURPOSES, Purpose
from platform_api.consents.schemas import ConsentChange, ConsentEntry, Consents, NewPolicy
from platform_api.consents.tables import ConsentReceipt, Policy
from platform_api.database import ALIVE
from platform_api.erasures import ErasureJournal
from platform_api.features import Feature
from platform_api.problems import Problem


def has_consent(session: Session, user_id: str, purpose: Purpose) -> bool:
    """Whether the person agrees now. What other features ask before they use a history."""
    policy = queries.current_policy(session)
    return policy is not None and _entry(session, user_id, purpose, policy.version).state == "given"


def consents(session: Session, user_id: str) -> Consents:
    """Where a person stands on every purpose."""
    policy = queries.current_policy(session)
    version = None if policy is None else policy.version
    return Consents(
        policy_version=version, consents=[_entry(session, user_id, purpose, version) for purpose in PURPOSES]
    )


def change_consents(session: Session, user_id: str, wish: ConsentChange, now: datetime) -> None:
    """Add a receipt for every purpose of which something changes.

    Raises Problem (409) unless the person was shown the policy that holds now; withdrawing is possible at any version.
    """
    policy = queries.current_policy(session)
    if policy is None:
        raise Problem("conflict", "no policy has been published that could be agreed to")
    if policy.version != wish.policy_version and any(wish.purposes.values()):
        raise Problem("conflict", f"the policy is version {policy.version} now; show that one")
    for purpose, given in sorted(wish.purposes.items()):
        last = queries.last_receipt(session, user_id, purpose)
        if last is not None and (last.given, last.policy_version) == (given, policy.version):
            continue
        receipt = ConsentReceipt(user_id=user_id, purpose=purpose, given=given, policy_version=policy.version, at=now)
        session.add(receipt)
        session.flush()


def publish_policy(session: Session, wish: NewPolicy, now: datetime) -> Policy:
    """The next version. Raises Problem (409) when another one was published at the same moment."""
    last = queries.current_policy(session)
    version = 1 if last is None else last.version + 1
    policy = Policy(version=version, text_zh=wish.text_zh, text_en=wish.text_en, published_at=now)
    try:
        with session.begin_nested():
            session.add(policy)
    except IntegrityError:
        raise Problem("conflict", "another policy was published just now; read it first") from None
    return policy


def export_everything(session: Session, features: Sequence[Feature], user_id: str) -> dict[str, Any]:
    """What every feature keeps of a person, under the feature's name."""
    return {feature.name: feature.export(session, user_id) for feature in features}


def erase_everything(
    session: Session,
    features: Sequence[Feature],
    journal: ErasureJournal,
    user_id: str,
    checked: str,
    now: datetime,
) -> list[str]:
    """Every feature erases in the one transaction of `session`; accounts, the first, comes last: others point at it.

    Ends every log-in. Raises Problem: 401 where another hash than the checked one is kept by now, 503 where the
    journal cannot be written, for a restored backup would then bring the person back.
    """
    user = session.exec(select(User).where(col(User.id) == user_id).with_for_update(**ALIVE)).one()
    if user.password_hash != checked:
        raise Problem("wrong-credentials", "the password does not fit")
    done = _erased(session, features, user_id, now)
    try:
        journal.add([user_id])
    except OSError as error:
        structlog.get_logger("platform").error("an erasure could not be recorded", error=type(error).__name__)
        raise Problem("unavailable", "the erasure could not be recorded, so nothing was erased") from None
    return done


def erase_person(session: Session, features: Sequence[Feature], user_id: str, now: datetime) -> None:
    """Carry out an erasure that was recorded before; nothing happens where it was."""
    user = session.exec(select(User).where(col(User.id) == user_id).with_for_update(**ALIVE)).one()
    if user.erased_at is None:
        _erased(session, features, user_id, now)


def _erased(session: Session, features: Sequence[Feature], user_id: str, now: datetime) -> list[str]:
    accounts.log_out(session, user_id, "", now, everywhere=True)
    done = []
    for feature in reversed(features):
        feature.erase(session, user_id, now)
        done.append(feature.name)
    session.flush()
    return done


def export_consents(session: Session, user_id: str) -> dict[str, Any]:
    """All receipts."""
    return {"receipts": [row.model_dump(mode="json") for row in queries.receipts_after(session, user_id, None, None)]}


def erase_consents(session: Session, user_id: str, now: datetime) -> None:
    """Receipts stay as proof, under a pseudonym drawn now and kept nowhere else."""
    pseudonym = new_id("gone")
    session.exec(update(ConsentReceipt).where(col(ConsentReceipt.user_id) == user_id).values(user_id=pseudonym))


def _entry(session: Session, user_id: str, purpose: Purpose, version: int | None) -> ConsentEntry:
    last = queries.last_receipt(session, user_id, purpose)
    if last is None:
        return ConsentEntry(purpose=purpose, state="never-given", policy_version=None, at=None)
    stale = purpose in BOUND_TO_POLICY and last.policy_version != version
    state: Any = "withdrawn" if not last.given else "stale" if stale else "given"
    return ConsentEntry(purpose=purpose, state=state, policy_version=last.policy_version, at=last.at)
