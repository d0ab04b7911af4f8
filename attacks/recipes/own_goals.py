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
    Recipe(
        name="morpheus",
        textattack_class="MorpheusTan2020",
        citation="Tan et al. 2020",
        url="https://doi.org/10.18653/v1/2020.acl-main.263",
        bibtex_key="tan2020morphin",
        space="words: inflections",
        needs=("stopwords", "upos-tagger"),
        assemble=stock,
        unsupported="its goal is a low BLEU score between an output text and a reference translation; "
        "a classifier writes no text",
    ),
    Recipe(
        name="seq2sick",
        textattack_class="Seq2SickCheng2018BlackBox",
        citation="Cheng et al. 2020",
        url="https://arxiv.org/abs/1803.01128",
        bibtex_key="cheng2020seq2sick",
        space="words: vectors",
        needs=("stopwords", "counter-fitted-vectors"),
        assemble=stock,
        unsupported="its goal is an output text that shares no word with the one for the original text; "
        "a classifier writes no text",
    ),
)
