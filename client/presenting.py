"""What the commands print for people. Words and tables; everything here is also in the JSON."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

if TYPE_CHECKING:
    from client.inspection import Finding
    from client.preview import Preview
    from client.recommend import Suggestion


def print_suggestions(lines: Sequence["Suggestion"]) -> None:
    table = _table("#", "title", "score", "why")
    for place, line in enumerate(lines, start=1):
        table.add_row(str(place), escape(line.title), f"{line.score:.3f}", escape(line.reason))
    Console().print(table)


def print_findings(findings: Sequence["Finding"]) -> None:
    console = Console(soft_wrap=True)
    for finding in findings:
        style = {"ok": "green", "warning": "yellow", "error": "red"}[finding.severity]
        message = f": {escape(finding.message)}" if finding.message else ""
        console.print(f"[{style}]{finding.severity:<8}[/]{finding.check}{message}", highlight=False)


def print_status(seen: dict[str, Any]) -> None:
    console = Console(soft_wrap=True, highlight=False)
    store, catalogue, privacy, model = seen["store"], seen["catalogue"], seen["privacy"], seen["model"]
    console.print(f"{seen['name']} in {escape(seen['home'])}")
    console.print(f"store      {store['events']} events of {store['users']} users on {store['items']} items")
    console.print(f"catalogue  version {catalogue['version']}, {catalogue['items']} items, {catalogue['digest'][:12]}…")
    console.print(
        f"privacy    epsilon {_number(privacy['epsilon_spent'])} spent of {_number(privacy['epsilon_budget'])} "
        f"at delta {privacy['delta']:g}, {_number(privacy['epsilon_left'])} left; {privacy['releases']} releases"
    )
    console.print(f"           for one {privacy['unit']}; neighbours: {privacy['adjacency']}")
    if seen["roster"] is None:
        console.print("roster     none accepted yet")
    else:
        console.print(f"roster     epoch {seen['roster']['epoch']}, digest {seen['roster']['digest'][:12]}…")
    if seen["model_refused"]:
        console.print(f"model      installed, but not usable: {escape(seen['model_refused'])}")
    elif model is None:
        console.print("model      none installed")
    else:
        console.print(f"model      {model['name']} version {model['version']} ({model['recipe']})")
    for warning in seen["warnings"]:
        console.print(f"[yellow]warning[/]    {escape(warning)}")


def print_preview(seen: "Preview", never_leaves: Sequence[str]) -> None:
    console = Console(soft_wrap=True, highlight=False)
    console.print(f"plan {seen.plan.job_id} ({seen.plan.recipe_name}, noise by {seen.plan.noise})")
    if seen.plan.cohorts > 1:
        trimmed = f", the {seen.plan.trim} lowest and highest cut off" if seen.plan.trim else ""
        console.print(
            f"summed in {seen.plan.cohorts} cohorts{trimmed}, of at least {seen.plan.min_tenants} tenants and "
            f"{seen.plan.min_users} users each; noise of the total {seen.noise_cost:.2f} times that of one sum"
        )
    for message in seen.messages:
        noise = "none" if message.noise_std is None else f"standard deviation {message.noise_std:.4g}"
        most = f"one {message.type}" if message.at_most == 1 else f"at most {message.at_most} of: {message.type}"
        console.print(
            f"\nstep {message.step} {message.kind}: {most}, {message.size_bytes:,} bytes; "
            f"{message.num_coordinates:,} coordinates, clip {message.clip:g} for each user, noise {noise}"
        )
        table = _table("field", "bytes", "what it is")
        for sent in message.fields:
            table.add_row(sent.name, f"{sent.size_bytes:,}", sent.meaning)
        console.print(table)
    for title, lines in (("also visible to the server", seen.also_visible), ("never leaves", never_leaves)):
        console.print(f"\n{title}:")
        for line in lines:
            console.print(f"  - {line}")
    before, after = _number(seen.epsilon_before), _number(seen.epsilon_after)
    console.print(f"\nprivacy: epsilon {before} so far, {after} after this job, at delta {seen.plan.delta:g}")
    for check in seen.checks:
        if not check.holds:
            console.print(
                f"[red]refused[/] {check.field}: asked {escape(str(check.asked))}, allowed {escape(check.allowed)}"
            )
    for reason in filter(None, (seen.refusal, seen.local_refusal)):
        console.print(f"[red]refused[/] {escape(reason)}")
    console.print("nothing was sent, nothing was charged" + ("" if seen.accepted else "; this plan would be refused"))


def _number(value: float | None) -> str:
    return "infinite" if value is None else f"{value:.4g}"


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    return table
