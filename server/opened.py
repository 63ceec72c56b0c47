"""The sums that an attempt has opened: of each cohort one, what speaks against it, and the total of those that stand.

What a dropped cohort's tenants paid stays paid: its sum was opened, and its record says so.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from numpy import int64
from numpy.typing import NDArray

from server.job import Job
from server.job_events import CohortsJudged, OpeningFailed, OpenSum, SumOpened
from server.job_state import Answered, CohortDropped, JobState, Offer
from server.rounds import advance
from shared.errors import ZhiyinError
from shared.plan import TrainingPlan, steps
from shared.robust_sum import CohortSum, Combined, Drop, combine, judge
from shared.secagg.topology_h import Contribution, HelperAnswer, open_sum

State = JobState[Any, Any]


@dataclass(frozen=True, kw_only=True, eq=False)
class Opened:
    """answers: who answered for what, for the record."""

    sum: CohortSum
    answers: tuple[dict[str, Any], ...]


def open_cohort(
    job: Job, ctx: bytes, state: State, opening: OpenSum[Contribution, HelperAnswer]
) -> tuple[State, tuple[Opened, ...]]:
    """The sum of the cohort at hand; none where it does not open, or where it is the only one and no honest tenants
    would give it: that ends the attempt."""
    try:
        total = open_sum(
            ctx=ctx,
            sharing=job.plan.sharing,
            contributions=[offer.contribution for offer in opening.offers],
            answers=[each.answer for each in opening.answers],
            roster=job.roster,
            now=job.now,
            bits=job.plan.bits,
            num_coordinates=steps(job.plan)[opening.turn.step].num_coordinates,
        )
    except ZhiyinError as error:
        return advance(state, OpeningFailed(turn=opening.turn, reason=f"{type(error).__name__}: {error}")), ()
    found = opened(job.plan, state.at, total, opening.offers, opening.answers)
    return accepted(job, state, found)


def accepted(job: Job, state: State, found: Opened) -> tuple[State, tuple[Opened, ...]]:
    """On with an open sum. If it is the only one it is judged now; several are judged when all of them are open."""
    if job.plan.cohorts == 1:
        for drop in _judge(job, state, (found,)):
            return advance(state, OpeningFailed(turn=state.turn, reason=f"the sum is poisoned: {drop.reason}")), ()
    return advance(state, SumOpened(turn=state.turn)), (found,)


def opened(
    plan: TrainingPlan,
    cohort: int,
    total: NDArray[int64],
    offers: Sequence[Offer[Any]],
    answers: Sequence[Answered[Any]],
) -> Opened:
    """A sum with what its noise is made of: helpers' answers, or the tenants' own parts."""
    num_noises = {"helpers": len(answers), "none": 0}.get(plan.noise, len(offers))
    found = CohortSum(
        cohort=cohort,
        total=total,
        num_users=sum(offer.declared_users for offer in offers),
        num_tenants=len(offers),
        num_noises=num_noises,
    )
    return Opened(sum=found, answers=tuple(map(_told, answers)))


def judged(job: Job, state: State, sums: Sequence[Opened]) -> State:
    """The state without the cohorts whose sums no honest tenants would give; each of those is in the events."""
    dropped = tuple(CohortDropped(cohort=drop.cohort, reason=drop.reason) for drop in _judge(job, state, sums))
    tell_cohorts(job, state, dropped)
    return advance(state, CohortsJudged(turn=state.turn, dropped=dropped))


def _judge(job: Job, state: State, sums: Sequence[Opened]) -> tuple[Drop, ...]:
    step = steps(job.plan)[state.turn.step]
    return judge([each.sum for each in sums], step=step, max_spread=job.plan.max_spread)


def tell_cohorts(job: Job, state: State, dropped: Sequence[CohortDropped]) -> None:
    """An event for each cohort that is left out; of a plan with one cohort the attempt's own events say it."""
    for each in dropped if job.plan.cohorts > 1 else ():
        job.progress(
            "cohort_dropped",
            step=state.turn.step,
            attempt=state.turn.attempt,
            cohort=each.cohort,
            tenants=[offer.client for offer in state.offers if offer.cohort == each.cohort],
            reason=each.reason,
        )


def total_of(plan: TrainingPlan, sums: Sequence[Opened], cohorts: Sequence[int]) -> Combined:
    """One total of the `cohorts` that stand, by the plan's rule."""
    return combine([each.sum for each in sums if each.sum.cohort in cohorts], trim=plan.trim)


def cohorts_told(state: State, sums: Sequence[Opened]) -> list[dict[str, Any]]:
    """For the record: each cohort's tenants with their declared users, whether its sum was opened, why it was left out
    (empty where it was not)."""
    reasons = {each.cohort: each.reason for each in state.dropped}
    was_opened = {each.sum.cohort for each in sums}
    return [
        {
            "tenants": {offer.client: offer.declared_users for offer in state.offers if offer.cohort == cohort},
            "opened": cohort in was_opened,
            "left_out": reasons.get(cohort, ""),
        }
        for cohort in range(state.rules.cohorts)
    ]


def _told(answered: Answered[Any]) -> dict[str, Any]:
    if not answered.slots:
        return {"peer": answered.helper}
    return {"helper": answered.helper, "slots": list(answered.slots)}
