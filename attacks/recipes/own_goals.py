"""Recipes whose goal is part of them."""

from __future__ import annotations

from robustexit.attacks.recipes.assemble import stock
from robustexit.attacks.recipes.base import Recipe, add

add(
    Recipe(
        name="input-reduction",
        textattack_class="InputReductionFeng2018",
        citation="Feng et al. 2018",
        url="https://arxiv.org/abs/1804.07781",
        bibtex_key="feng2018pathologies",
        space="deletions",
        needs=("stopwords",),
        assemble=stock,
        own_goal="input-reduction",
    ),
)
