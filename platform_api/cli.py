"""`zhiyin platform`: serving the marketplace and looking after it."""

import importlib
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from platform_api import schema
from platform_api.clock import system_clock
from platform_api.database import Database
from platform_api.operations.serving import LOOPBACK, Listening, require_migrated
from platform_api.problems import Problem
from platform_api.settings import Settings, load_settings
from shared.errors import BadInput, BadSetting, DeploymentError

platform_app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="The marketplace: settings are environment variables, see docs/platform-operations.md.",
)
model_app = typer.Typer(no_args_is_help=True, help="The model registry: list, promote, roll back.")
platform_app.add_typer(model_app, name="model")
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
_SEED_PASSWORD = "ZHIYIN_SEED_PASSWORD"  # noqa: S105 - the name of a variable
_DATABASE = "ZHIYIN_PLATFORM_DATABASE_URL"


@platform_app.callback()
def _private() -> None:
    # The database, backups and keys are their owner's alone from the moment they are made.
    os.umask(0o077)


@platform_app.command()
def serve(
    host: Annotated[str, typer.Option(help="Address to listen at.")] = LOOPBACK,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen at; 0 takes a free one.")] = 8000,
    trusted_proxies: Annotated[
        str, typer.Option(help="Addresses or networks of reverse proxies, with commas; X-Forwarded-For is theirs.")
    ] = "",
    grace_seconds: Annotated[
        int, typer.Option(min=1, max=3600, help="How long requests in flight may take after SIGTERM.")
    ] = 30,
) -> None:
    """Serve the API until SIGTERM. Refuses to start while migrations are pending."""
    from platform_api.operations.erasures import settle
    from platform_api.operations.serving import serve as run

    settings = load_settings()
    with opened(settings) as database:
        settled = settle(settings, database, system_clock())
    if settled.again or settled.behind:
        told = f"{len(settled.again)} erased again, {len(settled.behind)} recorded"
        typer.echo(f"{settings.erasure_journal}: {told}", err=True)
    run(settings, Listening(host=host, port=port, trusted_proxies=trusted_proxies, grace_seconds=grace_seconds))


@platform_app.command()
def migrate(
    down_to: Annotated[
        str, typer.Option(help="Undo everything after this migration; base undoes all. Back up first.")
    ] = "",
    show: Annotated[bool, typer.Option("--show", help="List the migrations and change nothing.")] = False,
    as_json: AsJson = False,
) -> None:
    """Take the database to the newest migration."""
    with opened(load_settings(), migrated=False) as database:
        if down_to and not show:
            schema.migrate_down(database, down_to)
        elif not show:
            schema.migrate(database)
        pending = {step.revision for step in schema.standing(database).pending}
    rows = [
        {"revision": step.revision, "title": step.title, "applied": step.revision not in pending}
        for step in schema.steps()
    ]
    printed(rows, as_json, ("revision", "title", "applied"))


@platform_app.command()
def seed(
    ask: Annotated[bool, typer.Option("--ask", help="Ask for each new account's password.")] = False,
    large: Annotated[bool, typer.Option("--large", help="Fill an empty database for benchmarks instead.")] = False,
    products: Annotated[int, typer.Option(min=1, help="With --large.")] = 10_000,
    users: Annotated[int, typer.Option(min=1, help="With --large.")] = 50_000,
    orders: Annotated[int, typer.Option(min=0, help="With --large.")] = 500_000,
    name: Annotated[str, typer.Option(help="With --large: seed of what is random.")] = "volume",
    as_json: AsJson = False,
) -> None:
    """Add a small sample marketplace; again, only what is missing. Prints passwords of new accounts once.

    ZHIYIN_SEED_PASSWORD, where set, is the password of all of them, and is not printed.
    """
    settings = load_settings()
    if large:
        _seed_large(settings, products, users, orders, name)
        return
    from platform_api.operations.sample import seed_sample

    with opened(settings) as database:
        added = seed_sample(database, system_clock(), _passwords(ask))
    shown = {} if ask or _SEED_PASSWORD in os.environ else added.passwords
    if as_json:
        typer.echo(json.dumps({**vars(added), "passwords": shown}))
        return
    policy = "a policy" if added.policy else "no policy"
    counts = f"{added.tenants} tenants, {added.categories} categories, {added.products} products, {policy}"
    typer.echo(f"added: {counts}, {len(added.passwords)} accounts")
    _show_passwords(shown)


@platform_app.command()
def operator(
    email: Annotated[str, typer.Argument(help="Of a new or an existing account.")],
    ask: Annotated[bool, typer.Option("--ask", help="Ask for a new account's password.")] = False,
) -> None:
    """Make somebody the platform's operator: the first one can be made in no other way."""
    from platform_api.operations.sample import make_operator

    with opened(load_settings()) as database:
        password = make_operator(database, email, system_clock(), _passwords(ask))
    typer.echo("an operator now" + ("" if password else "; the account's password is what it was"))
    if password and not ask and _SEED_PASSWORD not in os.environ:
        _show_passwords({email: password})


def _passwords(ask: bool) -> Callable[[str], str]:
    from platform_api.operations.sample import one_time_password

    if ask:
        return lambda email: str(typer.prompt(f"Password of {email}", hide_input=True, confirmation_prompt=True))
    given = os.environ.get(_SEED_PASSWORD)
    return one_time_password if given is None else lambda email: given


def _show_passwords(passwords: dict[str, str]) -> None:
    if passwords:
        typer.echo("passwords, shown once and kept nowhere; change them after the first log-in:")
        for email, password in passwords.items():
            typer.echo(f"  {email}  {password}")


def _seed_large(settings: Settings, products: int, users: int, orders: int, name: str) -> None:
    from rich.progress import Progress

    from platform_api.operations.volume import Volume, seed_volume

    volume = Volume(products=products, users=users, orders=orders, seed=name)
    with opened(settings) as database, Progress(console=Console(stderr=True), transient=True) as progress:
        totals = {"people": users, "products": products, "orders": orders}
        tasks = {what: progress.add_task(what, total=total) for what, total in totals.items()}
        seed_volume(database, volume, lambda what, rows: progress.advance(tasks[what], rows))
    typer.echo(f"added: {products} products, {users} users, {orders} orders")


@platform_app.command()
def reconcile(
    since: Annotated[
        datetime | None, typer.Option(help="Only what changed at the provider since then, UTC. Default: all.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Bring the payment provider's books and ours together. Exit code 1 if something is left for a person."""
    from platform_api.operations.money import reconciled

    settings = load_settings()
    with opened(settings) as database:
        report = reconciled(settings, database, system_clock(), since)
    findings = [vars(finding) for finding in report.findings]
    if as_json:
        told = {"intents_seen": report.intents_seen, "refunds_seen": report.refunds_seen, "clean": report.clean}
        typer.echo(json.dumps({**told, "findings": findings}))
    else:
        typer.echo(f"{report.intents_seen} payments and {report.refunds_seen} refunds compared")
        if findings:
            printed(findings, False, ("action", "kind", "subject_id", "detail"))
    if not report.clean:
        raise typer.Exit(1)


@platform_app.command()
def sweep(as_json: AsJson = False) -> None:
    """Close orders that were not paid in time and remove what was kept long enough. Exit code 1 if one sweep failed."""
    from platform_api.operations.money import swept

    settings = load_settings()
    with opened(settings) as database:
        done = swept(settings, database, system_clock())
    if as_json:
        typer.echo(json.dumps({**done.counts, "failed": done.failed}))
    else:
        typer.echo(", ".join(f"{count} {name.replace('_', ' ')}" for name, count in done.counts.items()) + " swept")
        if done.failed:
            typer.echo(f"failed, run it again: {', '.join(done.failed)}", err=True)
    if done.failed:
        raise typer.Exit(1)


@platform_app.command()
def sandbox(
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen at.")] = 8400,
    host: Annotated[str, typer.Option(help="Address to listen at.")] = LOOPBACK,
    books: Annotated[str, typer.Option(help="SQLite file of its books; :memory: forgets them.")] = ":memory:",
    webhook_url: Annotated[
        str, typer.Option(help="Where it reports payments; default: the marketplace's public address.")
    ] = "",
    public_url: Annotated[str, typer.Option(help="Where payers find it; default: the setting provider_url.")] = "",
) -> None:
    """Serve a payment provider to develop against. It moves no money and knows test cards only."""
    from platform_api.operations.sandboxing import serve_sandbox

    settings = load_settings()
    serve_sandbox(settings, host=host, port=port, books=books, webhook_url=webhook_url, public_url=public_url)


@platform_app.command()
def doctor(as_json: AsJson = False) -> None:
    """Look for what is wrong with this installation. Exit code 1 if anything failed."""
    from platform_api.operations.doctor import examine

    try:
        found = examine(load_settings(), system_clock())
    except BadSetting as error:
        printed([{"check": "settings", "level": "fail", "detail": str(error)}], as_json, ("check", "level", "detail"))
        raise typer.Exit(1) from None
    printed([vars(finding) for finding in found], as_json, ("check", "level", "detail", "mend"))
    if any(finding.level == "fail" for finding in found):
        raise typer.Exit(1)


@platform_app.command()
def backup(
    archive: Annotated[Path, typer.Argument(help="File to write; must not exist. Keep it encrypted: it holds keys.")],
    as_json: AsJson = False,
) -> None:
    """Write database and data folder into one archive. The service may run meanwhile."""
    from platform_api.operations.backups import back_up

    settings = load_settings()
    with opened(settings, migrated=False) as database:
        contents = back_up(settings, database, archive, system_clock())
    _show_archive(archive, vars(contents), "written", as_json)


@platform_app.command()
def restore(
    archive: Annotated[Path, typer.Argument(help="A file that backup wrote.")],
    force: Annotated[bool, typer.Option("--force", help="Replace what is there.")] = False,
    verify: Annotated[bool, typer.Option("--verify", help="Only compare every digest.")] = False,
    as_json: AsJson = False,
) -> None:
    """Put a backup in place, after comparing every digest. Stop the service first."""
    from platform_api.operations import backups

    if verify:
        _show_archive(archive, vars(backups.verify(archive)), "whole", as_json)
        return
    settings = load_settings()
    try:
        contents = backups.restore(settings, archive, force=force)
    except SQLAlchemyError as error:
        raise _unwell(error) from None
    again, note = _erased_again(settings)
    _show_archive(archive, {**vars(contents), "erased_again": again}, "restored", as_json)
    if note:
        typer.echo(note, err=True)


def _erased_again(settings: Settings) -> tuple[int | None, str]:
    """How many people were erased again after a restore, None for not yet; and what the operator should know."""
    from platform_api.operations.erasures import settle

    with opened(settings, migrated=False) as database:
        if schema.standing(database).pending:
            return None, "who was erased since then is erased again by serve, after migrate"
        found = settle(settings, database, system_clock())
    if not found.recorded.there:
        return 0, f"{settings.erasure_journal}: no such file; whoever was erased since the backup is there again"
    return len(found.again), ""


def _show_archive(archive: Path, contents: dict[str, Any], what: str, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps({"archive": str(archive), **contents}))
    else:
        told = f"{len(contents['files'])} files, {contents['dialect']} at migration {contents['revision']}"
        again = contents.get("erased_again")
        after = "" if again is None else f"; {again} erased people were there again and have been erased"
        typer.echo(f"{archive}: {what}; {told}, of {contents['created']}{after}")


@model_app.command("list")
def list_models(as_json: AsJson = False) -> None:
    """Every version in the registry and its state."""
    from platform_api.operations.registry import listed

    with opened(load_settings()) as database:
        rows = listed(database)
    printed(rows, as_json, ("name", "version", "state", "recipe", "model_bytes", "posted_at"))


@model_app.command()
def promote(
    version: Annotated[int, typer.Argument(min=1)],
    name: Annotated[str, typer.Option(help="Default: the setting recommender.")] = "",
    shadow: Annotated[bool, typer.Option("--shadow", help="Run it beside the live one first.")] = False,
) -> None:
    """Make a version live. The gate is passed again; every reason against it is said."""
    from platform_api.operations.registry import promoted

    settings = load_settings()
    name = name or settings.recommender
    with opened(settings) as database:
        promoted(settings, database, name, version, system_clock(), shadow=shadow)
    typer.echo(f"{name} {version} is {'the shadow' if shadow else 'live'}")


@model_app.command()
def rollback(name: Annotated[str, typer.Argument(help="Default: the setting recommender.")] = "") -> None:
    """Take the live version back: the one before it is live again, at once."""
    from platform_api.operations.registry import rolled_back

    settings = load_settings()
    name = name or settings.recommender
    with opened(settings) as database:
        withdrawn, restored = rolled_back(settings, database, name, system_clock())
    typer.echo(f"{name} {restored} is live again, {withdrawn} is not any more")


@contextmanager
def opened(settings: Settings, *, migrated: bool = True) -> Iterator[Database]:
    """The database of the settings; what goes wrong with it becomes one line.

    migrated: raises DeploymentError while migrations are pending.
    """
    # Here, not above: every feature's tables, which name one another, take two seconds, and some commands read none.
    importlib.import_module("platform_api.app")
    try:
        database = Database(settings.database_url)
    except (SQLAlchemyError, ImportError, ValueError):
        raise BadSetting(
            f"{_DATABASE}: it is no URL of SQLite or PostgreSQL (sqlite:///file or "
            "postgresql+psycopg://user:password@host/name)"
        ) from None
    try:
        if migrated:
            require_migrated(database)
        yield database
    except Problem as problem:
        raise BadInput(str(problem)) from None
    except SQLAlchemyError as error:
        raise _unwell(error) from None
    finally:
        database.close()


def _unwell(error: SQLAlchemyError) -> DeploymentError:
    cause = str(error.orig if isinstance(error, DBAPIError) else error).splitlines()[0]
    return DeploymentError(f"{_DATABASE}: the database does not answer as it should: {cause}")


def printed(rows: list[dict[str, Any]], as_json: bool, columns: tuple[str, ...]) -> None:
    """Rows as a table, or as JSON with all that they hold."""
    if as_json:
        typer.echo(json.dumps(rows, ensure_ascii=False, default=str))
        return
    table = Table(*columns)
    for row in rows:
        cells = (row.get(name) for name in columns)
        table.add_row(
            *("" if cell is None else "yes" if cell is True else "no" if cell is False else str(cell) for cell in cells)
        )
    Console().print(table)
