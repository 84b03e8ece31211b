# SPDX-License-Identifier: Apache-2.0
"""The table and the pictures of tools/bench-cluster."""
import statistics

HEAD = ["| | etcd | tutti | tutti / etcd | goal | met | p50 ms | p99 ms | cluster cpu us/op | client cpu % |",
        "|---|---|---|---|---|---|---|---|---|---|"]


def number(value):
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def pair(row, key, digits):
    """`etcd / tutti`, or tutti's alone."""
    figures = [row[f"{name}_{key}"] for name in ("peer", "tutti") if f"{name}_{key}" in row]
    return " / ".join(f"{figure:.{digits}f}" for figure in figures)


def text(row):
    ratio = ""
    if "ratio" in row:
        ratio = f"{row['ratio']:.2f} ({row['ratio_min']:.2f}-{row['ratio_max']:.2f})"
    peer = number(row["peer"]) if "peer" in row else ""
    met = "" if row.get("goal") is None else "yes" if row["is_met"] else "**no**"
    cells = [row["name"], peer, number(row["tutti"]), ratio, row.get("goal_text", ""), met, pair(row, "p50_ms", 2),
             pair(row, "p99_ms", 2), pair(row, "cpu_us", 1), pair(row, "client_percent", 0)]
    return "| " + " | ".join(cells) + " |"


def compared(name, peer, tutti, goal, is_less_better=False, **more):
    """A row of ratios within each turn."""
    ratios = [ours / theirs for theirs, ours in zip(peer, tutti)]
    ratio = statistics.median(ratios)
    is_met = goal is None or (ratio <= goal if is_less_better else ratio >= goal)
    goal_text = "" if goal is None else f"{'at most' if is_less_better else 'at least'} {goal} x"
    return {"name": name, "peer": statistics.median(peer), "tutti": statistics.median(tutti), "ratio": ratio,
            "ratio_min": min(ratios), "ratio_max": max(ratios), "goal": goal, "goal_text": goal_text, "is_met": is_met, **more}


def absolute(name, tutti, goal, goal_text, peer=None, **more):
    """A row with a bound of its own."""
    row = {"name": name, "tutti": tutti, "goal": goal, "goal_text": goal_text, "is_met": tutti <= goal, **more}
    if peer is not None:
        row["peer"] = peer
    return row


def quantile(values, share):
    """The smallest value that at least `share` of all do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, min(len(ordered) - 1, -int(-share * len(ordered) // 1) - 1))]


# ---- pictures ------------------------------------------------------------------------------------------


def svg(width, height, parts):
    return (f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" font-family="sans-serif" '
            'font-size="12"><rect width="100%" height="100%" fill="white"/>' + "".join(parts) + "</svg>\n")


def bars(rows):
    """How much of each goal is reached: beyond the line is met, whichever direction is better."""
    shown = [(row, row["ratio"] / row["goal"] if row["goal_text"].startswith("at least") else row["goal"] / row["ratio"])
             for row in rows if row.get("goal") and row.get("ratio")]
    width, left, bar, gap, most = 860, 380, 20, 12, 3.0
    scale = (width - left - 60) / most
    parts = ['<text x="10" y="20" font-weight="bold">share of the goal that is reached (line: the goal; cut at 3)</text>']
    for i, (row, share) in enumerate(shown):
        top = 32 + i * (bar + gap)
        length = min(share, most) * scale
        parts.append(f'<text x="10" y="{top + 15}">{row["name"]}</text>'
                     f'<rect x="{left}" y="{top}" width="{length:.0f}" height="{bar}" fill="{"#2a7" if row["is_met"] else "#c52"}"/>'
                     f'<text x="{left + length + 4:.0f}" y="{top + 15}">{share:.2f}</text>')
    bottom = 32 + len(shown) * (bar + gap)
    parts.append(f'<line x1="{left + scale:.0f}" x2="{left + scale:.0f}" y1="28" y2="{bottom}" stroke="black"/>')
    return svg(width, bottom + 8, parts)


def bin_width(longest):
    """Ten to forty bins of a round width."""
    return next((width for width in (5, 10, 20, 50, 100, 200, 500) if longest / width <= 40), 1000)


def histogram_panel(title, values, top, width, height):
    left, right, base = 50, 20, top + height - 34
    step = bin_width(max(values))
    count = int(max(values) // step) + 1
    bins = [sum(1 for value in values if int(value // step) == i) for i in range(count)]
    across, tallest = (width - left - right) / count, max(bins)
    up = (base - top - 44) / tallest
    parts = [f'<text x="10" y="{top + 18}" font-weight="bold">{title}</text>',
             f'<line x1="{left}" x2="{width - right}" y1="{base}" y2="{base}" stroke="black"/>']
    for i, members in enumerate(bins):
        if members > 0:
            parts.append(f'<rect x="{left + i * across + 1:.1f}" y="{base - members * up:.1f}" width="{max(across - 2, 1):.1f}" '
                         f'height="{members * up:.1f}" fill="#48a"/>'
                         f'<text x="{left + (i + 0.5) * across:.1f}" y="{base - members * up - 3:.1f}" text-anchor="middle" '
                         f'font-size="10">{members}</text>')
    for i in range(0, count + 1, max(1, count // 10)):
        parts.append(f'<text x="{left + i * across:.1f}" y="{base + 14}" text-anchor="middle" font-size="10">{i * step}</text>')
    parts.append(f'<text x="{width - right}" y="{base + 28}" text-anchor="end" font-size="10">ms from the kill</text>')
    for share, colour in ((0.5, "#2a7"), (0.99, "#c52")):
        value = quantile(values, share)
        at = left + value / step * across
        side, anchor = (3, "start") if at < width / 2 else (-3, "end")
        parts.append(f'<line x1="{at:.1f}" x2="{at:.1f}" y1="{top + 30}" y2="{base}" stroke="{colour}" stroke-dasharray="4 2"/>'
                     f'<text x="{at + side:.1f}" y="{top + 38}" fill="{colour}" text-anchor="{anchor}">p{share * 100:.0f} '
                     f'{value:.0f} ms</text>')
    return parts


def failovers(times_ms):
    """`times_ms`: {name of the system: until writes resumed, for each kill}."""
    width, height = 720, 240
    parts = []
    panels = [(name, values) for name, values in times_ms.items() if values]
    for i, (name, values) in enumerate(panels):
        title = f"{name}: leader killed under load {len(values)} times, time until writes resume"
        parts += histogram_panel(title, values, i * height, width, height)
    return svg(width, height * len(panels), parts)
