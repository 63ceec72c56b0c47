"""`zhiyin server describe` and `publish-candidate`: what the aggregation side tells a platform."""

import json
import os
import time
from pathlib import Path
from typing import Annotated, Any

import typer
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from server.durable_files import write_file
from server.platform_http import PlatformServer
from server.publishing import read_latest, read_version
from server.releases import ReleaseLedger
from server.settings import load_signing_key
from shared.artifact import Artifact, ArtifactFiles, open_artifact
from shared.errors import ArtifactRejected, BadSetting
from shared.roster import open_roster

SECRET_VARIABLE = "ZHIYIN_CLIENT_SECRET"  # noqa: S105
Platform = Annotated[str, typer.Option(envvar="ZHIYIN_PLATFORM_URL", help="The platform's address.")]
Model = Annotated[str, typer.Argument(help="The model's name.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def add_commands(app: typer.Typer) -> None:
    """Put this module's commands into `zhiyin server`."""
    app.command("describe")(describe)
    app.command("publish-candidate")(publish_candidate)


def describe(
    roster: Annotated[Path, typer.Option(help="The list of parties that the issuer signed.")],
    issuer_key: Annotated[str, typer.Option(help="The issuer's public key.")],
    publisher_key: Annotated[Path, typer.Option(help="The private key that signs models; its public half goes in.")],
    app_digest: Annotated[str, typer.Option(help="As `zhiyin client bundle` prints it.")],
    superlink: Annotated[str, typer.Option(help="host:port of the SuperLink.")],
    certificate: Annotated[Path, typer.Option(help="PEM of the authority that its certificate comes from.")],
    out: Annotated[Path, typer.Option(help="For the platform's setting federation_file; nothing in it is secret.")],
) -> None:
    """Describe the federation for the platform's invitations; helpers are taken from the signed list."""
    key = load_signing_key(publisher_key).public_key().public_bytes_raw().hex()
    described = description(
        _read(roster), issuer_key, key, app_digest, superlink, _read(certificate).decode("ascii", "replace")
    )
    write_file(out, json.dumps(described, indent=2).encode() + b"\n")
    typer.echo(f"{out}: {len(described['helpers'])} helpers, SuperLink {superlink}")


def description(
    roster: bytes, issuer_key: str, publisher_key: str, app_digest: str, superlink: str, certificate: str
) -> dict[str, Any]:
    """What the platform says of the federation. Raises as `shared.roster.open_roster` for another issuer's list."""
    helpers = [
        {"name": member.name, "signing": member.signing_key, "sealing": vars(member.sealing)}
        for member in open_roster(roster, issuer_key, int(time.time())).entries
        if "helper" in member.roles and member.sealing is not None
    ]
    return {
        "issuer_key": issuer_key,
        "publisher_key": publisher_key,
        "app_digest": app_digest,
        "superlink": superlink,
        "certificate": certificate,
        "helpers": helpers,
    }


def publish_candidate(
    model: Model,
    registry: Annotated[Path, typer.Option(help="The folder where models are published.")],
    signing_key: Annotated[Path, typer.Option(help="The publisher's key, under which the files are verified first.")],
    state: Annotated[Path, typer.Option(help="The job's state folder, with its ledger of releases.")],
    evaluation: Annotated[Path, typer.Option(help="What `zhiyin sim evaluate` signed.")],
    platform: Platform,
    client_id: Annotated[str, typer.Option(help=f"Of the program; its secret is in {SECRET_VARIABLE}.")],
    version: Annotated[int | None, typer.Option(min=1, help="The latest unless given.")] = None,
    as_json: AsJson = False,
) -> None:
    """Hand a published model, its evaluation and its privacy statement to the platform's gate. Safe to repeat.

    The statement must be the one of the job's own ledger. Exit code 5 where the gate refuses it.
    """
    files = read_latest(registry, model) if version is None else read_version(registry / model / str(version))
    artifact = checked(files, load_signing_key(signing_key), state)
    server = PlatformServer(platform)
    server.log_in_program(client_id, _secret())
    entry = server.publish_candidate(model, files, _read(evaluation))
    if as_json:
        typer.echo(json.dumps(entry))
    else:
        typer.echo(f"{model} version {artifact.version} is {entry['state']} on {platform}")
    if entry["state"] == "refused":
        reasons = "; ".join(f"{reason['code']}: {reason['detail']}" for reason in entry["reasons"])
        raise ArtifactRejected(f"the gate refused {model} version {artifact.version}: {reasons}")


def checked(files: ArtifactFiles, signing_key: Ed25519PrivateKey, state: Path) -> Artifact:
    """The artifact, if this publisher signed it and its statement is that of the job's ledger.

    The ledger's chain is verified; it must say that this version was published, by its plan, at this epsilon. Raises
    ArtifactRejected, MalformedFile, BadSetting.
    """
    artifact = open_artifact(files, publisher_public_key=signing_key.public_key().public_bytes_raw())
    ours = [record for record in ReleaseLedger.read(state) if record["plan_digest"] == artifact.plan_digest]
    published = {(record["model"], record["version"]) for record in ours if record["kind"] == "published"}
    if (artifact.name, artifact.version) not in published:
        raise ArtifactRejected(
            f"{state}: the ledger does not say that {artifact.name} {artifact.version} was published"
        )
    attempts = sum(record["kind"] == "attempt" for record in ours)
    spent = max((record.get("epsilon_so_far") or 0.0 for record in ours), default=0.0)
    if artifact.privacy.epsilon < spent or len(artifact.privacy.mechanisms) < attempts:
        raise ArtifactRejected(
            f"{state}: the ledger says {attempts} attempts and epsilon {spent:.6g}, the statement "
            f"{len(artifact.privacy.mechanisms)} mechanisms and {artifact.privacy.epsilon:.6g}"
        )
    return artifact


def _secret() -> str:
    # Of the environment, not an option: what stands in a command line is seen by everybody on the machine.
    found = os.environ.get(SECRET_VARIABLE, "")
    if not found:
        raise BadSetting(f"set {SECRET_VARIABLE}; a secret does not go into a command line")
    return found


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise BadSetting(f"{path}: it cannot be read ({error.strerror})") from error
