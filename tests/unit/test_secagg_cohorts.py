from collections import Counter

import pytest

from shared.errors import UnknownKey, WrongContext
from shared.roster import Roster
from shared.secagg.cohorts import divide
from tests.secagg_cast import member

NAMES = tuple(f"tenant-{n}" for n in range(17))


def roster(names=NAMES) -> Roster:
    return Roster(entries=(*map(member, names), member("north")), epoch=1, issued_at=0, expires_at=2_000)


def base(number: int) -> bytes:
    return number.to_bytes(32, "big")


@pytest.mark.parametrize("cohorts", [1, 2, 5, 16])
def test_every_tenant_is_in_one_cohort_and_sizes_differ_by_one_at_most(cohorts):
    made = divide(base(1), roster(), cohorts)
    sizes = Counter(made.members.values())
    assert set(made.members) == set(NAMES)
    assert len(sizes) == cohorts
    assert max(sizes.values()) - min(sizes.values()) <= 1
    assert len(set(made.contexts)) == cohorts


def test_one_cohort_has_the_attempts_own_context():
    assert divide(base(1), roster(), 1).contexts == (base(1),)
    assert base(1) not in divide(base(1), roster(), 2).contexts


def test_the_places_follow_from_the_attempt_and_the_roster_alone():
    assert divide(base(1), roster(), 4) == divide(base(1), roster(NAMES[::-1]), 4)
    places = [tuple(sorted(divide(base(n), roster(), 4).members.items())) for n in range(20)]
    assert len(set(places)) == 20


def test_no_tenant_keeps_its_company_over_many_attempts():
    together = Counter()
    for attempt in range(400):
        made = divide(base(attempt), roster(), 4).members
        together.update(name for name in NAMES[1:] if made[name] == made[NAMES[0]])
    # 16 others on about 3.25 places: a fifth of the attempts each, within six deviations.
    assert all(abs(together[name] - 400 * 3.25 / 16) < 6 * 8.1 for name in NAMES[1:])


def test_a_set_of_two_cohorts_has_no_cohort_and_a_stranger_is_in_none():
    made = divide(base(1), roster(), 2)
    first = [name for name in NAMES if made.of(name) == 0]
    other = next(name for name in NAMES if made.of(name) == 1)
    assert made.of_all(first) == 0
    assert made.context_of(other) == made.contexts[1]
    with pytest.raises(WrongContext, match=f"{other} in cohort 1: they are not summed together"):
        made.of_all([*first, other])
    for stranger in ("nobody", "north"):
        with pytest.raises(UnknownKey, match=stranger):
            made.of_all([stranger])


def test_a_base_that_is_no_context_is_refused():
    with pytest.raises(WrongContext, match="32 bytes"):
        divide(b"short", roster(), 2)
