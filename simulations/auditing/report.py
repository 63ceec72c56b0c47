"""What an audit found: as a JSON object, as a table, and as one HTML file with a plot."""

import base64
import html
import io
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import isfinite
from typing import Any

from rich.table import Table

from simulations.auditing.findings import CONFIDENCE, Attack, Finding, all_good

FORMAT = "zhiyin-audit-1"
_TITLES: dict[Attack, str] = {
    "masks": "Touched items in one masked vector",
    "transcript": "Two worlds in the server's whole transcript",
    "membership": "Membership in the published model",
    "canary": "Canaries in the released sums",
}
_STYLES = {
    "within the statement": "green",
    "caught": "dim",
    "residual leak": "bold yellow",
    "exceeds the statement": "bold red",
    "not caught": "bold red",
}
_COLOURS = {
    "within the statement": "#2b7a3d",
    "caught": "#8a8a8a",
    "residual leak": "#c98a1b",
    "exceeds the statement": "#b3261e",
    "not caught": "#b3261e",
}


@dataclass(frozen=True, kw_only=True)
class AuditReport:
    """Everything that a reader needs to judge an audit, and to repeat it. data: what the model was attacked on."""

    findings: tuple[Finding, ...]
    seed: int
    quick: bool
    data: str
    timings_seconds: dict[str, float]
    peak_memory_mb: float

    @property
    def passed(self) -> bool:
        """No attack refuted the statement and every control was caught."""
        return all_good(self.findings)

    def to_json(self) -> str:
        """Indented strict JSON; a bound that is not there or not finite is null."""
        value = {
            "format": FORMAT,
            "passed": self.passed,
            "confidence": CONFIDENCE,
            "seed": self.seed,
            "quick": self.quick,
            "data": self.data,
            "findings": [{**asdict(finding), "verdict": finding.verdict} for finding in self.findings],
            "timings_seconds": self.timings_seconds,
            "peak_memory_mb": self.peak_memory_mb,
        }
        return json.dumps(_strict(value), indent=1, ensure_ascii=False, allow_nan=False)


def tables(report: AuditReport) -> list[Table]:
    """One table an attack, for a terminal."""
    drawn = []
    for attack, rows in _by_attack(report.findings):
        table = Table(title=_TITLES[attack], title_justify="left", expand=False)
        for name in ("attack or control", "statistic", "estimate", "interval", "allowed", "trials", "verdict"):
            table.add_column(name, justify="right" if name in ("estimate", "allowed", "trials") else "left")
        for row in rows:
            table.add_row(*_cells(row), style=_STYLES[row.verdict] if row.verdict != "within the statement" else None)
        drawn.append(table)
    return drawn


def footer(report: AuditReport) -> list[str]:
    """What has to be said beside the figures."""
    bad = [f"{finding.name}: {finding.verdict}" for finding in report.findings if finding.is_bad]
    leaks = [finding for finding in report.findings if finding.verdict == "residual leak"]
    lines = [
        f"Intervals at confidence {CONFIDENCE:g} each; an attack is judged by its lower bound, and a low one proves no "
        "safety. Controls are broken on purpose and must be caught."
    ]
    lines += [f"Residual leak, not promised away: {leak.name}: {_what(leak)}" for leak in leaks]
    lines.append(f"FAILED. {'; '.join(bad)}" if bad else "Passed: nothing exceeds its statement, every control caught.")
    total = sum(report.timings_seconds.values())
    size = "quick" if report.quick else "full"
    lines.append(f"Seed {report.seed}, {size}, {report.data}. {total:.0f} s, peak {report.peak_memory_mb:.0f} MB.")
    return lines


def html_report(report: AuditReport) -> str:
    """One self-contained HTML page."""
    parts = []
    for attack, rows in _by_attack(report.findings):
        body = "".join(_html_row(row) for row in rows)
        parts.append(
            f"<h2>{_TITLES[attack]}</h2><img alt='Estimates with their intervals' "
            f"src='data:image/png;base64,{_plot(rows)}'><table><tr><th>Attack or control</th><th>World</th>"
            "<th>Statistic</th><th>Estimate</th><th>Interval</th><th>Allowed</th><th>Trials</th><th>Seed</th>"
            f"<th>Verdict</th><th>Note</th></tr>{body}</table>"
        )
    notes = "".join(f"<p>{html.escape(line)}</p>" for line in footer(report))
    return (
        "<!doctype html><html lang='en'><meta charset='utf-8'><title>Zhiyin: attacks measured</title><style>"
        "body{font:15px/1.5 system-ui,sans-serif;max-width:80rem;margin:2rem auto;padding:0 1rem;color:#1a1a1a}"
        "table{border-collapse:collapse;width:100%;font-size:.85rem}td,th{padding:.3rem .5rem;text-align:left;"
        "border-bottom:1px solid #ddd;vertical-align:top}img{max-width:100%}"
        "pre{background:#f6f6f6;padding:1rem;overflow:auto}</style>"
        f"<h1>Attacks measured</h1>{notes}{''.join(parts)}"
        f"<h2>Everything</h2><pre>{html.escape(report.to_json())}</pre></html>\n"
    )


def _html_row(row: Finding) -> str:
    name, statistic, estimate, interval, allowed, trials, verdict = (html.escape(cell) for cell in _cells(row))
    return (
        f"<tr><td>{name}</td><td>{html.escape(row.world)}</td><td>{statistic}</td><td>{estimate}</td>"
        f"<td>{interval}</td><td>{allowed}</td><td>{trials}</td><td>{row.seed}</td>"
        f"<td style='color:{_COLOURS[row.verdict]}'>{verdict}</td><td>{html.escape(row.note)}</td></tr>"
    )


def _plot(rows: Sequence[Finding]) -> str:
    from matplotlib.figure import Figure

    shown = rows[::-1]
    # One panel a statistic: an area under a curve and microseconds have no common axis.
    names = list(dict.fromkeys(_panel(row) for row in rows))
    figure = Figure(figsize=(11, 0.3 * len(rows) + 0.9 * len(names)), layout="constrained")
    counts = [sum(_panel(row) == name for row in rows) for name in names]
    axes = figure.subplots(len(names), squeeze=False, height_ratios=[count + 1 for count in counts])[:, 0]
    for name, panel in zip(names, axes, strict=True):
        here = [row for row in shown if _panel(row) == name]
        for place, row in enumerate(here):
            high = row.estimate if row.high is None else row.high
            panel.plot([row.low, max(high, row.low)], [place, place], color=_COLOURS[row.verdict], linewidth=2)
            panel.plot([row.estimate], [place], "o", color=_COLOURS[row.verdict])
            panel.plot([row.allowed], [place], "|", color="#1a1a1a", markersize=12)
        panel.set_yticks(range(len(here)), [row.name for row in here], fontsize=8)
        panel.set_xlabel(f"{name} (tick: allowed)")
        if name.startswith("epsilon"):
            panel.set_xscale("symlog", linthresh=1.0)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=100)
    return base64.b64encode(buffer.getvalue()).decode()


def _panel(row: Finding) -> str:
    return row.statistic.split(",")[0]


def _by_attack(findings: Sequence[Finding]) -> list[tuple[Attack, list[Finding]]]:
    order = dict.fromkeys(finding.attack for finding in findings)
    return [(attack, [finding for finding in findings if finding.attack == attack]) for attack in order]


def _cells(row: Finding) -> tuple[str, ...]:
    high = "∞" if row.high is None else _number(row.high)
    return (
        row.name,
        row.statistic,
        _number(row.estimate),
        f"{_number(row.low)} to {high}",
        _number(row.allowed),
        f"{row.trials:,}",
        row.verdict,
    )


def _what(leak: Finding) -> str:
    note = f"; {leak.note}" if leak.note else ""
    high = "" if leak.high is None else f" to {_number(leak.high)}"
    return f"{_number(leak.estimate)} {leak.statistic} ({_number(leak.low)}{high}){note}"


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1_000 else f"{value:.3f}"


def _strict(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _strict(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_strict(entry) for entry in value]
    return None if isinstance(value, float) and not isfinite(value) else value
