"""`zhiyin client keys`: this party's own keys, what the issuer has to know of them, and getting rid of old ones."""

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from client.durable_files import write_file
from client.enrolling import enrolment_request
from client.home import KEYS_FOLDER, ClientHome, require_home
from client.rosters import kept_roster, learn_roster
from client.vault import Vault
from shared.enrolment import EnrolmentRequest, sign_request
from shared.errors import BadSetting
from shared.fingerprint import key_fingerprint
from shared.roster import Role

keys_app = typer.Typer(no_args_is_help=True, help="This party's keys: show, ask to be listed, replace, erase.")

Home = Annotated[Path, typer.Option("--home", envvar="ZHIYIN_HOME", help="The home folder of this client.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


class ListedAs(StrEnum):
    tenant = "tenant"
    helper = "helper"


class Kind(StrEnum):
    sealing = "sealing"
    signing = "signing"
    node = "node"


Roles = Annotated[list[ListedAs] | None, typer.Option("--role", help="What to be listed as; once for each role.")]
Out = Annotated[Path, typer.Option(help="The request, for the issuer; it holds nothing secret.")]
Days = Annotated[int, typer.Option(min=1, max=3650, help="How long a helper's sealing key is certified.")]
DEFAULT_HOME = Path("zhiyin-home")


@dataclass(frozen=True, kw_only=True)
class Written:
    """A request that was written, and what to read out to the issuer."""

    path: Path
    request: EnrolmentRequest


@keys_app.command()
def show(home: Home = DEFAULT_HOME, as_json: AsJson = False) -> None:
    """The public halves, with the fingerprint to compare with others by telephone."""
    opened = ClientHome.open(home)
    vault = opened.vault
    sealing = {str(number): key.public_key().public_bytes_raw().hex() for number, key in vault.sealing_keys.items()}
    public = {
        "name": opened.name,
        "signing": vault.signing_public,
        "fingerprint": key_fingerprint(vault.signing_public),
        "sealing": sealing,
        "node": vault.node_public,
    }
    if as_json:
        _print_json(public)
        return
    typer.echo(f"name         {public['name']}")
    typer.echo(f"signing key  {public['signing']}")
    typer.echo(f"fingerprint  {public['fingerprint']}   (of the signing key; partners who pin you compare it)")
    for number, key in sealing.items():
        typer.echo(f"sealing key  {key}   (number {number}{', the newest' if key == vault.sealing_public else ''})")
    typer.echo(f"node key     {public['node']}")


@keys_app.command()
def request(
    out: Out, home: Home = DEFAULT_HOME, role: Roles = None, sealing_days: Days = 90, as_json: AsJson = False
) -> None:
    """Write a signed request to be listed, for the issuer; prints the fingerprint to read out."""
    opened = ClientHome.open(home)
    _tell(_write_request(opened, opened.vault, out, role, sealing_days), as_json, {})


@keys_app.command()
def rotate(
    out: Out,
    home: Home = DEFAULT_HOME,
    key: Annotated[
        list[Kind] | None, typer.Option(help="What to replace; once for each kind. The sealing key, if not given.")
    ] = None,
    role: Roles = None,
    sealing_days: Days = 90,
    as_json: AsJson = False,
) -> None:
    """Make new keys, and the request that asks the issuer to list them.

    An old sealing key stays until a list with the new one was accepted here, and is erased then. A signing key is
    replaced at once: this party is refused everywhere until the issuer has revoked the old identity, enrolled the new
    one and published, and every partner who pins it has changed the pin.
    """
    kinds = list(dict.fromkeys(key or [Kind.sealing]))
    _require_writable(out)
    # A home does not open without its keys, and this is what mends one that has lost them.
    Vault.make_lost(require_home(home) / KEYS_FOLDER, signing=Kind.signing in kinds, node=Kind.node in kinds)
    opened = ClientHome.open(home)
    if Kind.sealing in kinds and "helper" not in _roles(opened, role):
        raise BadSetting("a sealing key is a helper's: add --role helper, or name what to replace with --key")
    vault = opened.vault
    for kind in kinds:
        vault = _replaced(vault, kind)
    _tell(_write_request(opened, vault, out, role, sealing_days), as_json, {"made": kinds})


@keys_app.command("erase-old")
def erase_old(
    roster: Annotated[Path, typer.Argument(help="The signed list that names the newest sealing key.")],
    home: Home = DEFAULT_HOME,
    as_json: AsJson = False,
) -> None:
    """Erase the sealing keys older than the one on a signed list, as the first message under that list would."""
    opened = ClientHome.open(home)
    listed, _, erased = learn_roster(opened, read_roster(roster), int(time.time()))
    left = sorted(Vault.open(opened.vault.folder).sealing_keys)
    if as_json:
        _print_json({"epoch": listed.epoch, "erased": list(erased), "left": left})
        return
    typer.echo(f"epoch {listed.epoch}: erased {_numbers(erased)}, left {_numbers(left)}")


def read_roster(path: Path) -> bytes:
    """A signed list from a file; BadSetting naming the file."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise BadSetting(f"{path}: the roster cannot be read ({error.strerror})") from error


def _replaced(vault: Vault, kind: Kind) -> Vault:
    if kind is Kind.sealing:
        return vault.make_sealing_key()
    return vault.replace_signing_key() if kind is Kind.signing else vault.replace_node_key()


def _write_request(
    home: ClientHome, vault: Vault, out: Path, role: Sequence[ListedAs] | None, sealing_days: int
) -> Written:
    roles, now = _roles(home, role), int(time.time())
    made = enrolment_request(home, vault, roles, now=now, sealing_days=sealing_days)
    _require_writable(out)
    write_file(out, sign_request(made, vault.signing_key))
    return Written(path=out, request=made)


def _roles(home: ClientHome, given: Sequence[ListedAs] | None) -> tuple[Role, ...]:
    """As given; else as on the newest list that was accepted; else tenant, or helper for a home that is nothing else.

    Raises BadSetting for a role that the policy would refuse to serve.
    """
    roster = kept_roster(home)
    listed = None if roster is None else next((each for each in roster.entries if each.name == home.name), None)
    roles: tuple[Role, ...] = tuple(dict.fromkeys(each.value for each in given or ()))
    if not roles and listed is not None:
        roles = listed.roles
    if not roles:
        roles = ("tenant",) if home.policy.serves_tenant else ("helper",)
    for role in roles:
        if role not in home.policy.serve_as:
            raise BadSetting(f"serve_as in policy.toml does not list {role}, so a request as a {role} would be in vain")
    return roles


def _require_writable(out: Path) -> None:
    # Before keys are made: a new key whose request cannot be written would be in nobody's hands.
    if not out.parent.is_dir():
        raise BadSetting(f"{out.parent}: no such folder; choose another place for the request")


def _tell(written: Written, as_json: bool, more: dict[str, Any]) -> None:
    asked = written.request
    if as_json:
        _print_json({"out": str(written.path), "fingerprint": asked.fingerprint, "roles": list(asked.roles), **more})
        return
    for kind in more.get("made", ()):
        typer.echo(f"made a new {kind} key")
    typer.echo(f"wrote {written.path}: {asked.name} asks to be listed as {' and '.join(asked.roles)}")
    typer.echo(f"fingerprint of the request: {asked.fingerprint}")
    typer.echo("send the file to the issuer, and read the fingerprint out by telephone")


def _numbers(numbers: Sequence[int]) -> str:
    return "number " + ", ".join(map(str, numbers)) if numbers else "none"


def _print_json(value: Any) -> None:
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False))
