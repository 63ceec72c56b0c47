"""`zhiyin issuer`: the commands of whoever signs the list of parties. Not for the host of the aggregation server."""

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from client.durable_files import write_file
from client.issuing import register as registers
from client.issuing.folder import IssuerFolder, opened_alone
from client.issuing.register import SECONDS_A_DAY, Enrolled, Register
from shared.enrolment import EnrolmentRequest, open_request
from shared.errors import BadSetting, ProtocolError
from shared.fingerprint import key_fingerprint, require_fingerprint
from shared.roster import sign_roster

issuer_app = typer.Typer(
    no_args_is_help=True, pretty_exceptions_enable=False, help="The list of parties: who may take part, and until when."
)

DEFAULT_FOLDER = Path("zhiyin-issuer")
WARN_SECONDS = 14 * SECONDS_A_DAY
Folder = Annotated[Path, typer.Option("--issuer", envvar="ZHIYIN_ISSUER", help="The issuer's folder.")]
Days = Annotated[int, typer.Option(min=1, max=3650, help="How long the party's place on the list is valid.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@issuer_app.command()
def init(folder: Folder = DEFAULT_FOLDER, as_json: AsJson = False) -> None:
    """Make the issuer's key and an empty register; prints the public key, which every party pins."""
    made = IssuerFolder.create(folder)
    if as_json:
        _print_json({"folder": str(folder), "public_key": made.public, "fingerprint": key_fingerprint(made.public)})
        return
    typer.echo(f"made {folder}; keep it off the aggregation server, and keep a copy of the key where nobody else is")
    typer.echo(f"issuer_public_key: {made.public}")
    typer.echo(f"fingerprint: {key_fingerprint(made.public)}")


@issuer_app.command()
def enrol(
    request: Annotated[Path, typer.Argument(help="What a party's `zhiyin client keys request` wrote.")],
    folder: Folder = DEFAULT_FOLDER,
    fingerprint: Annotated[str, typer.Option(help="As the party read it out; must match.")] = "",
    yes: Annotated[bool, typer.Option("--yes", help="The fingerprint was compared another way.")] = False,
    days: Days = 365,
    as_json: AsJson = False,
) -> None:
    """Enrol a party, or change the keys of one that is enrolled, once the fingerprint was compared."""
    now = int(time.time())
    asked = _read_request(request, now)
    with opened_alone(folder) as issuer:
        after = registers.enrol(issuer.register, asked, now=now, days=days)
        changes = _changes(issuer.register, after)
        told = {"name": asked.name, "fingerprint": asked.fingerprint, "changes": changes}
        if not as_json:
            _print_lines(changes)
            typer.echo(f"fingerprint of the request: {asked.fingerprint}")
        if fingerprint:
            require_fingerprint(fingerprint, asked.fingerprint, f"the request of {asked.name}")
        elif not yes:
            raise BadSetting(
                f"nothing was changed: compare the fingerprint with {asked.name} by telephone ({asked.fingerprint}), "
                "then repeat with --fingerprint, or with --yes"
            )
        issuer.saved(after)
    if as_json:
        _print_json(told)
    else:
        typer.echo(f"{asked.name} is enrolled; it counts with the next `zhiyin issuer publish`")


@issuer_app.command()
def revoke(
    name: Annotated[str, typer.Argument(help="The party.")], folder: Folder = DEFAULT_FOLDER, as_json: AsJson = False
) -> None:
    """Take a party off the list. Its keys are never accepted again; it may enrol anew with others."""
    with opened_alone(folder) as issuer:
        after = registers.revoke(issuer.register, name)
        changes = _changes(issuer.register, after)
        issuer.saved(after)
    if as_json:
        _print_json({"name": name, "changes": changes})
        return
    _print_lines(changes)
    typer.echo("it counts with the next `zhiyin issuer publish`, for every party that sees that list: do it now")


@issuer_app.command()
def extend(
    name: Annotated[str, typer.Argument(help="The party.")],
    folder: Folder = DEFAULT_FOLDER,
    days: Days = 365,
    as_json: AsJson = False,
) -> None:
    """Let a party's place on the list last longer, from now."""
    now = int(time.time())
    with opened_alone(folder) as issuer:
        after = registers.extend(issuer.register, name, now=now, days=days)
        changes = _changes(issuer.register, after)
        issuer.saved(after)
    if as_json:
        _print_json({"name": name, "changes": changes})
        return
    _print_lines(changes)
    typer.echo("it counts with the next `zhiyin issuer publish`")


@issuer_app.command("list")
def list_(folder: Folder = DEFAULT_FOLDER, as_json: AsJson = False) -> None:
    """Who is enrolled, with the keys and how long they last."""
    issuer, now = IssuerFolder.open(folder), int(time.time())
    notices = registers.notices(issuer.register, now=now, seconds=WARN_SECONDS)
    if as_json:
        fields = registers.register_to_json(issuer.register)
        for member in fields["members"]:
            member["fingerprint"] = key_fingerprint(member["signing_key"])
        _print_json({"issuer_public_key": issuer.public, **fields, "warnings": notices})
        return
    typer.echo(f"issuer_public_key: {issuer.public}")
    typer.echo(f"epoch published last: {issuer.register.epoch or 'none'}")
    table = Table("name", "roles", "signing key", "its fingerprint", "until", "sealing key until", box=None)
    for member in issuer.register.members:
        sealing = "" if member.sealing is None else _day(member.sealing.not_after)
        table.add_row(
            member.name, ", ".join(member.roles), member.signing_key, key_fingerprint(member.signing_key),
            _day(member.not_after), sealing,
        )  # fmt: skip
    Console(soft_wrap=True).print(table)
    _warn(notices)


@issuer_app.command()
def publish(
    out: Annotated[Path, typer.Option(help="The signed list, for the server and for whoever asks.")],
    folder: Folder = DEFAULT_FOLDER,
    days: Annotated[int, typer.Option(min=1, max=3650, help="How long the list is valid.")] = 30,
    after: Annotated[
        int, typer.Option(min=0, help="An epoch known to have been published, if the register is an older copy.")
    ] = 0,
    as_json: AsJson = False,
) -> None:
    """Sign the list of the next epoch. Parties that have seen it refuse every earlier one."""
    now = int(time.time())
    if not out.parent.is_dir():
        raise BadSetting(f"{out.parent}: no such folder; choose another place for the list")
    with opened_alone(folder) as issuer:
        remembered, roster = registers.next_roster(issuer.register, now=now, days=days, after=after)
        # The register first: a crash in between wastes an epoch; the other order would use one for two lists.
        issuer.saved(remembered)
        write_file(out, sign_roster(roster, issuer.signing_key))
        notices = registers.notices(remembered, now=now, seconds=WARN_SECONDS)
    told = {"out": str(out), "epoch": roster.epoch, "members": len(roster.entries), "digest": roster.digest}
    if as_json:
        _print_json({**told, "expires_at": roster.expires_at, "warnings": notices})
        return
    typer.echo(f"{out}: epoch {roster.epoch}, {len(roster.entries)} parties, valid for {days} days")
    _warn(notices)


def _read_request(path: Path, now: int) -> EnrolmentRequest:
    try:
        return open_request(path.read_bytes(), now)
    except OSError as error:
        raise BadSetting(f"{path}: it cannot be read ({error.strerror})") from error
    except ProtocolError as error:
        raise type(error)(f"{path}: {error}") from error


def _changes(before: Register, after: Register) -> list[str]:
    """What a person should read before it happens, one line each."""
    old, new = ({member.name: member for member in each.members} for each in (before, after))
    lines = []
    for name in sorted(old.keys() | new.keys()):
        if name not in new:
            lines.append(
                f"- {name} ({', '.join(old[name].roles)}): removed; {len(old[name].keys)} keys never come back"
            )
        elif name not in old:
            lines.append(f"+ {name} ({', '.join(new[name].roles)}): new, until {_day(new[name].not_after)}")
            lines += [f"    {what} {value}" for what, value in _described(new[name]).items() if value]
        elif old[name] != new[name]:
            lines.append(f"~ {name} ({', '.join(new[name].roles)}): until {_day(new[name].not_after)}")
            was, becomes = _described(old[name]), _described(new[name])
            lines += [
                f"    {what} {was[what] or 'none'} becomes {becomes[what] or 'none'}"
                for what in was
                if was[what] != becomes[what]
            ]
    return lines or ["nothing changes"]


def _described(member: Enrolled) -> dict[str, str]:
    sealing = member.sealing
    return {
        "roles": ", ".join(member.roles),
        "signing key": member.signing_key,
        "sealing key": "" if sealing is None else f"{sealing.key} until {_day(sealing.not_after)}",
        "node key": member.node_public_key,
        "valid until": _day(member.not_after),
    }


def _day(seconds: int) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(min(seconds, 253_402_300_799)))


def _warn(notices: Sequence[str]) -> None:
    for notice in notices:
        typer.echo(f"warning: {notice}", err=True)


def _print_lines(lines: Sequence[str]) -> None:
    for line in lines:
        typer.echo(line)


def _print_json(value: Any) -> None:
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False))
