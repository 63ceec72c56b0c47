from math import sqrt

import numpy as np
import pytest

from server import learning
from server.learning import Learned, Released
from shared.plan import make_plan, steps
from shared.ranking import FoldIn
from shared.recipes.readouts import WeightsSettings
from tests.federation_cast import CATALOGUE, COOCCURRENCE, NUM_ITEMS

READOUT = WeightsSettings(threshold=1.0, ridge=0.05, diagonal=1.0)


@pytest.mark.parametrize(
    ("noise", "cohorts", "readout"),
    [("helpers", 1, "weights"), ("helpers", 5, "popularity"), ("tenant", 5, "weights")],
)
def test_pairs_that_the_noise_of_cohorts_drowned_are_not_published(noise: str, cohorts: int, readout: str) -> None:
    plan = make_plan(
        job_id="job-1", recipe=COOCCURRENCE, catalogue_digest=CATALOGUE.digest, num_items=NUM_ITEMS, noise=noise,
        epsilon=1.0, delta=1e-6, popularity_share=0.1, min_tenants=2, min_users=10, max_users=10_000, bits=64,
        helpers=("anna", "bert"), cohorts=cohorts,
    )  # fmt: skip
    # Twice the least signal in one sum: enough there, and where tenants add the noise; a fifth of it is not.
    users = round(sqrt(50.0) / (0.03 * plan.mu))
    rng = np.random.default_rng(1)
    releases = tuple(
        Released(
            total=rng.integers(0, users, step.num_coordinates) * step.scale, num_users=users, num_tenants=10,
            num_noises=2 * cohorts, num_cohorts=cohorts,
        )
        for step in steps(plan)
    )  # fmt: skip
    model = learning.ranking_model(plan, Learned(releases=releases), READOUT, FoldIn(recency=0.5))
    assert model.readout == readout
