"""A record as a picture: for each load a bar per subject, with a line from the best to the worst round."""

import statistics
from xml.sax.saxutils import escape

WIDTH, LABEL, BAR, GAP, GROUP = 760, 250, 14, 4, 16
TOP, BOTTOM = 50, 34
COLOURS = ("#2a78d6", "#9db8d9", "#d98c2a", "#7a7a7a", "#5aa05a", "#b05a9a")


def svg(record):
    """Text of an SVG file."""
    loads = list(dict.fromkeys(r["load"] for r in record.rounds))
    subjects = list(dict.fromkeys(r["subject"] for r in record.rounds))
    worst = max((r["ns_per_packet"] for r in record.rounds), default=1)
    scale = (WIDTH - LABEL - 90) / worst
    parts, y = [], TOP
    for load in loads:
        y += GROUP
        parts.append(text(10, y + BAR - 2, load, bold=True))
        for subject in record.subjects(load):
            costs = [r["ns_per_packet"] for r in record.of(load, subject)]
            middle, low, high = statistics.median(costs), min(costs), max(costs)
            colour = COLOURS[subjects.index(subject) % len(COLOURS)]
            end = LABEL + scale * middle
            parts.append(text(LABEL - 8, y + BAR - 2, subject, anchor="end"))
            parts.append(f'<rect x="{LABEL}" y="{y}" width="{scale * middle:.1f}" height="{BAR}" fill="{colour}"/>')
            parts.append(line(LABEL + scale * low, LABEL + scale * high, y + BAR / 2))
            parts.append(text(max(end, LABEL + scale * high) + 6, y + BAR - 2, f"{middle:,.0f}"))
            y += BAR + GAP
    about = "{date}, {machine}, Linux {kernel}, commit {commit}".format(**record.about)
    title = text(10, 22, "CPU time per forwarded packet in ns: median of the rounds, line from best to worst", bold=True)
    footer = text(10, y + BOTTOM - 10, about, colour="#666")
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y + BOTTOM}" font-family="sans-serif" font-size="12">\n'
        f'<rect width="100%" height="100%" fill="white"/>\n' + "\n".join([title, *parts, footer]) + "\n</svg>\n"
    )


def text(x, y, content, anchor="start", bold=False, colour="#222"):
    weight = ' font-weight="bold"' if bold else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}"{weight}>{escape(content)}</text>'


def line(left, right, y):
    return f'<line x1="{left:.1f}" x2="{right:.1f}" y1="{y:.1f}" y2="{y:.1f}" stroke="#222" stroke-width="1.5"/>'
