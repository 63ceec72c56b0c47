"""`zhiyin client`: the partner's command line. Every command prints words, or JSON with --json; errors are one line."""

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from client.durable_files import write_file
from client.home import ClientHome, read_catalogue
from client.importing import ColumnNames, import_source
from client.inspection import diagnose, status, too_many_users
from client.join_cli import fetch_app, join_
from client.joining import AUTHORITY_FILE, joined
from client.keys_cli import keys_app, read_roster
from client.policy import LocalPolicy
from client.presenting import print_findings, print_preview, print_status, print_suggestions
from client.recommend import install_model, suggest
from client.rosters import learn_roster
from shared.canonical import strict_json
from shared.errors import BadSetting, PolicyViolation
from shared.fingerprint import key_fingerprint

client_app = typer.Typer(
    no_args_is_help=True, pretty_exceptions_enable=False, help="The partner's side: histories stay here."
)
client_app.command("join")(join_)
client_app.add_typer(fetch_app, name="fetch")
client_app.add_typer(keys_app, name="keys")

Home = Annotated[Path, typer.Option("--home", envvar="ZHIYIN_HOME", help="The home folder of this client.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
DEFAULT_HOME = Path("zhiyin-home")


@client_app.command()
def init(
    name: Annotated[str, typer.Option(help="This party's name on the roster.")],
    catalogue: Annotated[Path, typer.Option(help="The public catalogue snapshot.")],
    home: Home = DEFAULT_HOME,
    declared_users: Annotated[int, typer.Option(help="A round number of users to state in public.")] = 1,
    epsilon: Annotated[
        float, typer.Option(help="Whole privacy budget of every user here, for ever.")
    ] = LocalPolicy.epsilon,
    delta: Annotated[float, typer.Option(help="The delta that goes with epsilon.")] = LocalPolicy.delta,
    helper_only: Annotated[
        bool, typer.Option("--helper-only", help="For an auditor: serve as a helper alone, without a store.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Make a home: fresh keys, an empty store, an empty ledger, and a policy.toml that explains every setting.

    Every attempt at a job is charged: max_epsilon_per_job in it is for plans of half that epsilon, so that a step can
    be repeated twice.
    """
    policy = LocalPolicy(
        name=name,
        serve_as=("helper",) if helper_only else LocalPolicy.serve_as,
        declared_users=declared_users,
        epsilon=epsilon,
        delta=delta,
        max_epsilon_per_job=min(epsilon, LocalPolicy.max_epsilon_per_job),
    )
    made = ClientHome.create(home, policy=policy, catalogue=read_catalogue(catalogue))
    public = {
        "home": str(made.folder),
        "name": made.name,
        "signing": made.vault.signing_public,
        "fingerprint": key_fingerprint(made.vault.signing_public),
        "node_public_key": str(made.vault.node_public_path),
    }
    if as_json:
        _print_json(public)
        return
    typer.echo(f"made {made.folder}")
    typer.echo(
        f"next: review {made.folder / 'policy.toml'}, then ask the issuer to be listed: zhiyin client keys request"
    )
    for key in ("signing", "fingerprint", "node_public_key"):
        typer.echo(f"  {key}: {public[key]}")


@client_app.command("import")
def import_(
    source: Annotated[str, typer.Argument(help="A .csv, .csv.gz or .parquet file, or a database URL.")],
    home: Home = DEFAULT_HOME,
    table: Annotated[str | None, typer.Option(help="Table of the database.")] = None,
    query: Annotated[str | None, typer.Option(help="SQL query on the database.")] = None,
    user_column: Annotated[str, typer.Option(help="Column with the user's id.")] = "user",
    item_column: Annotated[str, typer.Option(help="Column with the item's id.")] = "item",
    timestamp_column: Annotated[str | None, typer.Option(help="Column with Unix seconds or ISO 8601.")] = None,
    position_column: Annotated[str | None, typer.Option(help="Column with a rising number.")] = None,
    weight_column: Annotated[str | None, typer.Option(help="Column with a weight above zero.")] = None,
    max_rejects: Annotated[int, typer.Option(min=1, help="Stop after this many rejected rows.")] = 20,
    as_json: AsJson = False,
) -> None:
    """Import histories: all rows or none. Importing the same source again changes nothing."""
    opened = ClientHome.open(home)
    done = import_source(
        opened.store,
        opened.catalogue,
        source,
        table=table,
        query=query,
        columns=ColumnNames(
            user=user_column,
            item=item_column,
            timestamp=timestamp_column,
            position=position_column,
            weight=weight_column,
        ),
        max_rejects=max_rejects,
    )
    counts = opened.store.counts()
    if warning := too_many_users(opened):
        typer.echo(f"warning: {warning}", err=True)
    if as_json:
        _print_json({**vars(done), "store": vars(counts)})
    else:
        typer.echo(f"{done.added} events added, {done.known} known already, {done.changed} of them with a new weight")
        typer.echo(
            f"the store holds {counts.num_events} events of {counts.num_users} users on {counts.num_items} items"
        )


@client_app.command("catalogue")
def catalogue_(
    snapshot: Annotated[Path, typer.Argument(help="The new public catalogue snapshot.")],
    home: Home = DEFAULT_HOME,
    as_json: AsJson = False,
) -> None:
    """Move to another catalogue snapshot. Events of items that it no longer lists are kept and left out."""
    fresh = read_catalogue(snapshot)
    left_out = ClientHome.adopt_catalogue(home, fresh)
    if as_json:
        _print_json({"version": fresh.version, "digest": fresh.digest, "events_left_out": left_out})
    else:
        typer.echo(f"catalogue version {fresh.version} with {fresh.num_items} items; {left_out} events are left out")


@client_app.command()
def preview(
    plan: Annotated[Path | None, typer.Option(help="A plan as JSON; without it, a typical one.")] = None,
    save: Annotated[Path | None, typer.Option(help="Also write the plan there.")] = None,
    home: Home = DEFAULT_HOME,
    as_json: AsJson = False,
) -> None:
    """Show exactly what would leave this home for a plan. Sends nothing and charges nothing.

    Exit code 3 if the plan would be refused.
    """
    from client import preview as looking
    from shared.plan import plan_from_json, plan_to_json

    opened = ClientHome.open(home)
    asked = looking.default_plan(opened) if plan is None else plan_from_json(_read_json(plan))
    seen = replace(looking.preview(opened, asked), local_refusal=too_many_users(opened))
    if save is not None:
        _write(save, json.dumps(plan_to_json(asked), indent=2).encode() + b"\n")
    if as_json:
        _print_json(looking.to_json(seen))
    else:
        print_preview(seen, looking.NEVER_LEAVES)
    if not seen.accepted:
        raise typer.Exit(PolicyViolation.exit_code)


@client_app.command("status")
def status_(home: Home = DEFAULT_HOME, as_json: AsJson = False) -> None:
    """What the home holds: counts, privacy spent and left, the list of parties, the installed model."""
    seen = status(ClientHome.open(home), now=int(time.time()))
    if as_json:
        _print_json(seen)
    else:
        print_status(seen)


@client_app.command()
def install(
    folder: Annotated[Path, typer.Argument(help="Folder with model.safetensors and manifest.json.")],
    home: Home = DEFAULT_HOME,
    as_json: AsJson = False,
) -> None:
    """Verify a published model with the pinned publisher key and use it from now on."""
    artifact = install_model(ClientHome.open(home), folder)
    if as_json:
        _print_json({"name": artifact.name, "version": artifact.version, "privacy": artifact.privacy.to_json()})
    else:
        typer.echo(f"installed {artifact.name} version {artifact.version}, epsilon {artifact.privacy.epsilon:g}")


@client_app.command()
def recommend(
    user: Annotated[str, typer.Option(help="A user of the store.")] = "",
    k: Annotated[int, typer.Option("-k", min=1, help="How many.")] = 10,
    newcomer: Annotated[bool, typer.Option("--newcomer", help="For somebody who has no history yet.")] = False,
    home: Home = DEFAULT_HOME,
    as_json: AsJson = False,
) -> None:
    """Rank for one local user, on this machine alone."""
    if bool(user) == newcomer:
        raise BadSetting("name a user of the store with --user, or nobody with --newcomer")
    lines = suggest(ClientHome.open(home), user, k, newcomer=newcomer)
    if as_json:
        _print_json([vars(line) for line in lines])
    else:
        print_suggestions(lines)


@client_app.command()
def doctor(home: Home = DEFAULT_HOME, as_json: AsJson = False) -> None:
    """Check the home: files, rights, keys, ledger, settings, packages. Exit code 2 if something is refused."""
    findings = diagnose(home, now=int(time.time()))
    if as_json:
        _print_json([vars(finding) for finding in findings])
    else:
        print_findings(findings)
    if any(finding.severity == "error" for finding in findings):
        raise typer.Exit(BadSetting.exit_code)


@client_app.command()
def export(
    user: Annotated[str, typer.Option(help="A user of the store.")],
    home: Home = DEFAULT_HOME,
) -> None:
    """Print everything that the store holds about one user, as JSON (a person's right to see it)."""
    _print_json(ClientHome.open(home).store.about(user))


@client_app.command()
def erase(
    user: Annotated[str, typer.Option(help="A user of the store.")],
    home: Home = DEFAULT_HOME,
    as_json: AsJson = False,
) -> None:
    """Erase one user from the store. What noisy sums already hold of them stays, and stays covered by the ledger."""
    events = ClientHome.open(home).store.erase(user)
    if as_json:
        _print_json({"events_erased": events})
    else:
        typer.echo(f"{events} events erased; the user takes part in nothing from now on")


@client_app.command()
def roster(
    signed: Annotated[Path, typer.Argument(help="The signed list, from the issuer and not through the server.")],
    home: Home = DEFAULT_HOME,
    as_json: AsJson = False,
) -> None:
    """Accept the newest list of parties now, and refuse every older one from then on, whatever the server hands out."""
    listed, new, erased = learn_roster(ClientHome.open(home), read_roster(signed), int(time.time()))
    if as_json:
        _print_json({"epoch": listed.epoch, "digest": listed.digest, "new": new, "erased": list(erased)})
        return
    typer.echo(f"epoch {listed.epoch} with {len(listed.entries)} parties, {'new here' if new else 'known already'}")


SuperLink = Annotated[str | None, typer.Option(help="host:port of the server; as joined unless given.")]
RootCertificates = Annotated[
    Path | None, typer.Option(help="Authority that the server's certificate must come from; as joined unless given.")
]
ReadyFile = Annotated[Path | None, typer.Option(help="Written when the server has accepted this node.")]
PollSeconds = Annotated[float, typer.Option(help="How often to ask for work.")]
HeartbeatSeconds = Annotated[float, typer.Option(help="A node silent for two of these counts as lost.")]


@client_app.command()
def run(
    superlink: SuperLink = None,
    root_certificates: RootCertificates = None,
    home: Home = DEFAULT_HOME,
    ready_file: ReadyFile = None,
    poll_seconds: PollSeconds = 1.0,
    heartbeat_seconds: HeartbeatSeconds = 30.0,
) -> None:
    """Serve this home as a node of the federation until interrupted; runs only the app bundles of the policy."""
    _serve(ClientHome.open(home), superlink, root_certificates, ready_file, poll_seconds, heartbeat_seconds)


@client_app.command()
def helper(
    superlink: SuperLink = None,
    root_certificates: RootCertificates = None,
    home: Home = DEFAULT_HOME,
    ready_file: ReadyFile = None,
    poll_seconds: PollSeconds = 1.0,
    heartbeat_seconds: HeartbeatSeconds = 30.0,
) -> None:
    """As `run`, for a home that may only help; does not start where the policy allows to ask for contributions."""
    opened = ClientHome.open(home)
    if opened.policy.serve_as != ("helper",):
        raise BadSetting(
            f'{opened.folder / "policy.toml"}: setting serve_as must be ["helper"] for a node that only helps; '
            "make such a home with `zhiyin client init --helper-only`"
        )
    _serve(opened, superlink, root_certificates, ready_file, poll_seconds, heartbeat_seconds)


def _serve(
    opened: ClientHome,
    superlink: str | None,
    root_certificates: Path | None,
    ready_file: Path | None,
    poll_seconds: float,
    heartbeat_seconds: float,
) -> None:
    from client.supernode import NodeSettings
    from client.supernode import run as serve

    policy, invitation = opened.policy, joined(opened.folder)
    if invitation is not None:
        superlink, root_certificates = (
            superlink or invitation.superlink,
            root_certificates or opened.folder / AUTHORITY_FILE,
        )
    if not superlink or root_certificates is None:
        raise BadSetting("name the server with --superlink and --root-certificates, or join with an invitation first")
    settings = NodeSettings(
        superlink=superlink,
        root_certificates=root_certificates,
        private_key=opened.vault.node_key_path,
        allowed_digests=frozenset(policy.app_digests),
        ready_file=ready_file,
        poll_seconds=poll_seconds,
        heartbeat_seconds=heartbeat_seconds,
        # A device solves with numpy alone and a helper solves nothing, so neither needs torch.
        gradients=policy.serves_tenant and "recon" in policy.allowed_recipes and policy.declared_users > 1,
    )
    serve(opened.folder, settings)


@client_app.command()
def bundle(
    project: Annotated[Path, typer.Argument(help="The source tree that was reviewed.")] = Path(),
    as_json: AsJson = False,
) -> None:
    """The digest of the app bundle built from a source tree, for app_digests in policy.toml; --json lists its files."""
    from client.bundle import build_bundle, bundle_contents, bundle_digest

    built = build_bundle(project)
    if as_json:
        _print_json({"digest": bundle_digest(built), "size_bytes": len(built), "files": bundle_contents(built)})
        return
    typer.echo(bundle_digest(built))


def _read_json(path: Path) -> Any:
    try:
        return strict_json(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise BadSetting(f"{path}: it cannot be read as JSON: {error}") from error


def _write(path: Path, data: bytes) -> None:
    try:
        write_file(path, data)
    except OSError as error:
        raise BadSetting(f"{path}: it cannot be written ({error.strerror}); choose another place") from error


def _print_json(value: Any) -> None:
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False))
