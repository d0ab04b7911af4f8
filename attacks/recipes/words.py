"""Recipes that swap words for synonyms or neighbours."""

from __future__ import annotations

from robustexit.attacks.recipes.assemble import stock
from robustexit.attacks.recipes.base import Recipe, add

add(
    Recipe(
        name="pwws",
        textattack_class="PWWSRen2019",
        citation="Ren et al. 2019",
        url="https://doi.org/10.18653/v1/P19-1103",
        bibtex_key="ren2019generating",
        space="words: WordNet",
        needs=("stopwords", "wordnet"),
        assemble=stock,
    ),
    Recipe(
        name="textfooler",
        textattack_class="TextFoolerJin2019",
        citation="Jin et al. 2020",
        url="https://arxiv.org/abs/1907.11932",
        bibtex_key="jin2020bert",
        space="words: vectors",
        needs=("counter-fitted-vectors", "sentence-encoder", "pos-tagger"),
        assemble=stock,
    ),
)
