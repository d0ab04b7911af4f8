"""Robustness measures: each one written once, with its denominator, its interval and its n."""

from robustexit.measures.attempts import Attempts
from robustexit.measures.base import UNDEFINED, Direction, Estimate, Measure, Unit
from robustexit.measures.catalog import MEASURES, TABLES, document, measure_named
from robustexit.measures.facts import DatasetFacts, Facts, VictimFacts
from robustexit.measures.flags import CHECKS, Flag, check, not_headline, withheld
from robustexit.measures.paired import Comparison, adjusted, compare, worst_case

__all__ = [
    "CHECKS",
    "MEASURES",
    "TABLES",
    "UNDEFINED",
    "Attempts",
    "Comparison",
    "DatasetFacts",
    "Direction",
    "Estimate",
    "Facts",
    "Flag",
    "Measure",
    "Unit",
    "VictimFacts",
    "adjusted",
    "check",
    "compare",
    "document",
    "measure_named",
    "not_headline",
    "withheld",
    "worst_case",
]
