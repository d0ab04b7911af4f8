from __future__ import annotations

import random
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robustexit.attacks import resources
from robustexit.attacks.sets import make_set, perturbation_sets
from robustexit.attacks.sets.character_edits import single_edits
from robustexit.attacks.sets.neutral_sentence import SENTENCES
from robustexit.attacks.sets.numbers import near
from robustexit.attacks.sets.words import lexicon, word_spans
from robustexit.errors import ConfigError, ResourceError

NAMES = [
    "any-character-edit",
    "character-edits",
    "contractions",
    "entities",
    "neutral-sentence",
    "numbers",
    "synonyms",
    "typos",
]
TYPOS = """not now noct nto note dont'n nottt
good god goood gppd
great graet grate
film flim fiml
well wel
will wel willl
is isn't iss
don't dont
"""
WORDS = "good god great grate film note well will now plot made the a of"


@pytest.fixture
def files(tmp_path):
    (tmp_path / "typos.txt").write_text(TYPOS)
    (tmp_path / "words.txt").write_text(WORDS)
    return {"dictionary": str(tmp_path / "typos.txt"), "words": str(tmp_path / "words.txt")}


@pytest.fixture
def wordnet():
    if not resources.find("wordnet").found:
        pytest.skip("no WordNet here: apt-get install wordnet-base wordnet-sense-index")


def texts(chosen, text):
    space = chosen.around({"text": text})
    return [space.text(choice)["text"] for choice in space.choices()][1:]


def test_every_set_says_whether_it_is_sound_and_why():
    assert perturbation_sets.names() == NAMES
    for name in NAMES:
        chosen = make_set(name)
        assert chosen.name == name and chosen.source and chosen.why and chosen.edits == 1
        assert chosen.sound == (not chosen.why.startswith("not sound"))
    assert [name for name in NAMES if not make_set(name).sound] == ["any-character-edit", "synonyms"]
    assert make_set("entities").sound_for == make_set("numbers").sound_for == ("sentiment",)
    assert make_set("contractions").sound_for == ("any",)


def test_parameters_are_checked(files):
    with pytest.raises(ConfigError, match="unknown perturbation set 'typo'"):
        make_set("typo")
    with pytest.raises(ConfigError, match=r"no parameter 'edit' \(did you mean 'edits'\?\)"):
        make_set("contractions", edit=2)
    with pytest.raises(ConfigError, match="whole number of at least 1 for edits, got 0"):
        make_set("contractions", edits=0)
    with pytest.raises(ConfigError, match="expected letters to put in"):
        make_set("any-character-edit", letters="a1")
    with pytest.raises(ResourceError, match="expected a typo dictionary"):
        make_set("typos", dictionary="/nowhere", words=files["words"]).around({"text": "not"})


def test_resources_follow_from_parameters(files):
    assert make_set("typos").needs == ("wordnet", "typo-dictionary")
    assert make_set("typos", **files).needs == ()
    assert make_set("character-edits", words=files["words"]).needs == ()
    assert make_set("synonyms").needs == make_set("entities").needs == ("wordnet",)


def test_listing_sets_is_light():
    code = (
        "import sys; from robustexit.attacks.sets import perturbation_sets, make_set\n"
        "for name in perturbation_sets: make_set(name)\n"
        "heavy = {'textattack', 'nltk', 'torch', 'scipy', 'flair'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


# contractions


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("It is not good.", ["It's not good.", "It isn't good."]),
        ("He isn't here", ["He is not here"]),
        ("SHE IS NOT HERE", ["SHE'S NOT HERE", "SHE ISN'T HERE"]),
        ("I can't go, you cannot stay", ["I cannot go, you cannot stay", "I can't go, you can't stay"]),
        ("They won't", ["They will not"]),
        ("WE ARE not sure", ["WE'RE not sure", "WE Aren't sure"]),
        (
            "it 's a film that does n't work .",
            ["it is a film that does n't work .", "it 's a film that does not work ."],
        ),
        ("it is not good .", ["it 's not good .", "it is n't good ."]),
        ("she's been great", []),  # has, not is
        ("I'd go", []),  # had or would
        ("I know it is", []),  # nobody writes it's at the end
        ("they have money", []),  # have is the verb
        ("Nothing here", []),
        ("you’re right", ["you are right"]),
    ],
)
def test_contractions_by_hand(text, expected):
    assert sorted(texts(make_set("contractions"), text)) == sorted(expected)


def test_not_stays():
    for text in texts(make_set("contractions", edits=3), "It is not good and you are not kind, they can't see."):
        assert sum(text.count(negation) for negation in ("not", "n't")) == 3


# neutral sentences


def test_neutral_sentences_follow_the_style_of_the_text():
    chosen = make_set("neutral-sentence")
    assert texts(chosen, "A fine film.") == [f"A fine film. {sentence}" for sentence in SENTENCES]
    assert texts(chosen, "A fine film")[0] == f"A fine film. {SENTENCES[0]}"
    assert texts(chosen, "a fine film .")[0] == "a fine film . this text ends here ."
    assert texts(chosen, 'He said "go." ')[0] == f'He said "go." {SENTENCES[0]}'
    assert texts(chosen, "  ") == []


# numbers


def test_numbers_by_hand():
    chosen = make_set("numbers")
    assert texts(chosen, "It runs 90 minutes.") == [f"It runs {n} minutes." for n in near(90, 10)]
    assert near(10, 10) == [7, 8, 9, 11, 12, 13]
    assert near(0, 10) == [1] and near(1, 10) == [2] and near(3, 10) == [2, 4]
    assert len(near(2000, 10)) == 10 and min(near(2000, 10)) == 1599 and max(near(2000, 10)) == 2401
    assert near(2000, 1) == [1599]


@pytest.mark.parametrize(
    "text",
    [
        "7 stars",
        "8 out of 10",
        "8/10",
        "100 %",
        "it rates a 9",
        "i give it 3",
        "this is 4 you",
        "a 3.5",
        "a 90-minute film",
        "in the 1970s",
        "number 1 film",
        "two hours",
    ],
)
def test_numbers_that_rate_or_are_part_of_something_stay(text):
    assert texts(make_set("numbers"), text) == []


@given(st.integers(0, 5000), st.integers(1, 20))
def test_near_numbers(number, options):
    found = near(number, options)
    assert len(set(found)) == len(found) <= options and number not in found and min(found) >= 1
    assert all(abs(other - number) <= int(0.2 * number) + 1 for other in found)


# typos


def test_typos_by_hand(files):
    chosen = make_set("typos", **files)
    assert texts(chosen, "Not good") == ["Noct good", "Nto good", "Not goood"]
    assert texts(chosen, "great film") == ["graet film", "great flim", "great fiml"]
    assert texts(chosen, "well") == []  # wel is a typo of will as well
    assert texts(chosen, "it is") == ["it iss"]  # not isn't
    assert texts(chosen, "I don't") == ["I dont"]
    assert "nottt" in " ".join(texts(make_set("typos", slips=2, **files), "not"))


def test_one_typo_a_word_and_at_most_so_many_words(files):
    space = make_set("typos", edits=2, **files).around({"text": "not good , great film ."})
    for choice in space.choices():
        words, original = space.text(choice)["text"].split(), ["not", "good", ",", "great", "film", "."]
        assert len(words) == len(original)
        assert sum(new != old for new, old in zip(words, original, strict=True)) == len(choice) <= 2


def test_natural_typos_hold_no_word(real_data, wordnet):
    path = real_data / "words" / "natural_typos.txt"
    if not path.is_file():
        pytest.skip(f"no typo dictionary at {path}")
    from robustexit.attacks.sets.typos import sound_typos

    known, typos = lexicon(), sound_typos(str(path), "", 1)
    assert not [typo for found in typos.values() for typo in found if typo in known]
    assert len(typos) > 5000
    assert not {"now", "note", "nod", "no", "nor", "bot", "net", "nat"} & {*typos["not"]}
    assert "god" not in typos["good"] and "isn't" not in typos["is"]


def test_the_dictionary_may_be_configured(bare, files, monkeypatch):
    monkeypatch.delenv("_ROBUSTEXIT_CONFIGURED_RESOURCES", raising=False)
    monkeypatch.setenv("ROBUSTEXIT_RESOURCES", "")
    chosen = make_set("typos", words=files["words"])
    with pytest.raises(ResourceError, match="typo-dictionary is missing"):
        chosen.around({"text": "great"})
    resources.configure({"typo-dictionary": files["dictionary"]})
    assert texts(chosen, "great") == ["graet"]
    resources.configure({"typo-dictionary": str(bare)})
    assert "is a folder" in resources.find("typo-dictionary").where
    resources.configure({})


# characters


def test_single_edits_by_hand():
    found = set(single_edits("ab", "xy"))
    assert found == {"ba", "xb", "yb", "ax", "ay", "b", "a", "xab", "yab", "axb", "ayb", "abx", "aby"}
    assert list(single_edits("a", "xy")) == []


def test_deepwordbug_draws_from_the_set(files):
    from robustexit.attacks.textattack_api import AttackedText, stock_attack

    class Wrapper:
        model = None

    text = "It's a slow, un-funny film; I can't say more (2 hours)."
    attack = stock_attack("DeepWordBugGao2018", Wrapper(), {})
    space = make_set("any-character-edit").around({"text": text})
    original = AttackedText(text)
    random.seed(0), np.random.seed(0)
    drawn = {t.text for _ in range(60) for t in attack.transformation(original)}
    assert len(drawn) > 500
    assert not [new for new in drawn if {"text": new} not in space and new != text]
    small = make_set("any-character-edit", letters="abcdefghijklmnopqrstuvwxyz").around({"text": text})
    lowered = {small.text(choice)["text"].lower() for choice in small.choices()}
    assert {new.lower() for new in drawn} <= lowered  # what an uncased model sees


@settings(max_examples=100, deadline=None)
@given(st.text("abno't-", max_size=7))
def test_no_word_arises_from_character_edits(text):
    import tempfile
    from pathlib import Path

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "words.txt"
        path.write_text("a no not on ban bat bot nab tab ton boat")
        space = make_set("character-edits", letters="abnot", words=str(path)).around({"t": text})
        known = lexicon(str(path))
    for choice in space.choices():
        new = space.text(choice)["t"]
        if new != text:
            old_words = [text[s:e] for s, e in word_spans(text)]
            changed = [new[s:e] for s, e in word_spans(new)]
            assert len(changed) == len(old_words)
            different = [n for n, o in zip(changed, old_words, strict=True) if n != o]
            assert len(different) == 1 and different[0] not in known


def test_character_edits_of_not(wordnet):
    found = {new.split()[0] for new in texts(make_set("character-edits"), "not good") if new.endswith("good")}
    assert {"nto", "noot"} <= found
    assert not {"now", "no", "nod", "net", "note", "knot", "hot"} & found
    assert {"can'", "cant"}.isdisjoint(new.split()[0] for new in texts(make_set("character-edits"), "can't"))
    assert texts(make_set("character-edits"), "a 90") == []


# entities and synonyms


def test_entities_by_hand(wordnet):
    chosen = make_set("entities", options=2)
    assert texts(chosen, "set in Dallas") == ["set in New York", "set in Los Angeles"]
    assert texts(chosen, "set in dallas") == ["set in new york", "set in los angeles"]
    assert texts(chosen, "set in paris") == []  # a first name of the lists, and a city that is not in them
    assert len(texts(chosen, "new york is loud")) == 2
    assert texts(chosen, "with grace and hope, an orange rose in sessions") == []
    assert texts(chosen, "will smith") == []  # both are words
    swapped = texts(chosen, "Will Smith shines")
    assert len(swapped) == 4 and all(new.endswith("shines") for new in swapped)
    assert all((new.split()[0] == "Will") != (new.split()[1] == "Smith") for new in swapped)


def test_synonyms_are_textattacks(wordnet):
    from robustexit.attacks.components.install import prepared
    from robustexit.attacks.textattack_api import AttackedText, textattack

    with prepared(("wordnet",)):
        stock = textattack.transformations.WordSwapWordNet()
        text = "A slow film with great care"
        assert sorted(texts(make_set("synonyms"), text)) == sorted({t.text for t in stock(AttackedText(text))})


# all sets


@pytest.mark.parametrize("name", ["any-character-edit", "contractions", "neutral-sentence", "numbers", "typos"])
def test_protected_fields_stay(name, files):
    chosen = make_set(name, **(files if name == "typos" else {}), **({"letters": "ab"} if "char" in name else {}))
    fields = {"premise": "It is not good; 90 men.", "hypothesis": "He is not great; 80 men."}
    for protected in ((), ("premise",), ("hypothesis",), ("premise", "hypothesis")):
        space = chosen.around(fields, protected)
        assert {site.field for site in space.sites} == set(fields) - set(protected)
        for choice in space.choices():
            text = space.text(choice)
            assert list(text) == list(fields)
            assert all(text[name] == fields[name] for name in protected)


@settings(max_examples=60, deadline=None)
@given(st.text("isnot' cat.90", max_size=25), st.integers(1, 2))
def test_real_sets_count_revert_and_stay_within_their_edits(text, edits):
    from robustexit.attacks.sets import revert

    for name in ("contractions", "numbers", "neutral-sentence"):
        space = make_set(name, edits=edits).around({"t": text})
        choices = list(space.choices())
        assert len(choices) == space.size
        for choice in choices:
            new, replaced = space.edited(choice)
            assert revert(new, replaced) == {"t": text} and len(replaced) <= edits
