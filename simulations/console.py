"""The one command, `zhiyin`: its groups live in each folder and are imported when they are asked for."""

import difflib
import importlib
import importlib.metadata
import os
import sys
import tomllib
from pathlib import Path

import click
import typer

from shared.errors import ZhiyinError

GROUPS = {
    "demo": (
        "simulations.demo.command",
        "demo_app",
        "Run the whole product on this machine and print what it is worth.",
    ),
    "client": ("client.cli", "client_app", "The partner's side: import, preview, run, status, recommend, keys."),
    "issuer": ("client.issuing.cli", "issuer_app", "The list of parties: enrol, revoke, extend, publish."),
    "server": ("server.cli", "server_app", "The aggregation side: publisher's key, catalogue, plans, releases."),
    "platform": ("platform_api.cli", "platform_app", "The marketplace: serve, migrate, seed, doctor, backup, models."),
    "sim": ("simulations.cli", "sim_app", "Experiments on data sets, with baselines and controls."),
}


class _Groups(click.Group):
    """Imports a group when it is named, so that `zhiyin client` on a device never loads what a laboratory needs."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(GROUPS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in GROUPS:
            return None
        if cmd_name == "demo":
            # Several processes share the cores, and every one of them would otherwise spin on all.
            os.environ.setdefault("OMP_NUM_THREADS", "1")
        module, attribute, _ = GROUPS[cmd_name]
        return typer.main.get_command(getattr(importlib.import_module(module), attribute))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args[0] not in GROUPS and not args[0].startswith("-"):
            close = difflib.get_close_matches(args[0], GROUPS, n=1)
            ctx.fail(f"No such command {args[0]!r}." + "".join(f" Did you mean {name!r}?" for name in close))
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, _, text) in GROUPS.items()])


def version() -> str:
    """Of the installed package; of the source tree where none is installed."""
    try:
        return importlib.metadata.version("zhiyin")
    except importlib.metadata.PackageNotFoundError:
        project = Path(__file__).resolve().parent.parent / "pyproject.toml"
        return str(tomllib.loads(project.read_text(encoding="utf-8"))["project"]["version"])


def _print_version(ctx: click.Context, parameter: click.Parameter, asked: bool) -> None:
    if asked and not ctx.resilient_parsing:
        click.echo(f"zhiyin {version()}")
        ctx.exit()


def main() -> None:
    """Entry point: one line for an expected error, and its exit code."""
    for switch in ("FLWR_TELEMETRY_ENABLED",):
        os.environ.setdefault(switch, "0")
    os.environ.setdefault("FLWR_DISABLE_UPDATE_CHECK", "1")
    group = _Groups(
        name="zhiyin",
        help="知音: recommendations learned where the histories are.",
        no_args_is_help=True,
        params=[
            click.Option(
                ["--version"],
                is_flag=True,
                is_eager=True,
                expose_value=False,
                callback=_print_version,
                help="Print the version and leave.",
            )
        ],
    )
    try:
        group(prog_name="zhiyin")
    except ZhiyinError as error:
        print(f"zhiyin: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except OSError as error:
        print(f"zhiyin: {error.filename or 'a file'}: {error.strerror or error}", file=sys.stderr)
        sys.exit(2)
    except ModuleNotFoundError as error:
        print(
            f"zhiyin: this command needs the package {error.name!r}; install the extra it belongs to: "
            "pip install 'zhiyin[tenant]', 'zhiyin[platform]' or 'zhiyin[simulation]'",
            file=sys.stderr,
        )
        sys.exit(2)
