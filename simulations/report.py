"""What a run found: as a JSON object, as a table, and as one HTML file with plots."""

import base64
import html
import io
import json
import resource
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from rich.table import Table

from shared.accounting import PrivacyStatement

FORMAT = "zhiyin-simulation-1"


@dataclass(frozen=True, kw_only=True)
class Spread:
    """Mean and standard deviation over runs; 0 for a single run."""

    mean: float
    sd: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        return cls(mean=float(np.mean(values)), sd=float(np.std(values, ddof=1)) if len(values) > 1 else 0.0)


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line. kind: private, baseline, control or tenants. epsilon, delta: None where nothing is protected.

    selected: the read-out that validation preferred. runs: over how many seeds the spread is.
    """

    name: str
    kind: str
    recipe: str | None
    readout: str | None
    epsilon: float | None
    delta: float | None
    hr_at_10: Spread
    ndcg_at_10: Spread
    runs: int
    selected: bool
    settings: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Report:
    """Everything that a reader needs to judge a run, and to repeat it."""

    dataset: dict[str, Any]
    protocol: str
    settings: dict[str, Any]
    rows: tuple[Row, ...]
    chance: dict[str, float]
    privacy: PrivacyStatement | None
    hyper_parameters: list[dict[str, Any]]
    tenants: list[dict[str, Any]]
    seeds: list[int]
    timings_seconds: dict[str, float]
    peak_memory_mb: float

    def to_json(self) -> str:
        """Indented JSON; infinite settings (epsilon of a run without noise) become null."""
        fields = {name: getattr(self, name) for name in self.__dataclass_fields__}
        value = {
            "format": FORMAT,
            **fields,
            "rows": [asdict(row) for row in self.rows],
            "privacy": self.privacy.to_json() if self.privacy else None,
        }
        return json.dumps(_finite(value), indent=1, ensure_ascii=False, allow_nan=False)

    @property
    def best(self) -> Row:
        """The private row that validation preferred."""
        return next(row for row in self.rows if row.selected)


def table(report: Report) -> Table:
    """The rows for a terminal."""
    title = f"{report.dataset['name']}: {report.dataset['num_users']:,} users, {report.dataset['num_items']:,} items"
    drawn = Table(title=title)
    for name in ("", "epsilon", "HR@10", "NDCG@10", "runs"):
        drawn.add_column(name, justify="left" if not name else "right")
    for row in report.rows:
        style = "bold green" if row.selected else "dim" if row.kind == "control" else None
        epsilon = "not private" if row.epsilon is None else f"{row.epsilon:g}"
        drawn.add_row(row.name, epsilon, _cell(row.hr_at_10), _cell(row.ndcg_at_10), str(row.runs), style=style)
    drawn.add_row(
        "chance", "", f"{report.chance['hr_at_10']:.4f}", f"{report.chance['ndcg_at_10']:.4f}", "", style="dim"
    )
    return drawn


def footer(report: Report) -> list[str]:
    """What has to be said beside the figures."""
    lines = []
    if report.privacy is not None:
        statement = report.privacy
        lines.append(
            f"({statement.epsilon:g}, {statement.delta:g})-DP per {statement.unit}; {statement.adjacency}; "
            f"holds against {statement.against}."
        )
        lines.append("Settings were tuned on validation data of the same users; that look is not charged.")
    total = sum(report.timings_seconds.values())
    lines.append(f"{report.protocol}. {total:.0f} s, peak memory {report.peak_memory_mb:.0f} MB.")
    return lines


def html_report(report: Report) -> str:
    """One self-contained HTML page: the table, a plot of NDCG@10, settings and the privacy statement."""
    rows = "".join(
        f"<tr class='{html.escape(row.kind)}{' selected' if row.selected else ''}'><td>{html.escape(row.name)}</td>"
        f"<td>{'not private' if row.epsilon is None else f'{row.epsilon:g}'}</td>"
        f"<td>{_cell(row.hr_at_10)}</td><td>{_cell(row.ndcg_at_10)}</td><td>{row.runs}</td></tr>"
        for row in report.rows
    )
    notes = "".join(f"<p>{html.escape(line)}</p>" for line in footer(report))
    name = html.escape(str(report.dataset["name"]))
    return (
        f"<!doctype html><html lang='en'><meta charset='utf-8'><title>Zhiyin: {name}</title><style>"
        "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1a1a1a}"
        "table{border-collapse:collapse;width:100%}td,th{padding:.35rem .6rem;border-bottom:1px solid #ddd;"
        "text-align:right}td:first-child,th:first-child{text-align:left}.control{color:#666}"
        ".selected{font-weight:700;background:#eaf6ec}"
        "pre{background:#f6f6f6;padding:1rem;overflow:auto}img{max-width:100%}</style>"
        f"<h1>{name}</h1>{notes}<img alt='NDCG@10 of every row' src='data:image/png;base64,{_plot(report)}'>"
        "<table><tr><th>Model</th><th>epsilon</th><th>HR@10</th><th>NDCG@10</th><th>runs</th></tr>"
        f"{rows}</table><h2>Everything</h2><pre>{html.escape(report.to_json())}</pre></html>\n"
    )


def peak_memory_mb() -> float:
    """Largest resident set of this process so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (1024 * 1024 if sys.platform == "darwin" else 1024), 1)


def _plot(report: Report) -> str:
    from matplotlib.figure import Figure

    rows = report.rows[::-1]
    figure = Figure(figsize=(9, 0.4 * len(rows) + 1.2), layout="constrained")
    axes = figure.subplots()
    colours = {"private": "#2b7a3d", "baseline": "#8a8a8a", "control": "#c9c9c9", "tenants": "#3b6ea5"}
    axes.barh(
        [row.name for row in rows],
        [row.ndcg_at_10.mean for row in rows],
        xerr=[row.ndcg_at_10.sd for row in rows],
        color=[colours[row.kind] for row in rows],
    )
    axes.axvline(report.chance["ndcg_at_10"], color="#aa3333", linewidth=1, linestyle="--")
    axes.set_xlabel("NDCG@10 (dashed: chance)")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return base64.b64encode(buffer.getvalue()).decode()


def _cell(spread: Spread) -> str:
    return f"{spread.mean:.4f} ± {spread.sd:.4f}" if spread.sd else f"{spread.mean:.4f}"


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(entry) for entry in value]
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value
