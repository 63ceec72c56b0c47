"""A federation without helpers on real processes: a node lost in the middle of a round, and the model that results."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from client.pairwise_vault import FILE
from simulations.deployment.federation import Federation, FederationSettings, Tenant
from tests.federation_cast import NAMES
from tests.integration.test_deployment_crashes import (
    JOB_SECONDS,
    REPOSITORY,
    Scene,
    assert_same_model,
    happened,
    twin,
    wait_for,
    with_job,
)
from tests.pairwise_federation_cast import threes

# How long a node that was killed is waited for; every other message takes a few seconds.
SILENCE_SECONDS = 15.0


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    cast = threes(tmp_path, retry_seconds=1.0, collect_seconds=SILENCE_SECONDS, max_attempts=6)
    settings = FederationSettings(
        folder=tmp_path / "deployed",
        project=REPOSITORY,
        tenants=tuple(Tenant(name=name, home=cast.homes[name]) for name in NAMES),
        gradients=False,
        durable=False,
    )
    with Federation(settings) as federation:
        yield Scene(cast=cast, federation=federation)


@pytest.mark.timeout(300)
def test_a_node_killed_in_the_middle_costs_an_attempt_and_the_model_is_that_of_one_process(
    scene: Scene, tmp_path: Path
) -> None:
    cast = with_job(scene.cast, "pairs")
    uninterrupted = twin(cast, tmp_path / "twin")
    job = scene.start(cast)
    carl = scene.federation.nodes["carl"]

    # A line for each question taken and each reply sent: it has given its keys and taken the next question. With three
    # parties, nobody can do without it.
    wait_for(lambda: carl.log_text().count("ROUND step-0-attempt-0]") > 2, job)
    scene.federation.kill_node("carl")
    scene.federation.start_nodes(["carl"])
    end = job.wait(timeout_seconds=JOB_SECONDS)

    assert end.completed, end.log[-3000:]
    assert [each["party"] for each in happened(cast, "party_left", step=0, attempt=0)] == ["carl"]
    assert happened(cast, "attempt_abandoned", step=0, attempt=0)
    assert [each["tenants"] for each in happened(cast, "step_released")] == [3, 3]
    uninterrupted.run()
    assert_same_model(cast, uninterrupted)
    for name in NAMES:
        home = cast.home(name)
        releases = [each for each in home.ledger.entries() if each.kind == "release"]
        assert len(releases) == 2, "the attempt ended before anybody was charged"
        assert (home.folder / FILE).is_file()
