"""What the demonstration says when its federation fails, and the sizes that it can be given."""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from shared.errors import ProcessFailed
from simulations.demo.settings import DemoSettings, settings_of_size
from simulations.demo.training import DeployedTrainer
from simulations.deployment.job import RunEnd

STARTED = {"event": "job_started", "job": "recon"}
GIVEN_UP = {"event": "job_failed", "step": 2, "reason": "helper bert: it did not answer"}


@dataclass
class Process:
    """As much of a child process, or of a run, as is looked at."""

    name: str
    polls_alive: int
    log: Path = Path("logs/node.log")
    wait: Callable[..., RunEnd] | None = None

    @property
    def running(self) -> bool:
        self.polls_alive -= 1
        return self.polls_alive >= 0

    def exit_code(self) -> int:
        return -9


def trained(tmp_path: Path, status: str, *events: dict[str, Any], node: int = 99, job: int = 0) -> list[dict[str, Any]]:
    """What `on_event` is told by a federation with one node; both live for so many looks at them."""
    tmp_path.joinpath("events.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))
    end = RunEnd(run_id=7, status=status, log="the log's end")
    started = Process("run 7", job, wait=lambda timeout_seconds: end)
    federation = SimpleNamespace(
        link_children=[Process("superlink", 99)], nodes={"a": Process("node-a", node)}, start_job=lambda config: started
    )
    told: list[dict[str, Any]] = []
    DeployedTrainer(federation).run(tmp_path / "job.toml", tmp_path, told.append)  # type: ignore[arg-type]
    return told


def test_every_event_is_told_once_by_a_run_that_completes(tmp_path: Path) -> None:
    assert trained(tmp_path, "finished:completed", STARTED, {"event": "published"}, job=3) == [
        STARTED,
        {"event": "published"},
    ]


def test_a_job_that_is_given_up_is_reported_with_the_servers_reason(tmp_path: Path) -> None:
    with pytest.raises(ProcessFailed) as caught:
        trained(tmp_path, "finished:failed", STARTED, GIVEN_UP)
    assert str(caught.value) == "job recon was given up at step 2: helper bert: it did not answer"


def test_a_run_that_fails_without_a_word_is_reported_with_its_log(tmp_path: Path) -> None:
    with pytest.raises(ProcessFailed, match=r"run 7 ended as finished:failed; its log:\nthe log's end"):
        trained(tmp_path, "finished:failed", STARTED)


def test_a_node_that_ends_in_the_middle_ends_the_wait(tmp_path: Path) -> None:
    with pytest.raises(ProcessFailed, match=r"node-a ended with code -9 in the middle; see logs/node\.log"):
        trained(tmp_path, "finished:completed", STARTED, node=1, job=99)


def test_the_usual_size_is_the_usual_demonstration() -> None:
    usual = DemoSettings()
    found = settings_of_size(
        seed=usual.seed, num_users=usual.num_users, num_items=usual.num_items, trainings=usual.trainings
    )
    assert found == usual


def test_another_size_keeps_the_shares_and_nothing_else_changes() -> None:
    usual = DemoSettings()
    small = settings_of_size(seed=1, num_users=1_000, num_items=300, trainings=2)
    assert (small.min_users, small.cooccurrence.num_head_items, small.recon.num_head_items) == (200, 140, 130)
    assert usual == replace(
        small,
        seed=usual.seed,
        num_users=usual.num_users,
        num_items=usual.num_items,
        trainings=usual.trainings,
        min_users=usual.min_users,
        cooccurrence=usual.cooccurrence,
        recon=usual.recon,
    )
