from __future__ import annotations

import itertools
import re
from collections import Counter

import pytest

from robustexit.data import LEVELS, generate_reviews
from robustexit.data import review_words as words
from robustexit.data.reviews import MAX_WORDS, MIN_WORDS
from robustexit.errors import DataError


@pytest.fixture(scope="module")
def train():
    return generate_reviews(3_000, seed=0)


@pytest.fixture(scope="module")
def test():
    return generate_reviews(1_500, seed=0, split="test")


def texts(dataset):
    return [fields["text"] for fields in dataset.texts]


def test_declared_synthetic(train):
    assert train.synthetic
    assert train.label_names == ("negative", "positive")
    assert "synthetic" in train.notes[0]
    assert train.source.startswith("generated: reviews, split train, n 3000, seed 0")


@pytest.mark.parametrize("n", [1, 2, 7, 100, 601])
def test_balanced(n):
    made = generate_reviews(n, seed=n)
    counts = Counter(made.labels)
    assert len(made) == n
    assert abs(counts[0] - counts[1]) <= 1


def test_levels_balanced_within_labels(train):
    counts = Counter((e.example_id.split("-")[1], e.label) for e in train.examples)
    assert set(counts) == set(itertools.product(LEVELS, (0, 1)))
    assert set(counts.values()) == {250}


def test_unique_and_of_the_promised_length(train, test):
    everything = texts(train) + texts(test)
    assert len(set(map(str.lower, everything))) == len(everything)
    assert all(MIN_WORDS <= len(text.split()) <= MAX_WORDS for text in everything)


def test_splits_share_no_text_whatever_the_seed(train):
    for seed in range(3):
        other = generate_reviews(1_000, seed=seed, split="test", difficulty=["plain", "negation"])
        assert not set(texts(train)) & set(texts(other))


def test_deterministic_and_continued(train):
    assert generate_reviews(200, seed=0).examples == train.examples[:200]
    assert generate_reviews(50, seed=1).examples != train.examples[:50]


def test_pinned_texts():
    assert (
        generate_reviews(300, seed=0).content_hash()
        == "da9aa8b8b01341676dfab35e34c69d9c39da7e3615047961443120ac5174746c"
    )


def test_ids(train):
    assert all(
        re.fullmatch(rf"reviews-({'|'.join(LEVELS)})-{i:05d}", e.example_id) for i, e in enumerate(train.examples)
    )


def test_rich_vocabulary(train):
    used = Counter(re.findall(r"[a-zé-]+", " ".join(texts(train)).lower()))
    assert len(used) > 700


def test_well_formed(train):
    for text in texts(train):
        assert re.fullmatch(r"[A-Z].*[.]", text)
        assert not re.search(r"[{}]|  | [,.;]|\b(\w+) \1\b|\ba [aeio]|\ban [^aeiou]", text), text


def adjectives(label):
    return {a for d in words.DOMAINS for g in d.groups for a in g.adjectives(label)}


def phrases(label):
    return adjectives(label) | {past for past, _ in words.VERBS[label]}


def said(text, label):
    return [p for p in phrases(label) if re.search(rf"\b{re.escape(p)}\b", text)]


@pytest.mark.parametrize("level", ["plain", "intensifier"])
def test_easy_levels_use_words_of_their_label_only(level):
    for example in generate_reviews(300, seed=2, difficulty=[level]).examples:
        assert said(example.fields["text"], example.label), example
        assert not said(example.fields["text"], 1 - example.label), example


def test_contrast_says_both_and_the_main_clause_decides():
    after = re.compile(r", but |, yet |; however, ")
    for example in generate_reviews(300, seed=2, difficulty=["contrast"]).examples:
        text = example.fields["text"].lower()
        if after.search(text):
            concession, verdict = after.split(text)
        elif re.match(r"(although|even though|while) ", text):
            concession, verdict = text.split(", ", 1)
        else:
            verdict, concession = re.split(
                r", although |, even though | despite the fact that |, never mind that ", text
            )
        assert said(verdict, example.label) and not said(verdict, 1 - example.label), text
        assert said(concession, 1 - example.label) and not said(concession, example.label), text


def test_negation_denies_words_of_the_other_label():
    denials = r"not|never|anything but|far from|in no way|hardly|nothing|nobody|at no point|cannot"
    bases = {label: adjectives(label) | {base for _, base in words.VERBS[label]} for label in (0, 1)}
    for example in generate_reviews(300, seed=2, difficulty=["negation"]).examples:
        denial = re.split(r", and ", example.fields["text"].lower())[0]
        assert re.search(denials, denial), denial
        assert any(phrase in denial for phrase in bases[1 - example.label]), denial


def test_irrelevant_verdict_follows_the_lead():
    for example in generate_reviews(300, seed=2, difficulty=["irrelevant"]).examples:
        verdict = re.split(r"; for our part, |(?:After|Unlike) [^,]*, ", example.fields["text"])[-1]
        assert said(verdict, example.label) and not said(verdict, 1 - example.label), example


def test_no_word_counts_for_both_sides():
    for domain in words.DOMAINS:
        for group in domain.groups:
            assert not set(group.good) & set(group.bad)
            assert len(set(group.nouns)) == len(group.nouns)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"n": 0}, "expected n of at least 1, got 0"),
        ({"n": 5, "split": "dev"}, "unknown split 'dev'"),
        ({"n": 5, "difficulty": ["negaton"]}, "unknown difficulty level 'negaton' (did you mean 'negation'?)"),
        ({"n": 5, "difficulty": []}, "expected at least one difficulty level"),
    ],
)
def test_wrong_arguments(arguments, expected):
    with pytest.raises(DataError) as caught:
        generate_reviews(**arguments)
    assert expected in str(caught.value)


def test_exhausted_grammar(monkeypatch):
    monkeypatch.setattr(
        "robustexit.data.reviews._LEVELS", {"plain": lambda writer, label: ["one two three four five six"]}
    )
    monkeypatch.setattr("robustexit.data.reviews._ATTEMPTS", 5)
    with pytest.raises(DataError, match="no unused text left at level 'plain'"):
        generate_reviews(9, difficulty=["plain"])
