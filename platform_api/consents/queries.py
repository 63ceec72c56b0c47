"""Reading policies and receipts."""

from collections.abc import Sequence

from sqlalchemy import func
from sqlmodel import Session, col, select

from platform_api.accounts.tables import User
from platform_api.consents.purposes import Purpose
from platform_api.consents.tables import ConsentReceipt, Policy


def current_policy(session: Session) -> Policy | None:
    return session.exec(select(Policy).order_by(col(Policy.version).desc()).limit(1)).one_or_none()


def policies_before(session: Session, before: int | None, limit: int) -> Sequence[Policy]:
    """Newest first."""
    wanted = select(Policy).order_by(col(Policy.version).desc()).limit(limit)
    return session.exec(wanted if before is None else wanted.where(col(Policy.version) < before)).all()


def last_receipt(session: Session, user_id: str, purpose: Purpose) -> ConsentReceipt | None:
    wanted = select(ConsentReceipt).where(
        col(ConsentReceipt.user_id) == user_id, col(ConsentReceipt.purpose) == purpose
    )
    return session.exec(wanted.order_by(col(ConsentReceipt.number).desc()).limit(1)).one_or_none()


def receipts_after(session: Session, user_id: str, after: int | None, limit: int | None) -> Sequence[ConsentReceipt]:
    wanted = select(ConsentReceipt).where(col(ConsentReceipt.user_id) == user_id).order_by(col(ConsentReceipt.number))
    if after is not None:
        wanted = wanted.where(col(ConsentReceipt.number) > after)
    return session.exec(wanted.limit(limit)).all()


def consenting_learners(
    session: Session, tenant_id: str, purpose: Purpose, policy_version: int, after: str | None, limit: int
) -> Sequence[str]:
    """Ids of a tenant's people whose last word on the purpose is a yes to this version of the policy, in order."""
    last = (
        select(func.max(ConsentReceipt.number))
        .where(col(ConsentReceipt.purpose) == purpose)
        .group_by(col(ConsentReceipt.user_id))
    )
    wanted = (
        select(User.id)
        .join(ConsentReceipt, col(ConsentReceipt.user_id) == col(User.id))
        .where(
            col(User.tenant_id) == tenant_id,
            col(User.erased_at).is_(None),
            col(ConsentReceipt.number).in_(last),
            col(ConsentReceipt.given).is_(True),
            col(ConsentReceipt.policy_version) == policy_version,
        )
        .order_by(col(User.id))
        .limit(limit)
    )
    return session.exec(wanted if after is None else wanted.where(col(User.id) > after)).all()
