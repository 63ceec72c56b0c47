"""The strongest reader of the sums: the server with one of the two helpers, who knows everybody but the target.

The helper opens the seeds that were sealed to it, grows its masks again, and takes its own noise out of the sum. What
is left carries the other helper's noise alone, which is what the statement counts on.
"""

import os
import time
from collections.abc import Mapping
from math import inf

import numpy as np
from numpy.typing import NDArray

from client.device import device_values
from client.tenant import tenant_values
from shared.interactions import Interactions
from shared.mechanism import DiscreteGaussian
from shared.plan import Step, steps
from shared.roster import open_roster
from shared.secagg.prg import sum_packed
from shared.secagg.topology_h import HelperAnswer, helper_answer
from shared.wire import ContributionReply, ContributionRequest, UnmaskReply, UnmaskRequest
from simulations.auditing.stage import HELPERS, PARTIES, TARGET, Stage
from simulations.auditing.transcript import Call, Transcript

COLLUDING = HELPERS[1]


def log_likelihood_ratio(
    transcript: Transcript, stage: Stage, worlds: tuple[Interactions, Interactions]
) -> NDArray[np.float64]:
    """Of the target's history being the second of `worlds` rather than the first, given the opened sums, (1,).

    stage: of either world, for keys and the others' histories. The ratio is that of Gaussians around the two sums, the
    optimal test but for how the clients' rounding fell.
    """
    total = 0.0
    for step in steps(stage.plan):
        calls = [call for call in transcript.calls if call.request.step == step.index]
        if not any(isinstance(call.reply, UnmaskReply) for call in calls):
            continue
        seen, inputs = _without_own_noise(calls, stage, step), _inputs(calls)
        known = [_values(stage, step, inputs, name, stage.histories[name]) for name in PARTIES if name != TARGET]
        first, second = (_values(stage, step, inputs, TARGET, world) for world in worlds)
        left = (seen - np.sum(known, axis=0) - (first + second) / 2).astype(np.float64)
        deviation = step.mechanism.noise_std if isinstance(step.mechanism, DiscreteGaussian) else inf
        total += float(left @ (second - first)) / deviation**2
    return np.array([total])


def _without_own_noise(calls: list[Call], stage: Stage, step: Step) -> NDArray[np.int64]:
    bits, size = stage.plan.bits, step.num_coordinates
    asked = next(call.request for call in calls if isinstance(call.request, UnmaskRequest))
    cohort = {header.client for header in asked.headers}
    replies = [call.reply for call in calls]
    given = [each.contribution for each in replies if isinstance(each, ContributionReply)]
    answers = [each.answer for each in replies if isinstance(each, UnmaskReply)]
    packed = [each.masked for each in given if each.client in cohort]
    packed += [each.mask_sum for each in answers if each.helper != COLLUDING]
    packed.append(_own_masks(stage, asked, answers[0], bits, size).mask_sum)
    return sum_packed(packed, bits, size)


def _own_masks(stage: Stage, asked: UnmaskRequest, answer: HelperAnswer, bits: int, size: int) -> HelperAnswer:
    home = stage.home(COLLUDING)
    now = int(time.time())
    return helper_answer(
        ctx=answer.ctx,
        helper=COLLUDING,
        slots=stage.plan.sharing.held_by(COLLUDING),
        sharing=stage.plan.sharing,
        contributions=asked.headers,
        roster=open_roster(asked.roster, home.policy.issuer_public_key, now),
        now=now,
        bits=bits,
        num_coordinates=size,
        min_contributions=2,
        noise_std=None,
        seal_key=home.vault.opening_key(home.vault.sealing_public),
        signing_key=home.vault.signing_key,
        random_bytes=os.urandom,
    )


def _inputs(calls: list[Call]) -> Mapping[str, NDArray[np.generic]]:
    return next(call.request.inputs for call in calls if isinstance(call.request, ContributionRequest))


def _values(
    stage: Stage, step: Step, inputs: Mapping[str, NDArray[np.generic]], name: str, history: Interactions
) -> NDArray[np.int64]:
    values_of = device_values if stage.declared[name] == 1 else tenant_values
    return values_of(stage.plan, step, dict(inputs), history, secret_seed=bytes(32))
