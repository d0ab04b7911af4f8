"""Every measure by name, and the page that documents them."""

from __future__ import annotations

from typing import Any, Final

from robustexit.errors import ConfigError, unknown_name
from robustexit.measures.accuracy import ACCURACY
from robustexit.measures.base import Direction, Estimate, Measure
from robustexit.measures.cost import COST
from robustexit.measures.crafting import CRAFTING_TABLES
from robustexit.measures.depth import DEPTH, DEPTH_TABLES
from robustexit.measures.exits import EXIT_TABLES, EXITS
from robustexit.measures.flags import CHECKS
from robustexit.measures.paired import MCNEMAR_DEFINITION, PAIRED_DEFINITION
from robustexit.measures.transfer import TRANSFER_DEFINITIONS

MEASURES: Final[tuple[Measure[Estimate], ...]] = (*ACCURACY, *EXITS, *COST, *DEPTH)
"""Every measure that is one number."""

TABLES: Final = (*EXIT_TABLES, *DEPTH_TABLES, *CRAFTING_TABLES)
"""Every measure that is a table (a histogram, a matrix, a curve over exits)."""

_SIDES: Final[tuple[tuple[str, tuple[Measure[Any], ...]], ...]] = (
    ("Answers and effort", ACCURACY),
    ("Exits", (*EXITS, *EXIT_TABLES)),
    ("Cost", COST),
    ("Depth", (*DEPTH, *DEPTH_TABLES)),
    ("Sets of attacks", CRAFTING_TABLES),
)
_DIRECTIONS: Final[dict[Direction, str]] = {"higher": "higher", "lower": "lower", "none": "-"}


def measure_named(name: str) -> Measure[Any]:
    """Return the measure called `name`.

    Raises:
        ConfigError: No such measure; the message names the nearest one.
    """
    known: dict[str, Measure[Any]] = {one.name: one for one in (*MEASURES, *TABLES)}
    if name not in known:
        raise ConfigError(unknown_name("measure", name, known))
    return known[name]


def document() -> str:
    """Return the page `docs/measures.md`: every definition with its denominator, and every self-check."""
    lines = [
        "# Measures",
        "",
        "Written from the definitions in `robustexit.measures`; a test keeps the two equal.",
        "",
        "D is the evaluated set: every attempt but those that ended in an error. K is the victim's number of exits.",
        "The final text is the attack's last, best text, and the original where the example was skipped. Intervals",
        "are 95 %: Wilson for shares of distinct examples, a percentile bootstrap over examples (2,000 resamples,",
        "fixed seed) for everything else and wherever an example has several rows. Where attempts ended in errors,",
        "a share also has two bounds: all of them counted against, and for.",
    ]
    for title, measures in _SIDES:
        lines += [
            "",
            f"## {title}",
            "",
            "| measure | title | unit | better | definition |",
            "| --- | --- | --- | --- | --- |",
        ]
        lines += [
            f"| `{m.name}` | {m.title} | {m.unit} | {_DIRECTIONS[m.direction]} | {m.definition} |" for m in measures
        ]
    lines += ["", "## Two victims on the same examples", "", f"- `difference`: {PAIRED_DEFINITION}"]
    lines += [f"- `p_value`, `p_holm`: {MCNEMAR_DEFINITION}"]
    lines += ["", "## Transfer", "", *(f"- `{name}`: {text}" for name, text in TRANSFER_DEFINITIONS.items())]
    lines += ["", "## Self-checks", "", "| flag | fires where |", "| --- | --- |"]
    lines += [f"| `{code}` | {rule} |" for code, rule in CHECKS.items()]
    return "\n".join(lines) + "\n"
