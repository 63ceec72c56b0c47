"""`zhiyin client join` and `zhiyin client fetch`: taking part in what a platform invites to, and what it publishes."""

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from client.fetching import adopt_catalogue, fetch_catalogue, fetch_model, make_joined
from client.home import POLICY_FILE, ClientHome
from client.joining import Pin, join, joined, pinned, pins, require_joined, shown
from client.policy import LocalPolicy
from client.policy_file import load_policy
from shared.errors import BadSetting
from shared.fingerprint import require_fingerprint
from shared.invitation import Invitation, open_invitation

fetch_app = typer.Typer(no_args_is_help=True, help="From the platform that this home joined, signatures checked.")

Home = Annotated[Path, typer.Option("--home", envvar="ZHIYIN_HOME", help="The home folder of this client.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
DEFAULT_HOME = Path("zhiyin-home")


def join_(
    file: Annotated[Path, typer.Argument(help="The invitation, as the platform's operator sent it.")],
    home: Home = DEFAULT_HOME,
    fingerprint: Annotated[str, typer.Option(help="As the operator read it out; must match.")] = "",
    yes: Annotated[bool, typer.Option("--yes", help="The fingerprint was compared another way.")] = False,
    name: Annotated[str, typer.Option(help="For a home that is not there yet: this party's name on the roster.")] = "",
    declared_users: Annotated[int, typer.Option(min=1, help="For a new home: users to state in public.")] = 1,
    as_json: AsJson = False,
) -> None:
    """Check an invitation, show what it would pin, and pin it once its fingerprint was compared.

    Where there is no home yet, one is made on the platform's newest catalogue snapshot.
    """
    data = _read(file)
    invitation = open_invitation(data, int(time.time()))
    is_there = (home / POLICY_FILE).is_file()
    if not is_there and not name:
        raise BadSetting(f"{home}: no home is here; name the party with --name to make one, or another --home")
    policy = load_policy(home / POLICY_FILE) if is_there else LocalPolicy(name=name, declared_users=declared_users)
    found = pins(policy, joined(home) if is_there else None, invitation)
    warnings = [line for line in (pinned(policy, invitation).helpers_to_spare,) if line]
    if not as_json:
        _show(invitation, found, warnings)
    if fingerprint:
        require_fingerprint(fingerprint, invitation.fingerprint, "the invitation")
    elif not yes:
        raise BadSetting(
            f"nothing was changed: compare the fingerprint with the platform's operator by telephone "
            f"({invitation.fingerprint}), then repeat with --fingerprint, or with --yes"
        )
    if is_there:
        join(home, data, invitation)
    else:
        make_joined(home, data, invitation, policy)
    if as_json:
        asked = {"home": str(home), "fingerprint": invitation.fingerprint, "pins": [vars(pin) for pin in found]}
        _print_json({**asked, "warnings": warnings})
    else:
        typer.echo(f"{home} has joined {invitation.platform_url}; next: zhiyin client fetch model, or run")


@fetch_app.command()
def catalogue(
    home: Home = DEFAULT_HOME,
    version: Annotated[int | None, typer.Option(min=1, help="Of the snapshot; the newest unless given.")] = None,
    as_json: AsJson = False,
) -> None:
    """Fetch a catalogue snapshot and move to it. One that the platform did not sign, or another file, is refused."""
    opened = ClientHome.open(home)
    fetched = fetch_catalogue(require_joined(opened.folder), opened.models, version=version)
    left_out = adopt_catalogue(opened.folder, fetched)
    snapshot = fetched.snapshot
    if as_json:
        _print_json({"version": snapshot.version, "digest": snapshot.digest, "events_left_out": left_out})
    else:
        typer.echo(
            f"catalogue version {snapshot.version} with {snapshot.num_items} items; {left_out} events are left out"
        )


@fetch_app.command()
def model(home: Home = DEFAULT_HOME, as_json: AsJson = False) -> None:
    """Fetch the live model, verify it with the pinned publisher key and use it; nothing is fetched twice."""
    fetched = fetch_model(home.absolute())
    artifact = fetched.artifact
    told = {"name": artifact.name, "version": artifact.version, "epsilon": artifact.privacy.epsilon}
    if as_json:
        moved = None if fetched.moved is None else fetched.moved.version
        _print_json({**told, "is_new": fetched.is_new, "catalogue_version": moved})
        return
    if fetched.moved is not None:
        typer.echo(f"moved to catalogue version {fetched.moved.version}, which the model is for")
    verb = "installed" if fetched.is_new else "has already"
    typer.echo(f"{verb} {artifact.name} version {artifact.version}, epsilon {artifact.privacy.epsilon:g}")


def _show(invitation: Invitation, found: tuple[Pin, ...], warnings: Sequence[str]) -> None:
    typer.echo(f"an invitation for {invitation.invited}, as {invitation.role}; + is new here")
    for pin in found:
        typer.echo(shown(pin))
    for warning in warnings:
        typer.echo(f"warning: {warning}", err=True)
    typer.echo(f"fingerprint of the invitation: {invitation.fingerprint}")


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise BadSetting(f"{path}: the invitation cannot be read ({error.strerror})") from error


def _print_json(value: Any) -> None:
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False))
