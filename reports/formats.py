"""How values look: numbers with their unit and interval, policies in words, characters that cannot be seen."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from robustexit.measures import Estimate
from robustexit.reports.model import Change, Label, Value, Withheld

UNDEFINED_TEXT: Final = "–"
MINUS: Final = "−"

_DIGITS: Final = {"%": 1, "points": 1, "exits": 2, "layers": 2, "x": 2, "count": 1, "number": 2}
_SCALE: Final = {"%": 100.0, "points": 100.0}
_SUFFIX: Final = {"x": "×"}
UNIT_TITLES: Final = {
    "%": "%",
    "points": "points",
    "exits": "exits",
    "layers": "layers",
    "MACs": "MACs",
}
"""Units that stand in a column's heading rather than behind every number."""


@dataclass(frozen=True)
class Shown:
    """A value as text: the number, its interval, and a remark."""

    main: str
    interval: str = ""
    remark: str = ""


def number(value: float, unit: str = "number") -> str:
    """Return a number with the digits and the scale of its unit, with a true minus sign."""
    if not math.isfinite(value):
        return UNDEFINED_TEXT
    if unit == "MACs":
        return _engineering(value)
    scaled = value * _SCALE.get(unit, 1.0)
    digits = 0 if unit == "count" and float(scaled).is_integer() else _DIGITS.get(unit, 3)
    text = f"{scaled:,.{digits}f}" if unit == "count" else f"{scaled:.{digits}f}"
    if float(text.replace(",", "")) == 0:
        text = text.lstrip("-")
    return text.replace("-", MINUS) + _SUFFIX.get(unit, "")


def signed(value: float, unit: str) -> str:
    """Return a number with its sign, also where it is positive."""
    text = number(value, unit)
    return text if text.startswith(MINUS) or not value > 0 else f"+{text}"


def _engineering(value: float) -> str:
    for factor, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= factor:
            return f"{value / factor:.3g} {letter}"
    return f"{value:.3g}"


def interval(estimate: Estimate, unit: str, write: Callable[[float, str], str] = number) -> str:
    """Return ``[low, high]``, or an empty string without an interval."""
    if estimate.low is None or estimate.high is None or not estimate.defined:
        return ""
    return f"[{write(estimate.low, unit)}, {write(estimate.high, unit)}]"


def show(value: Value, unit: str = "") -> Shown:
    """Return any value of a table as text."""
    if value is None:
        return Shown(UNDEFINED_TEXT)
    if isinstance(value, Withheld):
        return Shown(f"withheld: {value.reason}")
    if isinstance(value, Label):
        return Shown(value.main, remark=value.detail)
    if isinstance(value, Change):
        before, after = number(value.before.value, unit), number(value.after.value, unit)
        ends = [interval(side, unit) for side in (value.before, value.after)]
        return Shown(f"{before} → {after}", " → ".join(ends) if all(ends) else "")
    if isinstance(value, Estimate):
        remark = ""
        if value.bounds is not None:
            worst, best = (number(bound, unit) for bound in value.bounds)
            remark = f"{worst} to {best} with errors"
        write = signed if unit == "points" else number
        return Shown(write(value.value, unit), interval(value, unit, write), remark)
    return Shown(value)


def p_value(value: float) -> str:
    """Return a p-value in the usual three digits."""
    if not math.isfinite(value):
        return UNDEFINED_TEXT
    return "< .001" if value < 0.001 else f"{value:.3f}".lstrip("0") if value < 1 else "1"


def policy(text: str) -> str:
    """Return a recorded policy in words: ``entropy(t=0.3123)`` as ``entropy, t = 0.312``."""
    found = re.fullmatch(r"([\w.-]+)\((.*)\)", text.strip(), flags=re.DOTALL)
    if not found:
        return text
    name = re.sub(r"[_-]+", " ", found[1])
    arguments = [_argument(part) for part in re.split(r",\s*(?![^\[(]*[\])])", found[2]) if part.strip()]
    return ", ".join([name, *arguments])


def _argument(text: str) -> str:
    name, equals, value = (part.strip() for part in text.partition("="))
    if not equals:
        return _short(name)
    return f"{name.replace('_', ' ')} = {_short(value)}"


def _short(value: str) -> str:
    return re.sub(r"\d+\.\d{4,}(e[+-]?\d+)?", lambda found: f"{float(found[0]):.3g}", value)


_BLANK_LETTERS: Final = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0")
_HIDDEN_CATEGORIES: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


def is_hidden(character: str) -> bool:
    """Whether a character shows nothing, or moves others about: controls, bidi marks, zero widths, odd blanks."""
    category = unicodedata.category(character)
    if category in _HIDDEN_CATEGORIES or character in _BLANK_LETTERS:
        return True
    code = ord(character)
    variation = 0xFE00 <= code <= 0xFE0F or 0xE0100 <= code <= 0xE01EF or 0x180B <= code <= 0x180F
    return variation or (category == "Zs" and character != " ")


def code_point(character: str) -> str:
    """Return ``U+200B`` for a character."""
    return f"U+{ord(character):04X}"


def visible(text: str) -> str:
    """Return the text with every hidden character as its code point in double brackets."""
    return "".join(f"⟦{code_point(c)}⟧" if is_hidden(c) else c for c in text)
