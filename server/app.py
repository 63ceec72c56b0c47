"""The Flower side of the server: `flwr run` starts `app`, which runs the job that the run's `job` setting names."""

import sys
import time
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from server import learning
from server.durable_files import make_folder, sole_user
from server.exchange import Exchange
from server.job import Job
from server.learning import Learned
from server.pace import bound_object_waits, shorten_object_waits
from server.progress import Progress
from server.publishing import publish
from server.releases import ReleaseLedger
from server.request_sizes import require_requests_fit
from server.settings import (
    JobSettings,
    ModelSettings,
    load_catalogue,
    load_plan,
    load_roster_bytes,
    load_settings,
    load_signing_key,
    require_known_tenants,
)
from server.training import charged, train
from shared import accounting
from shared.accounting import PrivacyStatement
from shared.artifact import Artifact
from shared.errors import BadSetting
from shared.plan import CooccurrencePlan, TrainingPlan
from shared.published import settings_and_tensors
from shared.roster import open_roster

_FIRST_OBJECT_WAIT_SECONDS = 0.05
_HONEST = ("one", "two", "three")
_AGAINST = {
    "helpers": "the server and the other tenants, while {honest} of the helpers {are} honest; and everybody else",
    "tenant": "everybody outside the user's own tenant",
    "shared": "{server}; and everybody who sees only the model",
    "none": "nobody: no noise was added; not for real people's data",
}

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Run the job to its end, or from where an earlier run stopped, and publish its model."""
    shorten_object_waits(_FIRST_OBJECT_WAIT_SECONDS)
    path = context.run_config.get("job")
    if not isinstance(path, str) or not path:
        raise BadSetting("the run names no job; give it one: flwr run … --run-config 'job=\"/path/to/job.toml\"'")
    settings = load_settings(Path(path))
    bound_object_waits(max(settings.collect_seconds, settings.helpers_seconds))
    run_job(settings, Exchange(grid))


def run_job(settings: JobSettings, exchange: Exchange) -> dict[str, int]:
    """Train and publish; returns the version of each model.

    What can be wrong on this machine is found before a client is asked for anything: asking costs clients their budget.
    """
    plan = load_plan(settings.plan)
    load_catalogue(settings.catalogue, plan.catalogue_digest)
    signing_key = load_signing_key(settings.signing_key)
    check_readouts(settings, plan)
    roster_bytes = load_roster_bytes(settings.roster)
    roster = open_roster(roster_bytes, settings.issuer_public_key, int(time.time()))
    require_known_tenants(settings, roster)
    require_requests_fit(plan, roster, roster_bytes)
    make_folder(settings.state)
    make_folder(settings.registry)
    with sole_user(settings.state):
        job = Job(
            settings=settings,
            plan=plan,
            roster=roster,
            roster_bytes=roster_bytes,
            exchange=exchange,
            ledger=ReleaseLedger.open(settings.state),
            progress=Progress(settings.state, time.time),
            clock=time.time,
        )
        learned = train(job)
        return {model.name: _publish(job, model, learned, signing_key) for model in settings.models}


def check_readouts(settings: JobSettings, plan: TrainingPlan) -> None:
    """Raise BadSetting for a model whose read-out does not go with the plan's recipe."""
    needs_one = isinstance(plan.recipe, CooccurrencePlan)
    for model in settings.models:
        if (model.readout is not None) != needs_one:
            wanted = 'a readout of kind "weights" or "factors"' if needs_one else "no readout"
            raise BadSetting(f"model {model.name}: recipe {plan.recipe_name} takes {wanted}")


def _publish(job: Job, model: ModelSettings, learned: Learned, signing_key: Ed25519PrivateKey) -> int:
    plan, settings = job.plan, job.settings
    statement = privacy_statement(plan, job.ledger.attempts(plan.digest), tuned_on_data=settings.tuned_on_data)
    version = publish(
        settings.registry,
        model.name,
        lambda number: artifact(model, plan, learned, statement, version=number, created=job.now),
        signing_key,
    )
    job.ledger.append(
        "published", job_id=plan.job_id, plan_digest=plan.digest, time=job.now, model=model.name, version=version
    )
    job.progress("published", model=model.name, version=version, epsilon=statement.epsilon)
    return version


def artifact(
    settings: ModelSettings,
    plan: TrainingPlan,
    learned: Learned,
    statement: PrivacyStatement,
    *,
    version: int,
    created: int,
) -> Artifact:
    """A model of a finished job, ready to be signed."""
    model = learning.ranking_model(plan, learned, settings.readout, settings.fold_in)
    stored, tensors = settings_and_tensors(model)
    return Artifact(
        name=settings.name,
        version=version,
        created=created,
        recipe=plan.recipe_name,
        catalogue_digest=plan.catalogue_digest,
        plan_digest=plan.digest,
        settings=stored,
        privacy=statement,
        tensors=tensors,
    )


def against(plan: TrainingPlan) -> str:
    """Whom the statement holds against, for people."""
    # Somebody has to be honest among the holders of each mask that an adversary could otherwise know.
    honest = plan.spare_helpers + 1
    return _AGAINST[plan.noise].format(
        honest=_HONEST[honest - 1], are="is" if honest == 1 else "are", server=_server_and(plan.colluding)
    )


def _server_and(colluding: int) -> str:
    # A tenant knows its own part of shared noise: it has to be among those that are not counted on.
    if not colluding:
        return "the server, while no tenant works with it"
    number = _HONEST[colluding - 1] if colluding <= len(_HONEST) else str(colluding)
    return f"the server and up to {number} other tenant{'s' if colluding > 1 else ''} together"


def privacy_statement(plan: TrainingPlan, attempted_steps: tuple[int, ...], *, tuned_on_data: bool) -> PrivacyStatement:
    """What the job cost a user whose client answered every attempt.

    JSON has no infinity, so a job without noise states the largest float.
    """
    spent = charged(plan, attempted_steps)
    return PrivacyStatement(
        epsilon=sys.float_info.max if plan.noise == "none" else accounting.epsilon(spent, plan.delta),
        delta=plan.delta,
        against=against(plan),
        mechanisms=spent,
        tuned_on_data=tuned_on_data,
    )
