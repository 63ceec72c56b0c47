"""`zhiyin server`: the operator's commands. Who takes part is the issuer's business, on another host."""

import csv
import json
import time
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from rich.console import Console
from rich.table import Table

from server.durable_files import write_file
from server.plan_file import plan_from_file
from server.platform_cli import add_commands
from server.publishing import LATEST, versions
from server.releases import ReleaseLedger
from shared import accounting
from shared.artifact import MANIFEST_FILE
from shared.canonical import canonical_json, strict_json
from shared.catalogue import CatalogueSnapshot, Item
from shared.errors import BadSetting, MalformedFile
from shared.plan import mechanisms, plan_to_json
from shared.robust_sum import noise_cost
from shared.text_features import build_text_features

server_app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="The aggregation side: publisher's key, catalogue, plans, releases.",
)
add_commands(server_app)
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@server_app.command()
def keygen(path: Annotated[Path, typer.Argument(help="Where the private key goes; must not exist.")]) -> None:
    """Make the Ed25519 key that signs models; prints the public half, which clients pin."""
    if path.exists():
        raise BadSetting(f"{path}: it exists already; an identity is not replaced by accident")
    key = Ed25519PrivateKey.generate()
    write_file(path, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    path.chmod(0o600)
    typer.echo(key.public_key().public_bytes_raw().hex())


@server_app.command()
def catalogue(
    items: Annotated[Path, typer.Argument(help="CSV with item and any of title, category, text, language.")],
    version: Annotated[int, typer.Option(min=1, help="Of the snapshot; goes up with every change.")],
    out: Annotated[Path, typer.Option(help="The snapshot.")],
) -> None:
    """Build the public catalogue snapshot with its text features; prints its digest."""
    entries = _read_items(items)
    features = build_text_features([f"{item.title}\n{item.category}\n{item.text}" for item in entries])
    snapshot = CatalogueSnapshot(version=version, items=entries, features=np.asarray(features, dtype=np.float32))
    write_file(out, snapshot.to_bytes())
    typer.echo(snapshot.digest)


@server_app.command()
def plan(
    settings: Annotated[Path, typer.Argument(help="TOML: the plan's fields but mu, and a [recipe] table.")],
    catalogue: Annotated[Path, typer.Option(help="The snapshot to train on.")],
    out: Annotated[Path, typer.Option(help="The plan, JSON.")],
) -> None:
    """Work out the noise that a plan needs for its epsilon, and write the plan."""
    made = plan_from_file(settings, catalogue)
    write_file(out, canonical_json(plan_to_json(made)))
    if made.noise == "none":
        typer.echo(f"{out}: {made.recipe_name} WITHOUT NOISE: epsilon is infinite, nobody is protected")
        return
    if made.cohorts > 1:
        typer.echo(
            f"{made.cohorts} cohorts of at least {made.min_tenants} tenants and {made.min_users} users, "
            f"trim {made.trim}: the noise of a step's total is {noise_cost(made):.2f} times that of one sum"
        )
    cost = accounting.epsilon(mechanisms(made), made.delta)
    typer.echo(
        f"{out}: {made.recipe_name}, {len(mechanisms(made))} releases, epsilon {cost:.6g} at delta {made.delta:g}"
    )


@server_app.command()
def releases(state: Annotated[Path, typer.Argument(help="A job's state folder.")], as_json: AsJson = False) -> None:
    """Verify the chain of a job's ledger of releases and list it."""
    records = ReleaseLedger.read(state)
    if as_json:
        typer.echo(json.dumps(records))
        return
    table = Table("time", "what", "job", "step", "attempt", "cohort", "epsilon so far")
    for record in records:
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(record["time"]))
        cohort = ", ".join(f"{name} {users:,}" for name, users in record.get("cohort", {}).items())
        spent = record.get("epsilon_so_far")
        table.add_row(
            when, record["kind"], record["job_id"], str(record.get("step", "")), str(record.get("attempt", "")), cohort,
            "" if spent is None else f"{spent:.4f}",
        )  # fmt: skip
    Console().print(table)


@server_app.command()
def models(
    registry: Annotated[Path, typer.Argument(help="The folder where models are published.")], as_json: AsJson = False
) -> None:
    """List published models with their privacy statement. Clients check signatures, where the key is pinned."""
    if not registry.is_dir():
        raise BadSetting(f"{registry}: no such folder")
    found = [_describe(shelf) for shelf in sorted(registry.iterdir()) if shelf.is_dir() and versions(shelf)]
    if as_json:
        typer.echo(json.dumps(found))
        return
    table = Table("model", "versions", "latest", "recipe", "epsilon", "delta", "holds against")
    for entry in found:
        table.add_row(
            entry["name"], str(len(entry["versions"])), str(entry["latest"]), entry["recipe"],
            f"{entry['epsilon']:.4g}", f"{entry['delta']:g}", entry["against"],
        )  # fmt: skip
    Console().print(table)


def _read_items(path: Path) -> tuple[Item, ...]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as lines:
            reader = csv.DictReader(lines, strict=True)
            names = reader.fieldnames or []
            if "item" not in names:
                raise MalformedFile(
                    f"{path}: column 'item' is missing; it has {', '.join(names) or 'no header at all'}"
                )
            return tuple(_read_item(path, reader.line_num, row) for row in reader)
    except UnicodeDecodeError as error:
        raise MalformedFile(f"{path}: it is not UTF-8 at byte {error.start}; save it as UTF-8") from error
    except (OSError, csv.Error) as error:
        raise MalformedFile(f"{path}: it cannot be read: {error}") from error


def _read_item(path: Path, line: int, row: dict[Any, Any]) -> Item:
    # DictReader puts what is too much under None, and None where something is missing.
    if None in row or None in row.values():
        raise MalformedFile(f"{path} line {line}: the row has not as many fields as the header")
    if not row["item"].strip():
        raise MalformedFile(f"{path} line {line}: column 'item' is empty")
    known = {name: row.get(name, "") for name in ("title", "category", "text", "language")}
    return Item(id=row["item"].strip(), **known)


def _describe(shelf: Path) -> dict[str, Any]:
    try:
        latest = int((shelf / LATEST).read_text(encoding="ascii"))
        manifest = strict_json((shelf / str(latest) / MANIFEST_FILE).read_bytes())
        return {
            "name": shelf.name,
            "versions": list(versions(shelf)),
            "latest": latest,
            **{field: manifest[field] for field in ("recipe", "catalogue_digest")},
            **{field: manifest["privacy"][field] for field in ("epsilon", "delta", "against")},
        }
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise MalformedFile(f"{shelf}: it holds no whole published model: {error}") from error
