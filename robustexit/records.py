"""The record: one row for one attempt, whatever happened to it. Columns are defined here and nowhere else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import pyarrow as pa

SCHEMA_VERSION: Final = 1

OUTCOMES: Final = ("succeeded", "failed", "skipped", "maximized", "timeout", "budget", "error")

TEXT: Final = pa.map_(pa.string(), pa.string())
PROBABILITIES: Final = pa.list_(pa.list_(pa.float32()))


@dataclass(frozen=True)
class Column:
    """One column of the records table: name, Arrow type, meaning, and whether it may be empty."""

    name: str
    type: pa.DataType
    meaning: str
    nullable: bool = True


def _key(name: str, meaning: str, type_: pa.DataType | None = None) -> Column:
    return Column(name, type_ or pa.string(), meaning, nullable=False)


COLUMNS: Final = (
    _key("dataset", "Name of the dataset in the campaign."),
    _key("example_id", "Id of the example, unique in its dataset (a content hash where the data has none)."),
    _key("label", "True label, as an index into the dataset's label names.", pa.int32()),
    _key("victim", "Name of the victim in the campaign."),
    _key("policy", "Exit policy with its parameters, e.g. `entropy(t=0.31)`."),
    _key("defense", "Defense with its parameters; `none` without one."),
    _key("recipe", "Attack recipe; a substituted resource stands in the name (`textfooler+minilm`)."),
    _key("goal", "What the attack tries to reach (`deployed`, `final`, `slowdown-uniform`, ...)."),
    _key("view", "What the attacker sees (`scores`, `label`, `label+exit`, `gradients`)."),
    _key("seed", "Seed of the cell.", pa.int64()),
    Column(
        "order_seed",
        pa.int64(),
        "Seed of the order in which a live stream policy met the cell's examples; empty for every other victim.",
    ),
    _key("outcome", "One of: " + ", ".join(f"`{outcome}`" for outcome in OUTCOMES) + "."),
    Column(
        "crafted_on",
        pa.string(),
        "Victim that the text was crafted against, where it is another one than `victim` (transfer); else empty.",
    ),
    Column(
        "broken_by",
        pa.string(),
        "Of a worst case: the first of its attacks, cheapest first, that broke the answer; empty where none did.",
    ),
    Column("goal_met", pa.bool_(), "The goal's own condition holds on the final text."),
    Column("flipped", pa.bool_(), "The deployed answer was right on the original and is wrong on the final text."),
    Column("slower", pa.bool_(), "The final text leaves at a later exit than the original."),
    _key("text", "The original text: field -> text.", TEXT),
    Column(
        "text_attacked",
        TEXT,
        "The attack's final text (the best one where it failed, the original if skipped).",
    ),
    Column("pred_clean", pa.int32(), "Deployed answer on the original."),
    Column("pred_attacked", pa.int32(), "Deployed answer on the final text."),
    Column("exit_clean", pa.int32(), "Exit taken on the original, 1-based."),
    Column("exit_attacked", pa.int32(), "Exit taken on the final text, 1-based."),
    Column("num_exits", pa.int32(), "K, the victim's number of exits."),
    Column("probs_clean", PROBABILITIES, "Softmax of every exit's logits on the original, exits x classes."),
    Column("probs_attacked", PROBABILITIES, "The same on the final text."),
    Column("confidence_clean", pa.float32(), "Largest probability that the policy returned on the original."),
    Column("confidence_attacked", pa.float32(), "The same on the final text."),
    Column(
        "cost_clean",
        pa.float64(),
        "MACs spent on the original over the full-depth control's on the same text.",
    ),
    Column("cost_attacked", pa.float64(), "The same for the final text."),
    Column("tokens_clean", pa.int32(), "Tokens of the original after truncation, without padding."),
    Column("tokens_attacked", pa.int32(), "The same for the final text."),
    Column("macs_clean", pa.int64(), "Multiply-accumulates spent on the original, heads included."),
    Column("macs_attacked", pa.int64(), "The same for the final text."),
    Column("truncated", pa.bool_(), "The original or the final text exceeded the victim's token limit."),
    Column("queries", pa.int64(), "Model queries as TextAttack counts them."),
    Column(
        "forwards",
        pa.int64(),
        "Distinct texts the attempt had to run (what it needs with an empty cache); a live stream policy runs every "
        "query, a repeated text again.",
    ),
    Column("layer_forwards", pa.int64(), "Encoder layers run for those texts."),
    Column("candidates", pa.int64(), "Texts that the recipe's transformations proposed."),
    Column("candidates_kept", pa.int64(), "Those that every constraint let through."),
    Column("words_changed", pa.int32(), "Words of the original that were changed or removed."),
    Column("words_total", pa.int32(), "Words of the original."),
    Column("char_edits", pa.int32(), "Levenshtein distance in characters between original and final text."),
    Column(
        "similarity",
        pa.float32(),
        "Sentence-encoder cosine of original and final text; empty without encoder.",
    ),
    Column("seconds", pa.float64(), "Wall-clock seconds of the attempt."),
    Column("error", pa.string(), "What went wrong, for `error` rows."),
)

CELL_KEYS: Final = ("dataset", "victim", "recipe", "goal", "view", "seed")
ATTEMPT_KEYS: Final = (*CELL_KEYS, "example_id")
TIME_COLUMNS: Final = ("seconds",)
"""Columns that may differ between two runs of the same campaign."""

SCHEMA: Final = pa.schema(
    [pa.field(c.name, c.type, nullable=c.nullable, metadata={"meaning": c.meaning}) for c in COLUMNS],
    metadata={"robustexit_schema_version": str(SCHEMA_VERSION)},
)


def document() -> str:
    """Return the columns as a Markdown table, as it stands in ``docs/records.md``."""
    lines = ["| column | type | may be empty | meaning |", "| --- | --- | --- | --- |"]
    lines += [f"| `{c.name}` | `{c.type}` | {'yes' if c.nullable else 'no'} | {c.meaning} |" for c in COLUMNS]
    return "\n".join(lines)
