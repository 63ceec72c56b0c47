"""What a person sees of the demonstration: a line for each thing done, a bar a job, the table, and an HTML page."""

import html
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from string import Template
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from client.durable_files import write_file
from shared.catalogue import CatalogueSnapshot
from shared.plan import TrainingPlan, steps
from simulations.demo.journey import Journey, Line
from simulations.demo.scoreboard import Scoreboard
from simulations.demo.shop import GOOD_CARD, Shop
from simulations.demo.stocking import LogIn
from simulations.demo.training import OnEvent


class Narrator:
    """Call it with a sentence for what begins now; `job` shows a bar that moves with the server's events."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._started = time.monotonic()
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=console,
            transient=True,
            redirect_stdout=False,
        )

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def __call__(self, sentence: str) -> None:
        self._console.print(f"[dim]{time.monotonic() - self._started:5.0f} s[/dim]  {sentence}")

    @contextmanager
    def job(self, plan: TrainingPlan) -> Iterator[OnEvent]:
        """A bar of the plan's steps, two parts a step: contributions, and what opens their sum."""
        total = 2 * len(steps(plan))
        bar = self._progress.add_task(f"job {plan.job_id}", total=total)

        def on_event(event: Mapping[str, Any]) -> None:
            match event["event"]:
                case "helpers_asked" | "peers_asked":
                    self._progress.update(bar, completed=2 * event["step"] + 1)
                case "step_released":
                    self._progress.update(bar, completed=2 * event["step"] + 2)
                    self(
                        f"job {plan.job_id}: {event['kind']} released, {event['tenants']} institutions, "
                        f"{event['users']:,} declared users, epsilon so far {event['epsilon_so_far']:.3f}"
                    )
                case "published":
                    self(f"job {plan.job_id}: published {event['model']} version {event['version']}, signed")
                case "party_left":
                    self(f"[yellow]job {plan.job_id}: {event['party']} left: {event['reason']}[/yellow]")
                case "attempt_abandoned":
                    self(f"[yellow]job {plan.job_id}: step {event['step']} is tried again: {event['reason']}[/yellow]")
                case _:
                    pass

        try:
            yield on_event
        finally:
            self._progress.remove_task(bar)


def print_scoreboard(console: Console, scoreboard: Scoreboard) -> None:
    """The table of every row, with a legend of whom claims hold against, then each institution's gain."""
    table = Table(title="Leave-last-out, full ranking over unseen items", title_justify="left")
    table.add_column("model", no_wrap=True)
    for column in ("HR@10", "NDCG@10", "eps"):
        table.add_column(column, justify="right", no_wrap=True)
    legend: dict[str, str] = {}
    for row in scoreboard.rows:
        values = row.to_json()
        mark = "" if row.epsilon is None else legend.setdefault(row.against, "abcdef"[len(legend)])
        claim = "–" if row.epsilon is None else f"{row.epsilon:g} {mark}"
        style = "bold" if row.name.startswith("federated") else ""
        table.add_row(row.name, _pm(values["hr_at_10"]), _pm(values["ndcg_at_10"]), claim, style=style)
    console.print(table)
    deltas = {row.delta for row in scoreboard.rows if row.delta is not None}
    for against, mark in legend.items():
        console.print(f"[dim]{mark}: delta {min(deltas):g}, holds against {against}[/dim]")
    gains = Table(title="What each institution gains: NDCG@10 of its own learners, same epsilon", title_justify="left")
    for column in ("institution", "learners", "alone", "federated", "ratio"):
        gains.add_column(column, justify="left" if column == "institution" else "right", no_wrap=True)
    for entry in scoreboard.tenants:
        alone, together = (row.to_json()["ndcg_at_10"] for row in (entry.alone, entry.federated))
        ratio = f"{together['mean'] / max(alone['mean'], 1e-9):.2f} x"
        gains.add_row(entry.tenant, f"{entry.num_users:,}", _pm(alone), _pm(together), ratio)
    console.print(gains)


def print_journey(console: Console, journey: Journey, catalogue: CatalogueSnapshot) -> None:
    """A learner's lists side by side: from the platform before and after, and from the client on their machine."""
    titles = "; ".join(catalogue.items[catalogue.position(item)].title for item in journey.bought)
    console.print(f"\n[bold]A new learner[/bold] bought: {escape(titles)}")
    table = Table(title="Recommended to them", title_justify="left")
    for column in ("#", "before, by the platform", "after, by the platform", "after, by their own client"):
        table.add_column(column)
    lists = (journey.before, journey.after, journey.device_after)
    for place in range(max(map(len, lists))):
        cells = (_cell(entries[place]) if place < len(entries) else "" for entries in lists)
        table.add_row(str(place + 1), *cells)
    console.print(table)
    console.print("The local client's lists, before and after, and the platform's: the same, item for item.")


def print_log_ins(console: Console, shop: Shop, learner: LogIn) -> None:
    """Where the platform is, and who may come in."""
    console.print(f"\nThe platform runs at [bold]{shop.url}[/bold] until Ctrl-C: {shop.url}/docs, {shop.url}/privacy")
    console.print(f"The payment provider runs at {shop.provider_url}; its good card is {GOOD_CARD}.")
    table = Table("who", "e-mail", "password", title="Log-ins", title_justify="left")
    for log_in in (*shop.stocked.log_ins, learner):
        table.add_row(log_in.who, log_in.email, log_in.password)
    console.print(table)


def _cell(line: Line) -> str:
    return escape(line.title) + (f"\n[dim]{escape(line.sentence)}[/dim]" if line.sentence else "")


_PAGE = Template("""<!doctype html>
<html lang="en"><meta charset="utf-8"><title>知音 Zhiyin</title>
<style>
body { font: 15px/1.5 system-ui, "Noto Sans CJK SC", sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem }
table { border-collapse: collapse; width: 100% }
td, th { padding: .35rem .6rem; border-bottom: 1px solid #ddd; text-align: left }
.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap }
.c { width: 16rem }
.bar { background: #9db8ab; height: .9rem }
.f { font-weight: 600 }
.f .bar { background: #2f6f57 }
</style>
<h1>知音 Zhiyin: what federating is worth</h1>
<p>$protocol. Unit of privacy: $unit; adjacency: $adjacency. $place, seed $seed, $seconds s.</p>
<table>
<tr><th>model</th><th class="c">NDCG@10</th><th></th><th>HR@10</th><th>epsilon</th><th>delta</th><th>against</th></tr>
$rows</table></html>
""")


def write_html(report: Mapping[str, Any], path: Path) -> None:
    """One self-contained page: bars for NDCG@10 with their deviation, and the whole table."""
    rows: Sequence[Mapping[str, Any]] = report["rows"]
    top = max(row["ndcg_at_10"]["mean"] for row in rows)
    words = {name: html.escape(str(report[name])) for name in ("protocol", "unit", "adjacency", "seed")}
    page = _PAGE.substitute(
        words,
        place="Deployed as real processes" if report["deployed"] else "In one process",
        seconds=f"{report['seconds']:.0f}",
        rows="".join(_html_row(row, top) for row in rows),
    )
    write_file(path, page.encode())


def _html_row(row: Mapping[str, Any], top: float) -> str:
    width = 100 * row["ndcg_at_10"]["mean"] / top
    claim = ("–", "–") if row["epsilon"] is None else (f"{row['epsilon']:g}", f"{row['delta']:g}")
    return (
        f'<tr class="{"f" if row["name"].startswith("federated") else ""}"><td>{html.escape(row["name"])}</td>'
        f'<td class="c"><div class="bar" style="width:{width:.1f}%"></div></td>'
        f'<td class="n">{_pm(row["ndcg_at_10"])}</td><td class="n">{_pm(row["hr_at_10"])}</td>'
        f'<td class="n">{claim[0]}</td><td class="n">{claim[1]}</td><td>{html.escape(row["against"])}</td></tr>\n'
    )


def _pm(value: Mapping[str, float]) -> str:
    return f"{value['mean']:.4f} ± {value['sd']:.4f}" if value["sd"] else f"{value['mean']:.4f}"
