"""The ledger as a page for people: plain HTML, no script, one style sheet named by its hash in the page's policy."""

import base64
import hashlib
from html import escape

from platform_api.privacy.schemas import ReleaseEntry, TotalEntry, Totals

_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:75rem;margin:2rem auto;padding:0 1rem;color:#1b1b1b}"
    "div{overflow-x:auto}table{border-collapse:collapse;width:100%;margin:1rem 0}"
    "th,td{text-align:left;vertical-align:top;padding:.4rem .6rem;border-bottom:1px solid #ccc}"
    "td.n{white-space:nowrap;font-variant-numeric:tabular-nums}"
)
_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
CONTENT_SECURITY_POLICY = f"default-src 'none'; style-src 'sha256-{_HASH}'; frame-ancestors 'none'; base-uri 'none'"
_INTRODUCTION = (
    "Models are learned where histories are; only noisy sums leave a learner's device or institution. Each row is one "
    "published model and what it may tell about any one person: epsilon and delta bound how much likelier anything "
    "seen can be, whether or not this person's whole history was in it. Smaller is more private. Models that were "
    "refused are listed as well, because what they were made from had been released."
)


def ledger_page(entries: list[ReleaseEntry], totals: Totals, older: int | None) -> str:
    """HTML of a stretch of the ledger, newest first. older: where the next stretch begins, None at the end."""
    totalled = "".join(map(_total_row, [*totals.families, totals.all]))
    more = f'<p><a href="/privacy?before={older}">Older releases 更早的发布</a></p>' if older else ""
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>Privacy ledger 隐私账本</title><style>{_STYLE}</style></head><body>"
        f"<h1>Privacy ledger 隐私账本</h1><p>{escape(_INTRODUCTION)}</p>"
        "<h2>Together 合计</h2><p>For somebody who took part in everything of a family, or of all.</p>"
        f"<div><table><thead><tr><th>Model<th>Models<th>Jobs<th>epsilon<th>delta</tr></thead>{totalled}</table></div>"
        "<h2>Releases 发布记录</h2><div><table><thead><tr><th>Model<th>Released (UTC)<th>epsilon<th>delta<th>Against"
        f"<th>Recipe<th>Notes</tr></thead>{''.join(map(_row, entries))}</table></div>{more}"
        '<p><a href="/api/v1/privacy-ledger">The same as JSON</a>, mechanisms included.</p></body></html>'
    )


def _total_row(total: TotalEntry) -> str:
    name = "all 全部" if total.family is None else total.family
    cells = [name, str(total.releases), str(total.jobs), _epsilon(total.epsilon, total.why), f"{total.delta:.3g}"]
    return "<tr>" + "".join(f'<td class="n">{escape(cell)}</td>' for cell in cells) + "</tr>"


def _row(entry: ReleaseEntry) -> str:
    notes = [
        *(["refused by the gate"] if entry.refused else []),
        *(["settings tuned on the same data, uncharged"] if entry.tuned_on_data else []),
        f"{entry.unit}; {entry.adjacency}; {entry.scope}",
    ]
    short = [
        f"{entry.model} {entry.model_version}",
        f"{entry.released_at:%Y-%m-%d %H:%M}",
        _epsilon(entry.epsilon, "none"),
        f"{entry.delta:.3g}",
    ]
    cells = "".join(f'<td class="n">{escape(cell)}</td>' for cell in short)
    return (
        f"<tr>{cells}"
        + "".join(f"<td>{escape(text)}</td>" for text in (entry.against, entry.recipe))
        + (f"<td>{escape('. '.join(notes))}</td></tr>")
    )


def _epsilon(value: float | None, why: str) -> str:
    return f"not bounded ({why})" if value is None else f"{value:.3f}"
