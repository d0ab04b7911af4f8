"""CheckList's contractions and numbers: where TextAttack's own fail, and that they agree where those do not."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robustexit.attacks.components.checklist import ChangeNumber, Contract
from robustexit.attacks.textattack_api import AttackedText, WordSwapChangeNumber, WordSwapContract


def candidates(transformation, text, indices=None):
    np.random.seed(0)
    return [made.text for made in transformation(AttackedText(text), indices_to_modify=indices)]


def test_contractions_do_not_depend_on_what_stands_before_them():
    text = "it is not good and they are bad"
    assert candidates(Contract(), text) == candidates(WordSwapContract(), text)
    behind = {3, 4, 5, 6, 7}
    assert candidates(WordSwapContract(), text, behind) == []
    assert candidates(Contract(), text, behind) == ["it is not good and they're bad"]
    assert candidates(Contract(), text, {0, 2, 5}) == []  # both words must be open


def test_numbers_change_as_in_textattack_where_it_works():
    for text in ("I am 12 years old", "twenty-five men and 1998 years", "zero, 2 and 4 stay", "no number", "three"):
        assert candidates(ChangeNumber(), text) == candidates(WordSwapChangeNumber(), text)
    assert len(candidates(ChangeNumber(), "I am 12 years old")) == 3
    assert candidates(ChangeNumber(), "zero, 2 and 4 stay") == []


@pytest.mark.parametrize("text", ["10² people ²", "9" * 22 + " people", "9" * 400, "5000000000000000000 people"])
def test_numbers_that_textattack_fails_on_are_left_alone(text):
    with pytest.raises((ValueError, OverflowError)):
        candidates(WordSwapChangeNumber(), text)
    assert candidates(ChangeNumber(), text) == []


def test_words_that_hold_a_number_are_no_numbers():
    assert any("standout" not in made for made in candidates(WordSwapChangeNumber(), "the one standout film"))
    changed = candidates(ChangeNumber(), "the one standout film")
    assert changed and all(made.endswith(" standout film") for made in changed)
    assert candidates(ChangeNumber(), "often someone had money and a disappointing hand") == []


def test_every_word_of_the_old_number_goes_and_no_word_of_the_new():
    assert any(made.endswith("hundred people") for made in candidates(WordSwapChangeNumber(), "one hundred people"))
    np.random.seed(3)
    drawn = np.random.randint(1, 201, 3)
    np.random.seed(3)
    made = [t.text for t in ChangeNumber()(AttackedText("one hundred people"))]
    from num2words import num2words

    assert made == [f"{num2words(number)} people" for number in drawn]


def test_runs_of_numbers_are_no_number():
    assert any(made == "one " for made in candidates(WordSwapChangeNumber(), "one two three four five"))
    assert candidates(ChangeNumber(), "one two three four five") == []
    assert all(made.endswith(" and only") for made in candidates(ChangeNumber(), "one and only"))


def test_the_words_of_a_number_are_joined_whatever_order_a_set_has():
    text = "a b c d e f g twenty five men"
    places = frozenset({7, 8})
    assert list(places) == [8, 7]  # the premise: this set does not iterate in order
    assert all(
        made.split()[7] != "twenty" or made.split()[8] == "men" for made in candidates(ChangeNumber(), text, places)
    )
    assert candidates(ChangeNumber(), text, places) == candidates(ChangeNumber(), text)


WORDS = "one two hundred thousand million billion and point twenty thirty-five 7 2 ² 10² ٣ standout -- a 00 zero , ."


@settings(deadline=None, max_examples=300)
@given(st.lists(st.sampled_from(WORDS.split()), max_size=9).map(" ".join), st.integers(0, 99))
def test_no_text_is_an_error_and_words_beside_numbers_stay(text, seed):
    np.random.seed(seed)
    for made in ChangeNumber()(AttackedText(text)):
        assert made.text.count("standout") == text.count("standout")
        assert " a " not in text or " a " in f" {made.text} "
