"""The erasure journal and the database brought together: after a restore, and before anything is served."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime

from sqlmodel import Session, col, select

from platform_api.accounts.tables import User
from platform_api.app import FEATURES
from platform_api.consents.service import erase_person
from platform_api.database import Database
from platform_api.erasures import ErasureJournal, Recorded
from platform_api.settings import PREFIX, Settings
from shared.errors import DeploymentError

_AT_ONCE = 500


@dataclass(frozen=True, kw_only=True)
class Difference:
    """again: recorded as erased, and there as if they were not; behind: erased here, and not recorded."""

    recorded: Recorded
    again: tuple[str, ...]
    behind: tuple[str, ...]


def difference(settings: Settings, session: Session) -> Difference:
    """What the journal and the database say otherwise. Raises DeploymentError where the file cannot be read."""
    try:
        recorded = ErasureJournal(settings.erasure_journal).read()
    except OSError as error:
        raise _unusable(settings, error) from None
    erased = set(session.exec(select(User.id).where(col(User.erased_at).is_not(None))).all())
    again = [
        found
        for ids in _in_stretches(sorted(recorded.ids - erased))
        for found in session.exec(select(User.id).where(col(User.id).in_(ids))).all()
    ]
    return Difference(recorded=recorded, again=tuple(again), behind=tuple(sorted(erased - recorded.ids)))


def settle(settings: Settings, database: Database, now: datetime) -> Difference:
    """Erase again whoever the journal names, and record whom only the database knows; the difference there was.

    Each erasure is a transaction of its own; may be done any number of times, by several processes at once.
    Raises DeploymentError.
    """
    with database.reading() as session:
        found = difference(settings, session)
    for user_id in found.again:
        with database.writing() as session:
            erase_person(session, FEATURES, user_id, now)
    if found.behind:
        try:
            ErasureJournal(settings.erasure_journal).add(found.behind)
        except OSError as error:
            raise _unusable(settings, error) from None
    return found


def _in_stretches(ids: list[str]) -> Iterator[Iterable[str]]:
    return (ids[start : start + _AT_ONCE] for start in range(0, len(ids), _AT_ONCE))


def _unusable(settings: Settings, error: OSError) -> DeploymentError:
    reason = error.strerror or type(error).__name__
    return DeploymentError(f"{PREFIX}ERASURE_JOURNAL: {settings.erasure_journal} cannot be used ({reason}); mend that")
