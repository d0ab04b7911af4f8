"""Recipes that swap words for synonyms or neighbours."""

from __future__ import annotations

from robustexit.attacks.recipes.assemble import stock
from robustexit.attacks.recipes.base import Recipe, add
from robustexit.attacks.recipes.tuned import SIMILARITY, tuned

_VECTORS = "words: vectors"

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
        space=_VECTORS,
        needs=("counter-fitted-vectors", "sentence-encoder", "pos-tagger"),
        assemble=tuned,
        effort=2,
        window=15,
        defaults={SIMILARITY: 0.840845057},
    ),
    Recipe(
        name="genetic",
        textattack_class="GeneticAlgorithmAlzantot2018",
        citation="Alzantot et al. 2018",
        url="https://arxiv.org/abs/1804.07998",
        bibtex_key="alzantot2018generating",
        space=_VECTORS,
        needs=("stopwords", "counter-fitted-vectors", "google-lm"),
        assemble=tuned,
        effort=3,
        defaults={"pop_size": 60, "max_iters": 20},
    ),
    Recipe(
        name="faster-genetic",
        textattack_class="FasterGeneticAlgorithmJia2019",
        citation="Jia et al. 2019",
        url="https://arxiv.org/abs/1909.00986",
        bibtex_key="jia2019certified",
        space=_VECTORS,
        needs=("stopwords", "counter-fitted-vectors", "learning-to-write-lm"),
        assemble=tuned,
        effort=3,
        defaults={"pop_size": 60, "max_iters": 40},
    ),
    Recipe(
        name="iga",
        textattack_class="IGAWang2019",
        citation="Wang et al. 2021",
        url="https://arxiv.org/abs/1909.06723",
        bibtex_key="wang2021natural",
        space=_VECTORS,
        needs=("stopwords", "counter-fitted-vectors"),
        assemble=tuned,
        effort=3,
        defaults={"pop_size": 60, "max_iters": 20, "max_replace_times_per_index": 5},
    ),
    Recipe(
        name="kuleshov",
        textattack_class="Kuleshov2017",
        citation="Kuleshov et al. 2018",
        url="https://openreview.net/forum?id=r1QZ3zbAZ",
        bibtex_key="kuleshov2018adversarial",
        space=_VECTORS,
        needs=("stopwords", "counter-fitted-vectors", "word-vectors", "causal-lm"),
        assemble=tuned,
        effort=3,
    ),
)
