"""`zhiyin platform`: serving the marketplace and looking after it."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
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
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
_DATABASE = "ZHIYIN_PLATFORM_DATABASE_URL"


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
    from platform_api.operations.serving import serve as run

    settings = load_settings()
    with opened(settings):
        pass
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
    from platform_api.operations.money import serve_sandbox

    settings = load_settings()
    serve_sandbox(settings, host=host, port=port, books=books, webhook_url=webhook_url, public_url=public_url)


@contextmanager
def opened(settings: Settings, *, migrated: bool = True) -> Iterator[Database]:
    """The database of the settings; what goes wrong with it becomes one line.

    migrated: raises DeploymentError while migrations are pending.
    """
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
        cause = str(error.orig if isinstance(error, DBAPIError) else error).splitlines()[0]
        raise DeploymentError(f"{_DATABASE}: the database does not answer as it should: {cause}") from None
    finally:
        database.close()


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
