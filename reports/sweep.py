"""A sweep on paper: the table at stated speed-ups, the curves as small multiples, both as files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import altair as alt
import pandas as pd
import vl_convert

from robustexit.measures import Estimate
from robustexit.measures.sweeps import CONTROL, Sweep
from robustexit.reports.figures import CLEAN, QUIET
from robustexit.reports.formats import interval, number, signed
from robustexit.runs import write_atomically

COLUMNS: Final = 5
PANEL: Final = (150, 105)
"""Width and height of one panel in pixels."""

PICTURE_SCALE: Final = 1.25


@dataclass(frozen=True)
class About:
    """What a sweep was made of.

    Attributes:
        model: The model's name or folder.
        data: Name of the evaluated data.
        n: Evaluated texts.
        calibration: Name of the calibration data.
        n_calibration: Calibration texts.
        synthetic: Whether any of the texts were generated.
        modules: Post-hoc module -> what it was fitted on.
    """

    model: str
    data: str
    n: int
    calibration: str
    n_calibration: int
    synthetic: bool
    modules: Mapping[str, str]


def write_sweep(found: Sweep, about: About, folder: Path) -> list[Path]:
    """Write ``curve.csv``, ``table.csv``, ``streams.csv``, ``sweep.md``, ``curves.svg`` and ``curves.png``.

    Args:
        found: The sweep.
        about: What it was made of.
        folder: Where the files go.

    Returns:
        The files, in that order.

    Raises:
        RunError: A file could not be written.
    """
    chart = curves(found).to_dict(validate=False)
    files: dict[str, bytes] = {
        "curve.csv": found.curve.to_csv(index=False).encode(),
        "table.csv": found.table.to_csv(index=False).encode(),
        "sweep.md": markdown(found, about).encode(),
        "streams.csv": found.streams.to_csv(index=False).encode(),
        "curves.svg": str(vl_convert.vegalite_to_svg(chart)).encode(),
        "curves.png": bytes(vl_convert.vegalite_to_png(chart, scale=PICTURE_SCALE)),
    }
    for name, content in files.items():
        write_atomically(folder / name, content)
    return [folder / name for name in files]


def markdown(found: Sweep, about: About) -> str:
    """Return the sweep as Markdown: what it is made of, the table at each speed-up, what was left out."""
    synthetic = " The texts are generated (synthetic)." if about.synthetic else ""
    lines = [
        f"{about.n:,} texts of {about.data} evaluated; thresholds tuned and learned parameters fitted on "
        f"{about.n_calibration:,} texts of {about.calibration}; model {about.model}.{synthetic} Accuracy of full "
        f"depth: {number(found.full_depth, '%')} %. Each cell: accuracy in % with its 95 % Wilson interval, and the "
        "speed-up reached on the evaluated texts (full-depth multiply-accumulates over spent ones, heads and modules "
        "included).",
        "",
        *([] if found.table.empty else _table(found.table)),
    ]
    lines += [
        "",
        "Curves: a panel a policy, a blue dot a setting; grey: the best of all policies at no more than that cost "
        "(chosen on these very texts, so a bound); dashed: the exits alone.",
    ]
    missed = "† no setting within 10 % of this speed-up on the calibration texts; the nearest one stands here."
    lines += ["", missed] if bool(found.table["missed"].any()) else []
    bounds = found.curve.loc[found.curve["deployable"].eq(False), "policy"].unique()
    lines += ["", f"Not deployable, a bound: {', '.join(bounds)}."] if len(bounds) else []
    lines += _streams(found.streams)
    if about.modules:
        lines += ["", "Post-hoc modules: " + "; ".join(f"{k} fitted on {v}" for k, v in about.modules.items()) + "."]
    if found.skipped:
        lines += ["", "Left out:", "", *(f"- {line}" for line in left_out(found))]
    return "\n".join(lines) + "\n"


def _table(table: pd.DataFrame) -> list[str]:
    targets = sorted(table["target"].unique())
    head = ["policy", *(f"asked {target:g}×" for target in targets)]
    lines = ["| " + " | ".join(head) + " |", "| --- " * len(head) + "|"]
    middle = targets[len(targets) // 2 - 1] if len(targets) > 1 else targets[0]
    best = table[table["target"] == middle].sort_values("accuracy", ascending=False)["policy"]
    for name in best:
        cells = []
        for target in targets:
            row = table[(table["policy"] == name) & (table["target"] == target)].iloc[0]
            accuracy = Estimate(row["accuracy"], row["low"], row["high"], int(row["n"]))
            mark = " †" if row["missed"] else ""
            cells.append(
                f"{number(accuracy.value, '%')} {interval(accuracy, '%')} at {number(row['speedup'], 'x')}{mark}"
            )
        lines.append("| " + " | ".join([f"`{name}`", *cells]) + " |")
    return lines


def _streams(streams: pd.DataFrame) -> list[str]:
    """Return the table of stream policies, or nothing where there are none."""
    if streams.empty:
        return []
    lines = [
        "",
        "Stream policies at their defaults, frozen after a burn-in on the calibration texts, and live from nothing on "
        "the evaluated texts (mean and standard deviation over orders of the texts):",
        "",
        "| policy | evaluation | accuracy, % | speed-up | arm |",
        "| --- | --- | ---: | ---: | --- |",
    ]
    for row in streams.to_dict("records"):
        live = row["evaluation"] == "live"
        spread = [
            f" ± {number(float(row[f'{name}_deviation']), unit)}"
            for name, unit in (("accuracy", "%"), ("speedup", "x"))
        ]
        accuracy, speedup = number(float(row["accuracy"]), "%"), number(float(row["speedup"]), "x")
        shown = [accuracy + spread[0], speedup + spread[1]] if live else [accuracy, speedup]
        evaluation = f"live, {row['orders']} orders" if live else "frozen"
        lines.append(f"| `{row['policy']}` | {evaluation} | {shown[0]} | {shown[1]} | {row['arms']} |")
    return lines


def summary(found: Sweep, target: float) -> list[str]:
    """Return one line a policy at one target speed-up, best first, for the terminal."""
    rows = found.table[found.table["target"] == target].sort_values("accuracy", ascending=False)
    return [
        f"{row['policy']:28} {number(float(row['accuracy']), '%'):>5} % "
        f"({signed(float(row['difference']), 'points')}) at "
        f"{number(float(row['speedup']), 'x')}{' (misses the target)' if row['missed'] else ''}"
        for row in rows.to_dict("records")
    ]


def left_out(found: Sweep) -> list[str]:
    """Return one line a reason for which policies were left out, with their names."""
    names: dict[str, list[str]] = {}
    for name, reason in found.skipped.items():
        names.setdefault(reason, []).append(name)
    return [f"{', '.join(several)}: {reason}" for reason, several in names.items()]


def curves(found: Sweep) -> Any:
    """Return the chart: a panel a policy, a dot a setting, the best of all policies in grey, single exits dashed."""
    data = found.curve.assign(percent=100 * found.curve["accuracy"], cost_percent=100 * found.curve["cost"])
    shown = [name for name in data["policy"].unique() if name != CONTROL] or [CONTROL]
    # Random exits reach far below everything else: the axis follows the single exits and what lies above them.
    low = float(data.loc[data["policy"] == CONTROL, "percent"].min()) if CONTROL in set(data["policy"]) else 0.0
    top = float(data["percent"].max())
    low = max(0.0, min(low, float(data["percent"].quantile(0.02))) - 0.05 * (top - low))
    envelope = _envelope(data)
    domain = (low, top + 0.05 * (top - low))
    panels = [
        _panel(data, envelope, name, domain, first=at % COLUMNS == 0, last=at + COLUMNS >= len(shown))
        for at, name in enumerate(shown)
    ]
    rows = [alt.hconcat(*panels[at : at + COLUMNS], spacing=12) for at in range(0, len(panels), COLUMNS)]
    return (
        alt.vconcat(*rows, spacing=10)
        .configure(background="white", font="sans-serif")
        .configure_view(stroke="#cccccc")
        .configure_axis(labelFontSize=9, titleFontSize=9, titleFontWeight="normal", gridOpacity=0.3)
        .configure_title(fontSize=11, fontWeight="normal", anchor="start", offset=4)
    )


def _panel(
    data: pd.DataFrame, envelope: pd.DataFrame, name: str, domain: Sequence[float], *, first: bool, last: bool
) -> Any:
    """Return one policy's panel; only the first of a row and the last of a column name their axes."""
    x = alt.X(
        "cost_percent:Q",
        title="compute, % of full depth" if last else None,
        scale=alt.Scale(domain=[0, 105], nice=False),
        axis=alt.Axis(values=[0, 25, 50, 75, 100]),
    )
    y = alt.Y(
        "percent:Q",
        title="accuracy, %" if first else None,
        scale=alt.Scale(domain=list(domain), nice=False, zero=False, clamp=True),
    )
    best = alt.Chart(envelope).mark_line(color=QUIET, opacity=0.6, strokeWidth=1, interpolate="step-after")
    behind = best.encode(x=x, y=y)
    exits = data.loc[data["policy"] == CONTROL, ["cost_percent", "percent"]]
    line = alt.Chart(exits).mark_line(color="#444444", strokeDash=[3, 2], strokeWidth=1).encode(x=x, y=y)
    mine = data.loc[data["policy"] == name, ["cost_percent", "percent"]].round(3)
    dots = alt.Chart(mine).mark_circle(size=14, color=CLEAN, opacity=0.9).encode(x=x, y=y)
    width, height = PANEL
    return alt.layer(behind, line, dots).properties(width=width, height=height, title=name)


def _envelope(data: pd.DataFrame) -> pd.DataFrame:
    """Return the best accuracy that any deployable policy's setting has at no more than each cost."""
    points = data[data["deployable"].eq(True)].sort_values("cost_percent", kind="stable")
    best = points["percent"].cummax()
    steps = points.assign(percent=best).loc[best.diff().ne(0), ["cost_percent", "percent"]]
    end = pd.DataFrame({"cost_percent": [max(100.0, points["cost_percent"].max())], "percent": [best.max()]})
    return pd.concat([steps, end]).round(3)
