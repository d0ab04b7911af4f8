"""A TextAttack text as named fields."""

from __future__ import annotations

from typing import Any


def field_texts(text: Any) -> tuple[str, ...]:
    """Return the texts of a TextAttack text's fields, in order."""
    values = text.tokenizer_input
    return (values,) if isinstance(values, str) else tuple(values)


def field_values(text: Any) -> dict[str, str]:
    """Return a TextAttack text as field name -> text, in order."""
    return dict(zip(text.column_labels, field_texts(text), strict=True))
