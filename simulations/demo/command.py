"""`zhiyin demo`: the whole product on this machine, from a generated marketplace to a learner's recommendations."""

import contextlib
import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, NoReturn, get_args

import numpy as np
import typer
from rich.console import Console

from client.bundle import bundle_digest
from client.durable_files import write_file
from client.home import STORE_FILE, ClientHome
from client.importing import import_source
from client.recommend import install_model, suggest
from shared.catalogue import CatalogueSnapshot
from shared.errors import BadSetting
from shared.plan import Topology
from simulations.demo.enrolling import enrol_everybody, invitation_file
from simulations.demo.journey import Journey, Promotion, new_learner, promote
from simulations.demo.parties import Budgets, Cast, TenantTerms, make_cast
from simulations.demo.presenting import Narrator, print_journey, print_log_ins, print_scoreboard, write_html
from simulations.demo.scenario import Scenario, scenario_of, write_history_file
from simulations.demo.scoreboard import (
    Row,
    Scoreboard,
    TenantComparison,
    alone_row,
    federated_row,
    reference_rows,
    tenant_cases,
)
from simulations.demo.settings import CORRUPT, DROPPED, DemoSettings, ModelSettings, settings_of_size
from simulations.demo.shop import Shop
from simulations.demo.training import DeployedTrainer, InProcessTrainer, Published, Trainer, demo_plan, train
from simulations.deployment.certificates import ServerCertificates
from simulations.deployment.federation import REPOSITORY, Federation, FederationSettings, Tenant
from simulations.deployment.processes import free_ports, require_free_port
from simulations.marketplace import generate

demo_app = typer.Typer(add_completion=False)
MARK = ".zhiyin-demo"
REPORT = "report.json"
# Fewer learners than this, and pairs could not be told from noise; fewer items, and subjects have no tracks.
LEAST_USERS, LEAST_ITEMS = 1_000, 200
Models = dict[str, list[Published]]
# What three institutions have to set on purpose: the defaults bear a drop-out as well, which takes five.
PAIRWISE_POLICY: dict[str, Any] = {
    "allowed_topologies": ("pairwise",),
    "allowed_noise": ("shared",),
    "pairwise_corrupt": CORRUPT,
    "pairwise_dropped": DROPPED,
}


class DemoTopology(StrEnum):
    helpers = "helpers"
    pairwise = "pairwise"


@demo_app.callback(invoke_without_command=True)
def demo(
    in_process: Annotated[
        bool, typer.Option("--in-process", help="The same apps in one process, under a minute.")
    ] = False,
    out: Annotated[Path, typer.Option(help="Folder for the report and everything that was made.")] = Path("demo-out"),
    seed: Annotated[int, typer.Option(help="Of the generated marketplace.")] = DemoSettings().seed,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Of the SuperLink on 127.0.0.1; 0 for a free one.")] = 0,
    users: Annotated[
        int,
        typer.Option(min=LEAST_USERS, help="Learners of the marketplace; its settings were chosen for the default."),
    ] = DemoSettings().num_users,
    items: Annotated[int, typer.Option(min=LEAST_ITEMS, help="Courses and e-books in it.")] = DemoSettings().num_items,
    topology: Annotated[
        DemoTopology,
        typer.Option(help="Who hides an institution's sums: two helpers among them, or each pair of institutions."),
    ] = DemoTopology.helpers,
    trainings: Annotated[
        int | None,
        typer.Option(min=1, help="Of each private row, for its deviation; 4 unless given, 3 with --in-process."),
    ] = None,
    keep: Annotated[
        bool, typer.Option("--keep", help="Leave the platform running at the end, and print its address and log-ins.")
    ] = False,
) -> None:
    """Open a marketplace, train on three institutions' histories, publish, sell, recommend, and compare."""
    # Bound to this stream now: the ServerApp's prints are captured in one-process mode.
    console = Console(file=sys.stdout)
    started = time.monotonic()
    settings = settings_of_size(
        seed=seed,
        num_users=users,
        num_items=items,
        trainings=trainings or (3 if in_process else 4),
        topology=get_args(Topology)[list(DemoTopology).index(topology)],
    )
    if port and not in_process:
        # At once, and not after the minute until it is needed.
        require_free_port(port, purpose="the SuperLink")
    folder = _fresh_folder(out)
    with _terminated_like_interrupted(), contextlib.ExitStack() as stack:
        done = _run(console, settings, folder, stack, in_process=in_process, port=port)
        seconds = time.monotonic() - started
        report = _report(done, settings, in_process=in_process, seconds=seconds)
        write_file(folder / REPORT, (json.dumps(report, ensure_ascii=False, indent=2) + "\n").encode())
        write_html(report, folder / "report.html")
        print_scoreboard(console, done.scoreboard)
        console.print(f"{folder / REPORT} and report.html hold the same; {seconds:.0f} s in all.")
        if keep:
            print_log_ins(console, done.shop, done.journey.learner)
            _wait_for_interrupt()


@dataclass(frozen=True, kw_only=True)
class _Done:
    # What a run gave, while its platform still runs.
    scoreboard: Scoreboard
    shop: Shop
    snapshot: CatalogueSnapshot
    promotion: Promotion
    journey: Journey


def _run(
    console: Console,
    settings: DemoSettings,
    folder: Path,
    stack: contextlib.ExitStack,
    *,
    in_process: bool,
    port: int,
) -> _Done:
    with Narrator(console) as tell:
        tell("Generating a marketplace: courses and e-books in Chinese and English, three institutions")
        market = generate(seed=settings.seed, num_users=settings.num_users, num_items=settings.num_items)
        tell("Opening the platform and its payment provider, and putting everything on sale")
        shop = stack.enter_context(Shop(folder / "platform", market, seed=settings.seed, model=settings.models[0].name))
        fetched = shop.publish_snapshot()
        scenario = scenario_of(market, fetched.snapshot)
        tell(f"Snapshot {fetched.snapshot.version} of {fetched.snapshot.num_items:,} items is public, signed")
        digest = bundle_digest(REPOSITORY)
        tell("Making keys, the signed roster and each institution's policy; importing its histories")
        if settings.topology == "pairwise":
            tell(
                "No helpers: institutions mask for each other. Of three, one may work with the server and none may be "
                "missing, so their policies assume no drop-outs"
            )
        cast = _cast(settings, scenario, folder, digest, pinned=False)
        port = port or free_ports(1)[0]
        certificates = enrol_everybody(shop, cast, fetched, app_digest=digest, port=port)
        _import_histories(scenario, cast)
        tell("Each institution joined by the platform's invitation, and pinned issuer, helpers, publisher and bundle")
        with contextlib.ExitStack() as federation:
            trainer: Trainer = InProcessTrainer(cast)
            if not in_process:
                tell(
                    "Starting a SuperLink with TLS and node authentication, and a pinned SuperNode for each institution"
                )
                trainer = DeployedTrainer(federation.enter_context(_federation(cast, port, certificates)))
            models = _train(trainer, scenario, cast, settings, tell, label="")
        _show_recommendations(console, scenario, cast, settings)
        promotion, journey = _sell(console, tell, shop, cast, scenario)
        tell("Training again in one process, to know how much of a figure is noise")
        for repetition in range(1, settings.trainings):
            again = _cast(settings, scenario, folder / "repetitions" / str(repetition), digest)
            for name, home in cast.homes.items():
                shutil.copyfile(home / STORE_FILE, again.homes[name] / STORE_FILE)
            more = _train(InProcessTrainer(again), scenario, again, settings, tell, label=f"-again-{repetition}")
            for name, found in more.items():
                models[name] += found
        scoreboard = _scoreboard(scenario, settings, models, tell)
    return _Done(scoreboard=scoreboard, shop=shop, snapshot=fetched.snapshot, promotion=promotion, journey=journey)


def _sell(console: Console, tell: Narrator, shop: Shop, cast: Cast, scenario: Scenario) -> tuple[Promotion, Journey]:
    promotion = promote(shop, cast, scenario, state=cast.server / "jobs" / "cooccurrence" / "state")
    tell(
        f"{shop.model} {promotion.version} passed the platform's gate and is live: NDCG@10 {promotion.ndcg_at_10:.4f} "
        f"on held-out items, epsilon {promotion.epsilon:.3f} in the public ledger"
    )
    first = next(iter(cast.homes))
    journey = new_learner(shop, invitation_file(cast, first).read_bytes(), cast.folder / "learner" / "home")
    tell("A learner registered and bought two courses; two signed messages of the provider made the orders paid")
    print_journey(console, journey, scenario.catalogue)
    return promotion, journey


def _cast(settings: DemoSettings, scenario: Scenario, folder: Path, digest: str, *, pinned: bool = True) -> Cast:
    by_helpers = settings.topology == "helpers"
    terms = [
        # Rounded up to a hundred: the declared number is public, so it is not the exact one.
        TenantTerms(
            name=tenant.name, declared_users=-(-tenant.num_users // 100) * 100, is_helper=by_helpers and place < 2
        )
        for place, tenant in enumerate(scenario.tenants)
    ]
    # Room for both jobs, and in each for one attempt that has to be repeated.
    budgets = Budgets(epsilon=3 * settings.epsilon, delta=settings.delta, max_epsilon_per_job=2 * settings.epsilon)
    return make_cast(
        folder,
        terms,
        scenario.catalogue,
        budgets=budgets,
        app_digests=(digest,),
        min_users=settings.min_users,
        now=int(time.time()),
        policy_changes=None if by_helpers else PAIRWISE_POLICY,
        pinned=pinned,
    )


def _import_histories(scenario: Scenario, cast: Cast) -> None:
    for tenant in scenario.tenants:
        path = cast.homes[tenant.name].parent / f"{tenant.name}.csv.gz"
        write_history_file(scenario, tenant, path)
        home = ClientHome.open(cast.homes[tenant.name])
        import_source(home.store, home.catalogue, str(path))


def _federation(cast: Cast, port: int, certificates: ServerCertificates) -> Federation:
    tenants = tuple(Tenant(name=name, home=home) for name, home in cast.homes.items())
    return Federation(
        FederationSettings(
            folder=cast.folder / "flower",
            project=REPOSITORY,
            tenants=tenants,
            durable=False,
            port=port,
            certificates=certificates,
        )
    )


def _train(
    trainer: Trainer, scenario: Scenario, cast: Cast, settings: DemoSettings, tell: "Narrator", *, label: str
) -> Models:
    models: Models = {}
    jobs: list[tuple[Any, str, tuple[ModelSettings, ...]]] = [
        (settings.cooccurrence, "cooccurrence", settings.models),
        (settings.recon, "recon", settings.recon_models),
    ]
    for recipe, name, published in jobs:
        plan = demo_plan(recipe, f"{name}{label}", scenario, cast, settings)
        with tell.job(plan) as on_event:
            found = train(trainer, plan, published, cast, on_event)
        models |= {name: [model] for name, model in found.items()}
    return models


def _show_recommendations(console: Console, scenario: Scenario, cast: Cast, settings: DemoSettings) -> None:
    """A learner of each institution asks its own client, which ranks with the model that it verified."""
    shelf = cast.registry / settings.models[0].name
    version = (shelf / "latest").read_text(encoding="ascii").strip()
    for tenant in scenario.tenants:
        home = ClientHome.open(cast.homes[tenant.name])
        install_model(home, shelf / version)
        user = tenant.user_ids[int(np.argmax(scenario.training_rows(tenant).lengths == 8))]
        history = home.store.history(user, home.catalogue)
        titles = [home.catalogue.items[item].title for item in history[-3:]]
        console.print(f"\n[bold]{user}[/bold], lately: {'; '.join(titles)}")
        for place, line in enumerate(suggest(home, user, 5), start=1):
            console.print(f"  {place}. {line.title}  [dim]{line.reason}[/dim]")


def _scoreboard(scenario: Scenario, settings: DemoSettings, models: Models, tell: "Narrator") -> Scoreboard:
    tell("Measuring every model and every reference on each learner's last item, over the whole catalogue")
    references = list(reference_rows(scenario, settings))
    labels = {
        "market-weights": "federated cooccurrence, weights",
        "market-factors": "federated cooccurrence, factors",
        "market-recon": "federated recon",
    }
    federated = [federated_row(label, models[name], scenario) for name, label in labels.items()]
    tenants = []
    for tenant in scenario.tenants:
        own = tenant_cases(scenario, tenant)
        there = federated_row(f"federated, learners of {tenant.name}", models["market-weights"], scenario, own)
        alone = alone_row(scenario, tenant, settings)
        tenants.append(TenantComparison(tenant=tenant.name, num_users=tenant.num_users, alone=alone, federated=there))
    rows: list[Row] = [*references[:3], *(entry.alone for entry in tenants), *federated, *references[3:]]
    return Scoreboard(rows=tuple(rows), tenants=tuple(tenants))


def _report(done: _Done, settings: DemoSettings, *, in_process: bool, seconds: float) -> dict[str, Any]:
    scoreboard, promotion = done.scoreboard, done.promotion
    return {
        "format": "zhiyin-demo-2",
        "rows": [row.to_json() for row in scoreboard.rows],
        "tenants": [
            {
                "tenant": entry.tenant,
                "users": entry.num_users,
                "alone": entry.alone.to_json(),
                "federated": entry.federated.to_json(),
            }
            for entry in scoreboard.tenants
        ],
        "platform": {
            "products": done.snapshot.num_items,
            "snapshot": done.snapshot.version,
            "catalogue_digest": done.snapshot.digest,
            "model": done.shop.model,
            "model_version": promotion.version,
            "ndcg_at_10": round(promotion.ndcg_at_10, 6),
            "epsilon": promotion.epsilon,
            "learner": done.journey.to_json(),
        },
        "protocol": "leave-last-out, full ranking, ties averaged; alone rows rank the tenant's own learners",
        "unit": "user with their whole history",
        "adjacency": "add or remove one user",
        "deployed": not in_process,
        "topology": settings.topology,
        "seed": settings.seed,
        "users": settings.num_users,
        "items": settings.num_items,
        "seconds": round(seconds, 1),
    }


def _fresh_folder(out: Path) -> Path:
    """An empty folder for this run; one of an earlier run is replaced, anything else is left alone."""
    folder = out.absolute()
    if folder.exists():
        if not folder.is_dir() or (any(folder.iterdir()) and not (folder / MARK).is_file()):
            raise BadSetting(f"{out}: it exists and is not of an earlier demo; name another folder with --out")
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    (folder / MARK).touch()
    return folder


def _wait_for_interrupt() -> None:
    """Until Ctrl-C or SIGTERM, both of which end the platform too, and well: it was asked to run until then."""
    with contextlib.suppress(KeyboardInterrupt):
        while True:
            signal.pause()


@contextlib.contextmanager
def _terminated_like_interrupted() -> Iterator[None]:
    """SIGTERM ends the demonstration as Ctrl-C does: through every `finally`, so no process stays behind."""

    def interrupt(number: int, frame: object) -> NoReturn:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
        # Flower's own threads may hold the terminal's cursor hidden after an interrupt.
        os.write(1, b"\x1b[?25h") if os.isatty(1) else None
