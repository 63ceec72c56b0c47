"""Running a job of the demonstration: on the deployed federation, or through the same apps in this process."""

import contextlib
import io
import json
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from client.app import HOME_SETTING
from client.app import app as client_app
from client.durable_files import make_folder, write_file
from server.app import app as server_app
from server.progress import FILE as EVENTS_FILE
from server.publishing import read_latest
from shared.accounting import PrivacyStatement
from shared.artifact import open_artifact
from shared.canonical import canonical_json
from shared.errors import ProcessFailed
from shared.plan import CooccurrencePlan, ReconPlan, TrainingPlan, make_plan, plan_to_json
from shared.published import ranking_model
from shared.ranking import RankingModel
from shared.secagg.graph import choose_degree, share_of
from simulations.demo.parties import Cast
from simulations.demo.scenario import Scenario
from simulations.demo.settings import CORRUPT, DROPPED, DemoSettings, ModelSettings
from simulations.deployment.federation import Federation
from simulations.engine import InProcessGrid, run_in_process

# Flower's polling delivers a message in seconds, and a step without helpers has five where others have two.
JOB_SECONDS = 600.0
_POLL_SECONDS = 0.1

OnEvent = Callable[[Mapping[str, Any]], None]


@dataclass(frozen=True, kw_only=True, eq=False)
class Published:
    """A verified model and its signed privacy statement."""

    model: RankingModel
    privacy: PrivacyStatement


class Trainer(Protocol):
    """Runs the job that a file describes, telling `on_event` what the server says on the way."""

    def run(self, job: Path, state: Path, on_event: OnEvent) -> None: ...


class DeployedTrainer:
    """On a running federation."""

    def __init__(self, federation: Federation) -> None:
        self._federation = federation

    def run(self, job: Path, state: Path, on_event: OnEvent) -> None:
        """Raises ProcessFailed, with the server's reason, unless the run completed with every process alive."""
        started = self._federation.start_job({"job": str(job)})
        events = _Events(state / EVENTS_FILE)
        seen: list[Mapping[str, Any]] = []

        def pass_on() -> None:
            for event in events:
                seen.append(event)
                on_event(event)

        deadline = time.monotonic() + JOB_SECONDS
        while True:
            pass_on()
            self._require_running()
            if not started.running or time.monotonic() > deadline:
                break
            time.sleep(_POLL_SECONDS)
        end = started.wait(timeout_seconds=max(1.0, deadline - time.monotonic()))
        pass_on()
        if not end.completed:
            raise ProcessFailed(_why(seen) or f"run {end.run_id} ended as {end.status}; its log:\n{end.log[-2000:]}")

    def _require_running(self) -> None:
        # A federation lives without a tenant, and waits for a helper. Here nobody would bring either back, and a table
        # of what was left would say something else than it claims.
        for child in (*self._federation.link_children, *self._federation.nodes.values()):
            if not child.running:
                raise ProcessFailed(f"{child.name} ended with code {child.exit_code()} in the middle; see {child.log}")


def _why(events: Sequence[Mapping[str, Any]]) -> str:
    """The server's last word on a job that it gave up, "" where it said none."""
    given_up = [event for event in events if event["event"] == "job_failed"]
    job = next((event["job"] for event in events if event["event"] == "job_started"), "")
    return f"job {job} was given up at step {given_up[-1]['step']}: {given_up[-1]['reason']}" if given_up else ""


class InProcessTrainer:
    """The same ServerApp and ClientApps, without processes or sockets."""

    def __init__(self, cast: Cast) -> None:
        self._homes = list(cast.homes.values())

    def run(self, job: Path, state: Path, on_event: OnEvent) -> None:
        grid = InProcessGrid(client_app, [{HOME_SETTING: str(home)} for home in self._homes])
        with contextlib.redirect_stdout(_EventStream(on_event)):
            run_in_process(server_app, grid, {"job": str(job)})


def demo_plan(
    recipe: CooccurrencePlan | ReconPlan, job_id: str, scenario: Scenario, cast: Cast, settings: DemoSettings
) -> TrainingPlan:
    """The plan that the server of the demonstration asks for."""
    cooccurrence = isinstance(recipe, CooccurrencePlan)
    terms: dict[str, Any] = {"noise": "helpers", "min_tenants": 2}
    if settings.topology == "pairwise":
        terms = _pairwise_terms(len(cast.homes))
    return make_plan(
        epsilon=settings.epsilon,
        delta=settings.delta,
        job_id=job_id,
        recipe=recipe,
        catalogue_digest=scenario.catalogue.digest,
        num_items=scenario.catalogue.num_items,
        popularity_share=settings.popularity_share if cooccurrence else settings.recon_popularity_share,
        min_users=settings.min_users,
        max_users=2 * settings.num_users,
        bits=64,
        helpers=cast.helpers,
        **terms,
    )


def _pairwise_terms(num_parties: int) -> dict[str, Any]:
    degree, threshold = choose_degree(num_parties, corrupt=CORRUPT, dropped=DROPPED, privacy_bits=40, recovery_bits=20)
    return {
        "topology": "pairwise",
        "noise": "shared",
        "num_parties": num_parties,
        "degree": degree,
        "threshold": threshold,
        "colluding": share_of(CORRUPT, num_parties),
        "min_tenants": num_parties,
    }


def train(
    trainer: Trainer, plan: TrainingPlan, models: tuple[ModelSettings, ...], cast: Cast, on_event: OnEvent
) -> dict[str, Published]:
    """Run one job and return its published models, verified as a client verifies them, by name."""
    folder = make_folder_for(cast, plan.job_id)
    write_file(folder / "plan.json", canonical_json(plan_to_json(plan)))
    write_file(folder / "job.toml", job_file(cast, models).encode())
    trainer.run(folder / "job.toml", folder / "state", on_event)
    return {model.name: published_model(cast, model.name, plan.catalogue_digest) for model in models}


def published_model(cast: Cast, name: str, catalogue_digest: str) -> Published:
    """The latest version of a model in the registry, under the pinned publisher key, with what it says it cost."""
    files = read_latest(cast.registry, name)
    key = bytes.fromhex(cast.publisher_public_key)
    artifact = open_artifact(files, publisher_public_key=key, catalogue_digest=catalogue_digest)
    return Published(model=ranking_model(artifact), privacy=artifact.privacy)


def make_folder_for(cast: Cast, job_id: str) -> Path:
    folder = cast.server / "jobs" / job_id
    shutil.rmtree(folder, ignore_errors=True)
    make_folder(folder)
    return folder


def job_file(cast: Cast, models: tuple[ModelSettings, ...]) -> str:
    """job.toml as `server.settings` reads it."""
    lines = [
        'plan = "plan.json"',
        'state = "state"',
        f"roster = {json.dumps(str(cast.roster))}",
        f'issuer_public_key = "{cast.issuer_public_key}"',
        f"catalogue = {json.dumps(str(cast.catalogue))}",
        f"signing_key = {json.dumps(str(cast.publisher_key))}",
        f"registry = {json.dumps(str(cast.registry))}",
        "tuned_on_data = false",
        "retry_seconds = 2.0",
    ]
    for model in models:
        lines += ["", "[[models]]", f'name = "{model.name}"', f"fold_in = {_inline(vars(model.fold_in))}"]
        if model.readout is not None:
            kind = "weights" if hasattr(model.readout, "threshold") else "factors"
            lines.append(f"readout = {_inline({'kind': kind, **vars(model.readout)})}")
    return "\n".join(lines) + "\n"


def _inline(table: Mapping[str, Any]) -> str:
    return "{ " + ", ".join(f"{key} = {json.dumps(value)}" for key, value in table.items()) + " }"


class _EventStream(io.TextIOBase):
    """Takes what the ServerApp prints, a JSON object a line, as the events that they are."""

    def __init__(self, on_event: OnEvent) -> None:
        self._on_event = on_event
        self._line = ""

    def write(self, text: str) -> int:
        *lines, self._line = (self._line + text).split("\n")
        for line in filter(None, lines):
            self._on_event(json.loads(line))
        return len(text)


class _Events:
    """Whole lines of an events file that were not given yet; the file may not be there yet."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0

    def __iter__(self) -> Iterator[dict[str, Any]]:
        if not self._path.exists():
            return
        with self._path.open("rb") as file:
            file.seek(self._offset)
            data = file.read()
        whole = data[: data.rfind(b"\n") + 1]
        self._offset += len(whole)
        for line in whole.splitlines():
            yield json.loads(line)
