"""The one command, `zhiyin`: its groups live in each folder and are imported when they are asked for."""

import importlib
import os
import sys

import click
import typer

from shared.errors import ZhiyinError

GROUPS = {
    "demo": (
        "simulations.demo.command",
        "demo_app",
        "Run the whole product on this machine and print what it is worth.",
    ),
    "client": ("client.cli", "client_app", "The partner's side: import, preview, run, status, recommend."),
    "server": ("server.cli", "server_app", "The aggregation side: keys, roster, catalogue, plans, releases."),
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

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, _, text) in GROUPS.items()])


def main() -> None:
    """Entry point: one line for an expected error, and its exit code."""
    for switch in ("FLWR_TELEMETRY_ENABLED",):
        os.environ.setdefault(switch, "0")
    os.environ.setdefault("FLWR_DISABLE_UPDATE_CHECK", "1")
    group = _Groups(name="zhiyin", help="知音: recommendations learned where the histories are.", no_args_is_help=True)
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
            "pip install 'zhiyin[tenant]' or 'zhiyin[simulation]'",
            file=sys.stderr,
        )
        sys.exit(2)
