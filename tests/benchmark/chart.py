"""The charts: one for each question, with a panel of bars for each of its rows, as SVG."""

from __future__ import annotations

from html import escape

from .contestants import CONTESTANTS
from .report import CEILING, number
from .results import (
    Round,
    Row,
    Summary,
    figure,
)

# Pixels. A panel is as wide as the chart, so that every title has room.
WIDTH = 720
GAP = 20
BAR_HEIGHT = 14
BAR_STEP = 19
NAME_WIDTH = 176
VALUE_WIDTH = 70
BAR_WIDTH = WIDTH - NAME_WIDTH - VALUE_WIDTH
HEAD_HEIGHT = 42

# No background: the page's shows. Colours that do on a light one, and others for a dark one.
_STYLE = """\
text { font: 11px system-ui, sans-serif; fill: #24292f }
.title { font-weight: 600 }
.note { fill: #6e7781 }
.bar { fill: #b6bfc9 }
.ours { fill: #0f7d74 }
.spread { stroke: #24292f; stroke-width: 1 }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 }
  .note { fill: #8d96a0 }
  .bar { fill: #57606a }
  .ours { fill: #2bb3a6 }
  .spread { stroke: #e6edf3 }
}"""


def _bar(y: float, name: str, summary: Summary, scale: float, *, ours: bool) -> list[str]:
    middle = y + BAR_HEIGHT / 2
    text = middle + 4
    length = summary.median * scale
    least, most = NAME_WIDTH + summary.least * scale, NAME_WIDTH + summary.most * scale
    return [
        f'<text x="{NAME_WIDTH - 6}" y="{text:.1f}" text-anchor="end">{escape(name)}</text>',
        f'<rect class="{"ours" if ours else "bar"}" x="{NAME_WIDTH}" y="{y:.1f}" '
        f'width="{length:.1f}" height="{BAR_HEIGHT}"/>',
        f'<line class="spread" x1="{least:.1f}" y1="{middle:.1f}" '
        f'x2="{most:.1f}" y2="{middle:.1f}"/>',
        f'<text x="{max(most, NAME_WIDTH + length) + 5:.1f}" y="{text:.1f}">'
        f"{number(summary.median)}</text>",
    ]


def _panel(rounds: list[Round], row: Row, servers: list[str]) -> list[str]:
    summaries = {server: figure(rounds, row.case, server, row.metric.key) for server in servers}
    scale = BAR_WIDTH / max(summary.most for summary in summaries.values())
    unit = row.metric.title + (", less is better" if row.metric.less_is_better else "")
    lines = [
        f'<text class="title" x="0" y="12">{escape(row.title)}</text>',
        f'<text class="note" x="0" y="28">{escape(unit)}</text>',
    ]
    for index, (server, summary) in enumerate(summaries.items()):
        y = HEAD_HEIGHT + index * BAR_STEP - 4
        title = CONTESTANTS[server].title
        lines += _bar(y, title, summary, scale, ours=index == 0)
    return lines


def svg(rounds: list[Round], rows: list[Row]) -> str:
    """The chart of the rows of one question, one panel below the other."""
    body = []
    y = 0
    for row in rows:
        servers = [server for server in row.servers if server != CEILING]
        body += [f'<g transform="translate(0 {y})">', *_panel(rounds, row, servers), "</g>"]
        y += HEAD_HEIGHT + len(servers) * BAR_STEP + GAP
    total = y - GAP
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {total}" '
            f'width="{WIDTH}" height="{total}" role="img">',
            "<title>syncws and others: medians, and the least and the most of all rounds</title>",
            f"<style>\n{_STYLE}\n</style>",
            *body,
            "</svg>\n",
        ]
    )
