"""What malicious tenants did, as a JSON object and as a table."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.table import Table

from simulations.poisoning import PoisonRow, Spreads

FORMAT = "zhiyin-poison-1"
_COLUMNS = (
    "summed in", "attack", "bad", "users", "NDCG@10", "exposure", "noise", "dropped", "models",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class PoisonReport:
    """rows: by rule, attack and number of malicious tenants. settings: what it was run with."""

    rows: tuple[PoisonRow, ...]
    spreads: tuple[Spreads, ...]
    settings: dict[str, Any]
    data: str
    seconds: float
    peak_memory_mb: float

    def to_json(self) -> str:
        """Indented strict JSON; what no model was there to measure is null."""
        value = {
            "format": FORMAT,
            "data": self.data,
            "settings": self.settings,
            "rows": [asdict(row) for row in self.rows],
            "honest_spreads": [asdict(spread) for spread in self.spreads],
            "seconds": self.seconds,
            "peak_memory_mb": self.peak_memory_mb,
        }
        return json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False, default=str)


def poison_table(report: PoisonReport) -> Table:
    """One line for each rule, attack and number of malicious tenants, for a terminal."""
    table = Table(title="Malicious tenants", title_justify="left", expand=False)
    for number, name in enumerate(_COLUMNS):
        table.add_column(name, justify="left" if number < 2 else "right", no_wrap=True)
    before = ""
    for row in report.rows:
        if before and row.rule != before:
            table.add_section()
        before = row.rule
        table.add_row(*_cells(row), style="dim" if row.attack == "none" else None)
    return table


def poison_footer(report: PoisonReport) -> list[str]:
    """What has to be said beside the figures."""
    lines = [
        "bad, users: malicious tenants, and their share of all declared users. exposure: share of the users who have "
        "not used the pushed item and get it among their first ten.",
        "noise: of the pairs' total, to that in one sum of the same tenants. dropped: cohorts a step. models: jobs of "
        "all that gave one; the others ended without, and their model stayed as it was.",
        "push, flip: within the clip of the declared users. sly: as long as its cohort's users allow. loud: longer.",
    ]
    lines += [
        f"Honest cohorts, {each.cohorts} of them: at most {each.popularity:.3f} clips apart in popularity, "
        f"{each.pairs:.3f} in pairs."
        for each in report.spreads
    ]
    return [*lines, f"{report.data}. {report.seconds:.0f} s, peak {report.peak_memory_mb:.0f} MB."]


def _cells(row: PoisonRow) -> Sequence[str]:
    spread = "" if row.ndcg_sd is None else f" ± {row.ndcg_sd:.4f}"
    return (
        row.rule,
        row.attack,
        str(row.malicious),
        f"{row.share:.1%}",
        "–" if row.ndcg_at_10 is None else f"{row.ndcg_at_10:.4f}{spread}",
        "–" if row.exposure is None else f"{row.exposure:.3f}",
        "–" if row.noise_cost is None else f"{row.noise_cost:.2f}",
        f"{row.dropped:.2f}",
        f"{row.trained}/{row.runs}",
    )
