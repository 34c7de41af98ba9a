"""A study as one HTML file: tables, plots and overlays, readable without a network."""

from __future__ import annotations

import base64
import html
from collections.abc import Mapping, Sequence
from pathlib import Path

from swin_unet.ablation.plots import PLOTS
from swin_unet.ablation.results import CHECKPOINTS, Result
from swin_unet.ablation.study import Study
from swin_unet.ablation.tables import READING, Rows, cost_rows, score_rows
from swin_unet.files import atomic_path

_STYLE = """
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif; }
body { max-width: 75rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; margin: 1rem 0; display: block; overflow-x: auto; }
th, td { padding: .3rem .7rem; border-bottom: 1px solid #8886; text-align: right; }
th:first-child, td:first-child { text-align: left; }
td { font-variant-numeric: tabular-nums; white-space: nowrap; }
tr.published { opacity: .7; font-style: italic; }
figure { margin: 1.5rem 0; } img { max-width: 100%; background: white; }
figcaption { color: #777; }
.overlays { display: flex; flex-wrap: wrap; gap: 1rem; } .overlays figure { margin: 0; }
"""
_HEADINGS = {"best": "Best epoch on validation", "last": "Last epoch"}


def write_page(
    folder: Path,
    study: Study,
    results: Sequence[Result],
    notes: Sequence[str],
    overlays: Mapping[str, Path],
) -> Path:
    """Write index.html.

    Args:
        folder: The study's; holds the plots.
        study: What was compared.
        results: Its rows.
        notes: What was held fixed, what failed, a sentence each.
        overlays: Title to picture, of one case under every setting.
    """
    parts = [f"<h1>{html.escape(study.title)}</h1>", "<h2>What was held fixed</h2>", _list(notes)]
    for checkpoint in CHECKPOINTS:
        parts.append(f"<h2>{_HEADINGS[checkpoint]}</h2>")
        parts.append(_table(score_rows(study, results, checkpoint)))
    parts += [f"<p>{html.escape(READING)}</p>", "<h2>Cost</h2>", _table(cost_rows(results))]
    parts += [
        _figure(folder / name, caption)
        for name, caption in PLOTS.items()
        if (folder / name).is_file()
    ]
    if overlays:
        pictures = "".join(_figure(path, title) for title, path in overlays.items())
        parts.append(f'<h2>One test case</h2><div class="overlays">{pictures}</div>')
    path = folder / "index.html"
    with atomic_path(path) as temporary:
        temporary.write_text(_document(study.title, "\n".join(parts)), encoding="utf8")
    return path


def _document(title: str, body: str) -> str:
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        f"<title>{html.escape(title)}</title><style>{_STYLE}</style></head>\n"
        f"<body>\n{body}\n</body></html>\n"
    )


def _table(rows: Rows) -> str:
    header, *body = rows
    head = "".join(f"<th>{html.escape(cell)}</th>" for cell in header)
    lines = [f"<table><thead><tr>{head}</tr></thead><tbody>"]
    for row in body:
        kind = ' class="published"' if ", published (" in row[0] else ""
        cells = "".join(f"<td>{html.escape(cell)}</td>" for cell in row)
        lines.append(f"<tr{kind}>{cells}</tr>")
    return "\n".join([*lines, "</tbody></table>"])


def _list(notes: Sequence[str]) -> str:
    return f"<ul>{''.join(f'<li>{html.escape(note)}</li>' for note in notes)}</ul>"


def _figure(path: Path, caption: str) -> str:
    data = base64.b64encode(path.read_bytes()).decode()
    text = html.escape(caption)
    return (
        f'<figure><img alt="{text}" src="data:image/png;base64,{data}">'
        f"<figcaption>{text}</figcaption></figure>"
    )
