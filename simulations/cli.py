"""`zhiyin sim`: experiments from the command line."""

import os
import sys
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from time import perf_counter
from typing import Annotated

import typer
from rich.console import Console

from server.durable_files import write_file
from shared.errors import BadSetting
from simulations.report import footer, html_report, peak_memory_mb, table
from simulations.run import RunSettings, run

sim_app = typer.Typer(help="Experiments on data sets, with baselines and controls.", no_args_is_help=True)


class _Recipe(StrEnum):
    cooccurrence = "cooccurrence"
    recon = "recon"


class _Noise(StrEnum):
    central = "central"
    helpers = "helpers"
    tenant = "tenant"


class _Attack(StrEnum):
    masks = "masks"
    transcript = "transcript"
    membership = "membership"
    canary = "canary"


class _TenantsBy(StrEnum):
    equal = "equal"
    taste = "taste"


@sim_app.callback()
def _group() -> None:
    """Experiments on data sets, with baselines and controls."""


@sim_app.command("evaluate")
def evaluate_command(
    model: Annotated[Path, typer.Argument(help="Folder of the candidate: model.safetensors and manifest.json.")],
    catalogue: Annotated[Path, typer.Option(help="The snapshot that it ranks.")],
    held_out: Annotated[Path, typer.Option(help="CSV of users whose last item no model saw: user, item, timestamp.")],
    signing_key: Annotated[Path, typer.Option(help="The publisher's key.")],
    test_set: Annotated[str, typer.Option(help="What that is, in words; it is published with the figures.")],
    out: Annotated[Path, typer.Option(help="The signed report, for `zhiyin server publish-candidate`.")],
    live: Annotated[
        Path | None, typer.Option(help="Folder of the version that is live; needed once there is one.")
    ] = None,
) -> None:
    """Measure a published model on held-out histories, beside the live one, and sign the figures."""
    from server.publishing import read_version
    from server.settings import load_signing_key
    from shared.catalogue import catalogue_from_bytes
    from simulations.model_report import measured, read_cases, report_of

    key = load_signing_key(signing_key)
    public = key.public_key().public_bytes_raw()
    snapshot = catalogue_from_bytes(catalogue.read_bytes())
    cases = read_cases(held_out, snapshot)
    found = measured(read_version(model), public, snapshot, cases)
    beside = None if live is None else measured(read_version(live), public, snapshot, cases)
    write_file(out, report_of(found, beside, cases, test_set=test_set, signing_key=key))
    against = "" if beside is None else f", the live one's {beside.figures.ndcg_at_10:.6f}"
    typer.echo(f"{out}: NDCG@10 {found.figures.ndcg_at_10:.6f}{against}, {len(cases.targets)} users")


@sim_app.command("run")
def run_command(
    data: Annotated[Path, typer.Option(help="Folder with interactions.csv[.gz] and, for text, items.csv[.gz].")],
    recipe: Annotated[_Recipe, typer.Option(help="What is learned from the users' sums.")],
    epsilon: Annotated[float, typer.Option(help="Privacy budget; inf for no noise.")],
    delta: Annotated[float, typer.Option(help="Failure probability of the guarantee, such as 1e-5.")],
    seeds: Annotated[int, typer.Option(help="Noise seeds to average over.", min=1)] = 3,
    tenants: Annotated[int, typer.Option(help="Institutions that the users are divided among.", min=1)] = 1,
    tenants_by: Annotated[_TenantsBy, typer.Option(help="Divide users at random or by taste.")] = _TenantsBy.equal,
    noise: Annotated[_Noise, typer.Option(help="Who adds the noise.")] = _Noise.central,
    helpers: Annotated[
        int, typer.Option(help="Helpers, each adding all of the noise, under --noise helpers.", min=1)
    ] = 2,
    min_rating: Annotated[float | None, typer.Option(help="Keep only rows rated at least this much.")] = None,
    liked: Annotated[bool, typer.Option("--liked", help="Keep only rows whose `liked` column is 1.")] = False,
    tuning_users: Annotated[int, typer.Option(help="Validation users that tuning looks at.", min=1)] = 3000,
    references: Annotated[bool, typer.Option(help="Run baselines and controls too.")] = True,
    out: Annotated[Path | None, typer.Option(help="Write the JSON report to this file.")] = None,
    html: Annotated[Path | None, typer.Option(help="Write an HTML report with plots to this file.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the JSON report instead of a table.")] = False,
) -> None:
    """Tune on validation, measure on the test items, and stand the result beside baselines and controls."""
    settings = RunSettings(
        data=data,
        recipe=recipe.value,
        epsilon=epsilon,
        delta=delta,
        num_seeds=seeds,
        num_tenants=tenants,
        tenants_by=tenants_by.value,
        noise=noise.value,
        num_helpers=helpers,
        min_rating=min_rating,
        liked=liked,
        tuning_users=tuning_users,
        references=references,
    )
    # Before the minutes that the run takes, not after them.
    for target in (out, html):
        _require_writable(target)
    with Console(stderr=True).status("starting") as status:
        report = run(settings, lambda text: status.update(text))
    if out is not None:
        write_file(out, (report.to_json() + "\n").encode())
    if html is not None:
        write_file(html, html_report(report).encode())
    if as_json:
        sys.stdout.write(report.to_json() + "\n")
        return
    console = Console()
    console.print(table(report))
    for line in footer(report):
        console.print(line, highlight=False)


@sim_app.command("audit")
def audit_command(
    data: Annotated[
        Path | None, typer.Option(help="Folder to attack the published model on; a generated marketplace if not given.")
    ] = None,
    only: Annotated[list[_Attack] | None, typer.Option(help="Run this attack only; may be repeated.")] = None,
    seed: Annotated[int, typer.Option(help="Of histories, splits and orders; masks and noise are never seeded.")] = 1,
    quick: Annotated[bool, typer.Option("--quick", help="Few trials, wide intervals: a check that all works.")] = False,
    out: Annotated[Path | None, typer.Option(help="Write the JSON report to this file.")] = None,
    html: Annotated[Path | None, typer.Option(help="Write an HTML report with plots to this file.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the JSON report instead of tables.")] = False,
) -> None:
    """Attack the product, controls beside every attack. Exit code 1 if a statement is refuted or a control missed."""
    from simulations.auditing import report as audit_report
    from simulations.auditing.run import ATTACKS, AuditSettings, run_audit

    chosen = {attack.value for attack in only or _Attack}
    settings = AuditSettings(
        seed=seed, quick=quick, data=data, attacks=tuple(attack for attack in ATTACKS if attack in chosen)
    )
    for target in (out, html):
        _require_writable(target)
    with Console(stderr=True).status("starting") as status:
        report = run_audit(settings, lambda text: status.update(text))
    if out is not None:
        write_file(out, (report.to_json() + "\n").encode())
    if html is not None:
        write_file(html, audit_report.html_report(report).encode())
    if as_json:
        sys.stdout.write(report.to_json() + "\n")
    else:
        console = Console()
        for drawn in audit_report.tables(report):
            console.print(drawn)
        for line in audit_report.footer(report):
            console.print(line, highlight=False)
    if not report.passed:
        raise typer.Exit(1)


@sim_app.command("poison")
def poison_command(
    epsilon: Annotated[float, typer.Option(help="Privacy budget of the job.")],
    delta: Annotated[float, typer.Option(help="Failure probability of the guarantee, such as 1e-6.")],
    data: Annotated[
        Path | None, typer.Option(help="Folder with interactions.csv[.gz]; a generated marketplace if not given.")
    ] = None,
    tenants: Annotated[int, typer.Option(help="Institutions that the users are divided among.", min=16)] = 16,
    tenants_by: Annotated[_TenantsBy, typer.Option(help="Divide users at random or by taste.")] = _TenantsBy.taste,
    seeds: Annotated[int, typer.Option(help="Of tenants, cohorts and noise, to average over.", min=1)] = 3,
    out: Annotated[Path | None, typer.Option(help="Write the JSON report to this file.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the JSON report instead of a table.")] = False,
) -> None:
    """What no, one and two malicious tenants do to the model, in one sum, in cohorts, and in trimmed cohorts."""
    from simulations.poison_report import PoisonReport, poison_footer, poison_table
    from simulations.poisoning import PoisonSettings, run_poison

    settings = PoisonSettings(
        data=data,
        epsilon=epsilon,
        delta=delta,
        num_seeds=seeds,
        num_tenants=tenants,
        tenants_by=tenants_by.value,
    )
    _require_writable(out)
    before = perf_counter()
    with Console(stderr=True).status("starting") as status:
        rows, spreads, name = run_poison(settings, lambda text: status.update(text))
    report = PoisonReport(
        rows=rows,
        spreads=spreads,
        settings=asdict(settings),
        data=name,
        seconds=round(perf_counter() - before, 1),
        peak_memory_mb=peak_memory_mb(),
    )
    if out is not None:
        write_file(out, (report.to_json() + "\n").encode())
    if as_json:
        sys.stdout.write(report.to_json() + "\n")
        return
    console = Console()
    console.print(poison_table(report))
    for line in poison_footer(report):
        console.print(line, highlight=False)


def _require_writable(target: Path | None) -> None:
    if target is None:
        return
    if target.is_dir():
        raise BadSetting(f"{target}: a folder; give the name of a file in it")
    if not os.access(target.parent, os.W_OK):
        raise BadSetting(f"{target.parent}: no folder that can be written to; make it or give another")
