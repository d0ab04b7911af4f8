"""The pictures: Altair charts turned into SVG without network, one small panel each."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final

import altair as alt
import numpy as np
import pandas as pd
import vl_convert

from robustexit.measures import Comparison, Estimate, measure_named
from robustexit.reports.context import CellGroup, Context
from robustexit.reports.formats import interval, number, signed
from robustexit.reports.model import Figure, Panel

CLEAN: Final = "#2a7fc1"
ATTACKED: Final = "#d9650f"
"""Blue and vermilion of the Okabe-Ito family, both at least 3:1 on the light and on the dark page."""

QUIET: Final = "#808890"
INK: Final = "currentColor"
FONT: Final = "sans-serif"
PADDING: Final = {"left": 16, "right": 8, "top": 5, "bottom": 5}
"""Room around a chart: a reader's sans-serif may be wider than the one it was laid out with."""


def build_figures(context: Context) -> dict[str, Figure]:
    """Build every figure that has something to show."""
    cells = context.early_cells
    figures = (
        differences(context),
        Figure(
            "exit_histograms",
            "Where texts leave, before and after",
            "Share of texts leaving at each exit: originals to the left, final texts to the right.",
            tuple(_histogram(cell) for cell in cells if len(cell.attempts)),
        ),
        Figure(
            "transitions",
            "From which exit to which",
            "Share of texts by exit on the original (rows) and on the final text (columns), in %. On the "
            "diagonal "
            "nothing moved; to the right of it texts leave later.",
            tuple(_transitions(cell) for cell in cells if len(cell.attempts)),
        ),
        Figure(
            "accuracy_by_exit",
            "Accuracy of every exit, clean and attacked",
            "What each exit alone would answer, with 95 % Wilson intervals. The dashed line is the majority rate.",
            tuple(_accuracy(context, cell) for cell in cells if cell.attempts.has_probs.any()),
        ),
    )
    return {figure.key: figure for figure in figures if figure.panels}


def to_svg(chart: alt.TopLevelMixin, prefix: str) -> str:
    """Render a chart as an SVG element that takes its text colour from the page.

    Args:
        chart: Any Altair chart.
        prefix: Makes the ids inside unique on the page.
    """
    svg = str(vl_convert.vegalite_to_svg(_themed(chart).to_dict(validate=False)))
    # Vega numbers its clip paths through the life of the process: number them within the picture instead.
    found = list(dict.fromkeys(re.findall(r'\bid="([^"]+)"', svg)))
    names = {old: f"{prefix}-{place}" for place, old in enumerate(found)}
    svg = re.sub(r'(\bid="|url\(#|href="#)([^")]+)', lambda m: m[1] + names.get(m[2], m[2]), svg)
    return svg[svg.index("<svg") :]


def _themed(chart: Any) -> Any:
    return (
        chart.configure(background="transparent", font=FONT, padding=PADDING)
        .configure_view(stroke=None)
        .configure_axis(
            labelColor=INK,
            titleColor=INK,
            domainColor=INK,
            tickColor=INK,
            gridColor=INK,
            gridOpacity=0.12,
            domainOpacity=0.35,
            tickOpacity=0.35,
            labelFontSize=11,
            titleFontSize=11,
            titleFontWeight="normal",
        )
        .configure_title(color=INK)
    )


def _panel(cell: CellGroup, chart: Any, kind: str, alt_text: str) -> Panel:
    title = f"{cell.victim.name} · {cell.heading}"
    prefix = re.sub(r"[^a-z0-9]+", "-", f"{kind}-{title}".lower())
    return Panel(title, to_svg(chart, prefix), f"{title}. {alt_text}")


def _height(exits: int) -> int:
    return int(np.clip(22 * exits, 60, 300))


def _exit_names(cell: CellGroup) -> list[str]:
    layers = cell.attempts.layers
    return [f"{i}" if layer == i else f"{i} (layer {layer})" for i, layer in enumerate(layers, start=1)]


ROOM = 125
"""Where the percent axis of a histogram ends: the same in every panel, with room for the number beside a full bar."""


def _histogram(cell: CellGroup) -> Panel:
    shares = measure_named("exit_shares")(cell.attempts)
    shares["name"] = _exit_names(cell)
    left, right = (
        _bars(shares, side, colour, reverse=reverse)
        for side, colour, reverse in (("clean", CLEAN, True), ("attacked", ATTACKED, False))
    )
    said = "; ".join(
        f"exit {row.exit}: {number(row.clean, '%')} % of originals, {number(row.attacked, '%')} % of final texts"
        for row in shares.itertuples()
    )
    return _panel(cell, alt.hconcat(left, right, spacing=4), "histogram", said + ".")


def _bars(shares: pd.DataFrame, side: str, colour: str, *, reverse: bool) -> Any:
    title = {"clean": "clean, %", "attacked": "attacked, %"}[side]
    data = shares.assign(percent=100 * shares[side], words=[f"{100 * share:.0f}" for share in shares[side]])
    x = alt.X("percent:Q", title=title, scale=alt.Scale(domain=[0, ROOM], reverse=reverse, nice=False))
    axis = alt.Axis(title="exit", grid=False) if reverse else None
    base = alt.Chart(data).encode(
        x=x.axis(values=[0, 50, 100], grid=False), y=alt.Y("name:N", sort=list(data["name"]), axis=axis)
    )
    bars = base.mark_bar(color=colour, cornerRadius=1)
    words = base.mark_text(align="right" if reverse else "left", dx=-4 if reverse else 4, fontSize=10, color=INK)
    return alt.layer(bars, words.encode(text="words:N")).properties(width=112, height=_height(len(data)))


def _transitions(cell: CellGroup) -> Panel:
    shares = measure_named("transitions")(cell.attempts)
    tall = shares.rename_axis("before").reset_index().melt("before", var_name="after", value_name="share")
    peak = max(float(tall["share"].max()), 1e-9)
    tall["opacity"] = 0.04 + 0.66 * tall["share"] / peak
    tall["words"] = [_percent_or_blank(share) for share in tall["share"]]
    base = alt.Chart(tall).encode(
        x=alt.X("after:O", title="exit, attacked", axis=alt.Axis(orient="top", labelAngle=0)),
        y=alt.Y("before:O", title="exit, clean"),
    )
    cells = base.mark_rect(color=CLEAN).encode(
        opacity=alt.Opacity("opacity:Q", scale=None, legend=None), stroke=alt.value(None)
    )
    words = base.mark_text(fontSize=10, color=INK).encode(text="words:N")
    side = int(np.clip(30 * cell.attempts.num_exits, 90, 420))
    later, earlier = (number(measure_named(name)(cell.attempts).value, "%") for name in ("later", "earlier"))
    biggest = tall.sort_values("share", ascending=False).head(5)
    said = ", ".join(
        f"{row.before} to {row.after} {number(row.share, '%')} %" for row in biggest.itertuples() if row.share
    )
    chart = alt.layer(cells, words).properties(width=side, height=side)
    return _panel(cell, chart, "transitions", f"{later} % leave later, {earlier} % earlier. Most frequent: {said}.")


def _percent_or_blank(share: float) -> str:
    if share <= 0:
        return ""
    return f"{100 * share:.0f}" if share >= 0.005 else "<1"


def _ends(estimate: Estimate) -> tuple[float, float]:
    """Return the interval times 100, the value itself where there is none."""
    low, high = (estimate.value if end is None else end for end in (estimate.low, estimate.high))
    return 100 * low, 100 * high


def _accuracy(context: Context, cell: CellGroup) -> Panel:
    table = measure_named("accuracy_by_exit")(cell.attempts)
    rows = [
        {
            "exit": at.exit,
            "side": side,
            "value": 100 * estimate.value,
            "low": _ends(estimate)[0],
            "high": _ends(estimate)[1],
        }
        for at in table.itertuples()
        for side, estimate in (("clean", at.clean), ("attacked", at.attacked))
    ]
    base = alt.Chart(pd.DataFrame(rows)).encode(
        x=alt.X("exit:O", title="exit", axis=alt.Axis(labelAngle=0, grid=False)),
        color=alt.Color("side:N", scale=alt.Scale(domain=["clean", "attacked"], range=[CLEAN, ATTACKED]), legend=None),
    )
    y = alt.Y("value:Q", title="accuracy, %", scale=alt.Scale(domain=[0, 100]), axis=alt.Axis(tickCount=5))
    majority = 100 * context.facts.datasets[cell.dataset].majority_rate
    rule = alt.Chart(pd.DataFrame({"rate": [majority]})).mark_rule(strokeDash=[4, 3], color=QUIET).encode(y="rate:Q")
    bars = base.mark_rule(strokeWidth=1.5, opacity=0.6).encode(y=alt.Y("low:Q", title="accuracy, %"), y2="high:Q")
    shape = alt.Shape("side:N", scale=alt.Scale(domain=["clean", "attacked"], range=["circle", "square"]), legend=None)
    points = base.mark_point(filled=True, size=46, opacity=1).encode(y=y, shape=shape)
    width = int(np.clip(38 * len(table), 120, 480))
    lines = base.mark_line(strokeWidth=1.5).encode(y=y)
    chart = alt.layer(rule, bars, lines, points).properties(width=width, height=170)
    said = "; ".join(
        f"exit {at.exit}: {number(at.clean.value, '%')} % clean, {number(at.attacked.value, '%')} % attacked"
        for at in table.itertuples()
    )
    return _panel(cell, chart, "accuracy", f"{said}. Majority rate {majority:.1f} %.")


def differences(context: Context) -> Figure:
    """Build the forest plot of paired differences, worst case over attacks."""
    pairs = [pair for pair in context.comparisons if pair.n]
    panels = () if not pairs else (_forest(pairs),)
    return Figure(
        "differences",
        "Robust accuracy of early exit less full depth",
        "Paired differences in points, worst case over attacks, with 95 % bootstrap intervals. Left of zero, "
        "leaving "
        "early is weaker.",
        panels,
    )


def _forest(pairs: Sequence[Comparison]) -> Panel:
    rows = [
        {
            "name": f"{pair.victim}, {pair.dataset}",
            "value": 100 * pair.difference.value,
            "low": _ends(pair.difference)[0],
            "high": _ends(pair.difference)[1],
            "colour": ATTACKED if pair.difference.value < 0 else CLEAN,
        }
        for pair in pairs
    ]
    order = [str(row["name"]) for row in rows]
    y = alt.Y("name:N", sort=order, title=None, axis=alt.Axis(labelLimit=260, domain=False, ticks=False, grid=False))
    colour = alt.Color("colour:N", scale=None, legend=None)
    base = alt.Chart(pd.DataFrame(rows)).encode(y=y, color=colour)
    bars = base.mark_rule(strokeWidth=2.5).encode(x=alt.X("low:Q", title="points of robust accuracy"), x2="high:Q")
    points = base.mark_point(filled=True, size=70, opacity=1).encode(x="value:Q")
    zero = alt.Chart(pd.DataFrame({"zero": [0]})).mark_rule(color=INK, opacity=0.6).encode(x="zero:Q")
    chart = alt.layer(zero, bars, points).properties(width=320, height=max(40, 26 * len(pairs)))
    said = "; ".join(
        f"{pair.victim} on {pair.dataset}: {signed(pair.difference.value, 'points')} points "
        f"{interval(pair.difference, 'points', signed)}"
        for pair in pairs
    )
    return Panel("Early exit less full depth", to_svg(chart, "differences"), f"{said}.")
