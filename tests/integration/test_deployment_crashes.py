"""Our own app on real processes: it trains what it trains in process, and survives the death of every part."""

import dataclasses
import json
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shared.plan import plan_to_json
from simulations.deployment.federation import Federation, FederationSettings, Tenant
from simulations.deployment.job import Job
from tests.federation_cast import NAMES, Cast, make_cast

REPOSITORY = Path(__file__).resolve().parents[2]
JOB_SECONDS = 150.0
COLLECT_SECONDS = 60.0
LAST = 1  # the steps of a job: popularity, then pairs


@dataclass(frozen=True)
class Scene:
    """A running federation of the cast's three tenants."""

    cast: Cast
    federation: Federation

    def job(self, name: str) -> Cast:
        """The cast with a job of its own: same parties, other job_id, fresh state and registry."""
        return with_job(self.cast, name)

    def start(self, cast: Cast) -> Job:
        self.federation.start_nodes(set(NAMES) - set(self.federation.nodes))
        return self.federation.start_job({"job": str(cast.job)})


def with_job(cast: Cast, name: str) -> Cast:
    folder = cast.folder / name
    shutil.copytree(cast.folder / "server", folder / "server", ignore=shutil.ignore_patterns("state", "registry"))
    plan = dataclasses.replace(cast.plan, job_id=name)
    (folder / "server" / "plan.json").write_text(json.dumps(plan_to_json(plan)))
    settings = folder / "server" / "job.toml"
    settings.write_text(settings.read_text().replace("nodes_seconds = 0", "nodes_seconds = 60"))
    return dataclasses.replace(cast, folder=folder, plan=plan)


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    folder = tmp_path_factory.mktemp("crashes")
    cast = make_cast(folder, retry_seconds=2.0, collect_seconds=COLLECT_SECONDS, max_attempts=8)
    settings = FederationSettings(
        folder=folder / "deployed",
        project=REPOSITORY,
        tenants=tuple(Tenant(name=name, home=cast.homes[name]) for name in NAMES),
        gradients=False,
    )
    with Federation(settings) as federation:
        yield Scene(cast=cast, federation=federation)


def twin(cast: Cast, folder: Path) -> Cast:
    """The same job over copies of the homes and of the server's folder, to be run in process by `run`."""
    shutil.copytree(cast.folder, folder / "copy")
    homes = {party: Path(shutil.copytree(home, folder / party)) for party, home in cast.homes.items()}
    copy = dataclasses.replace(cast, folder=folder / "copy", homes=homes)
    copy.job.write_text(copy.job.read_text().replace("nodes_seconds = 60", "nodes_seconds = 0"))
    return copy


def assert_same_model(ours: Cast, theirs: Cast) -> None:
    """Both published the same tensors, bit for bit: these jobs have no noise, and clients round alike for one job."""
    one, other = ours.published().tensors, theirs.published().tensors
    assert set(one) == set(other)
    for name, values in one.items():
        assert (values.dtype, values.shape) == (other[name].dtype, other[name].shape), name
        np.testing.assert_array_equal(values, other[name], err_msg=name)
        assert values.tobytes() == other[name].tobytes(), name
    assert any(np.any(values) for values in one.values()), "two empty models would be alike too"


def events(cast: Cast) -> list[dict[str, Any]]:
    path = cast.state / "events.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def happened(cast: Cast, event: str, **fields: Any) -> list[dict[str, Any]]:
    return [each for each in events(cast) if each["event"] == event and fields.items() <= each.items()]


def wait_for(condition: Callable[[], object], job: Job) -> None:
    deadline = time.monotonic() + JOB_SECONDS
    while not condition():
        assert job.running, job.wait(timeout_seconds=0).log[-3000:]
        assert time.monotonic() < deadline, job.status
        time.sleep(0.02)


def test_a_killed_helper_is_waited_for_and_a_killed_tenant_is_left_behind(scene: Scene) -> None:
    cast = scene.job("nodes-killed")
    job = scene.start(cast)

    # A helper dies with a question taken: its masks are lost, so the attempt is abandoned until the node is back.
    kill_in_step(scene, cast, job, name="bert", step=0)
    scene.federation.start_nodes(["bert"])
    wait_for(lambda: happened(cast, "step_released", step=0), job)

    # A tenant that is no helper dies: the round goes on without it.
    kill_in_step(scene, cast, job, name="carl", step=1)
    scene.federation.start_nodes(["carl"])
    end = job.wait(timeout_seconds=JOB_SECONDS)

    assert end.completed, end.log[-3000:]
    assert happened(cast, "attempt_abandoned", step=0, attempt=0)
    assert happened(cast, "step_released", step=0)[0]["attempt"] > 0
    assert happened(cast, "contribution", step=0, party="bert")
    assert [each["tenants"] for each in happened(cast, "step_released", step=1, attempt=0)] == [2]
    assert cast.published().plan_digest == cast.plan.digest


def kill_in_step(scene: Scene, cast: Cast, job: Job, *, name: str, step: int) -> None:
    """Kill a node at the moment when it has taken the question of this step, and has not answered yet."""
    node = scene.federation.nodes[name]
    wait_for(lambda: f"[RUN {job.run_id}, ROUND step-{step}-attempt-0]" in node.log_text(), job)
    scene.federation.kill_node(name)
    assert not happened(cast, "contribution", party=name, step=step)


def test_a_killed_superlink_and_serverapp_lose_no_step_and_the_model_is_that_of_one_process(
    scene: Scene, tmp_path: Path
) -> None:
    cast = scene.job("link-killed")
    uninterrupted = twin(cast, tmp_path)
    job = scene.start(cast)
    wait_for(lambda: happened(cast, "step_asked", step=LAST), job)

    scene.federation.kill_superlink()
    assert not happened(cast, "step_released", step=LAST)
    scene.federation.start_superlink()
    end = scene.start(cast).wait(timeout_seconds=JOB_SECONDS)

    assert end.completed, end.log[-3000:]
    assert [each["resumed_at"] for each in happened(cast, "job_started")] == [0, LAST]
    assert [each["step"] for each in happened(cast, "step_released")] == list(range(LAST + 1)), "each step once"
    assert happened(cast, "step_released", step=LAST)[0]["tenants"] == 3, "the nodes found back by themselves"
    uninterrupted.run()
    assert [each["resumed_at"] for each in happened(uninterrupted, "job_started")] == [0]
    assert_same_model(cast, uninterrupted)
    for name in NAMES:
        releases = [
            each
            for each in cast.home(name).ledger.entries()
            if (each.kind, each.job_id) == ("release", cast.plan.job_id)
        ]
        assert len({each.context for each in releases}) == len(releases), "no context was ever released twice"
        assert len(releases) in (LAST + 1, LAST + 2), "the interrupted attempt may have been charged, no other"
