"""PSO's words: HowNet's bank, or WordNet's synonyms of the same part of speech."""

from __future__ import annotations

import pickle

import pytest

from robustexit.attacks import check, resources
from robustexit.attacks.components.hownet import SememeSwap, WordNetBank
from robustexit.attacks.components.install import prepared
from robustexit.attacks.textattack_api import AttackedText, WordSwapHowNet, attack_recipes
from robustexit.errors import ResourceError

needs_wordnet = pytest.mark.skipif(
    not resources.find("wordnet").found, reason=f"needs WordNet: {resources.find('wordnet').where}"
)
BANK = {
    "good": {"adj": ["fine", "nice", "very fine"], "noun": ["merit"], "adv": [], "verb": []},
    "film": {"noun": ["movie"], "verb": ["shoot"]},
}
TAGS = {"good": "ADJ", "Good": "ADJ", "film": "NOUN", "FILM": "NOUN", "the": "DET"}


def tag(words):
    return [TAGS.get(word, "X") for word in words]


def swapped(swap, text):
    return [made.text for made in swap(AttackedText(text))]


def test_words_of_the_same_part_of_speech_are_swapped_in_with_their_case():
    swap = SememeSwap(BANK, tag)
    assert swapped(swap, "Good the FILM, odd") == ["Fine the FILM, odd", "Nice the FILM, odd", "Good the MOVIE, odd"]
    assert swapped(SememeSwap(BANK, tag, max_candidates=1), "good") == ["fine"]
    assert swapped(swap, "") == swapped(swap, "中文 句子") == []


def test_the_bank_is_textattack_s_search_space():
    """With the same bank and tags TextAttack's own class makes the same candidates."""
    stock = WordSwapHowNet.__new__(WordSwapHowNet)
    stock.max_candidates, stock.candidates_bank, stock.pos_dict = -1, BANK, SememeSwap(BANK, tag).pos_dict
    text = AttackedText("Good the FILM, odd")
    text.pos_of_word_index = lambda i: tag(text.words)[i]
    assert [made.text for made in stock(text)] == swapped(SememeSwap(BANK, tag), text.text)


def test_hownet_s_bank_is_used_where_it_is_and_read_as_plain_data(tmp_path, monkeypatch, film_tagger):
    monkeypatch.setenv("TA_CACHE_DIR", str(tmp_path))
    file = tmp_path / "transformations" / "hownet" / "word_candidates_sense.pkl"
    file.parent.mkdir(parents=True)
    file.write_bytes(pickle.dumps(BANK))
    monkeypatch.setattr(resources.upos_tagger, "pos_tagger", lambda: _resource("pos-tagger", found=True))
    assert check("pso").effective_name.endswith("+nltk-pos") and "wordnet" not in check("pso").effective_name
    monkeypatch.setattr("robustexit.attacks.components.hownet._tags", tag)
    with prepared(["hownet"]):
        swap = attack_recipes.pso_zang_2020.WordSwapHowNet()
    assert swapped(swap, "good film") == ["fine film", "nice film", "good movie"]
    file.write_bytes(pickle.dumps(print))
    with pytest.raises(ResourceError, match=r"word_candidates_sense.pkl \(holds builtins.print"), prepared(["hownet"]):
        pass


def _resource(name, found):
    return resources.Resource(name, found, "here", None, "get it")


@needs_wordnet
def test_wordnet_s_synonyms_stand_in_part_by_part():
    assert check("pso").effective_name.count("+wordnet-synonyms") == (not resources.find("hownet").found)
    with prepared(["wordnet"]):
        bank = WordNetBank()
        assert "movie" in bank["film"]["noun"] and "movie" not in bank["film"]["verb"]
        assert "shoot" in bank["film"]["verb"]
        assert bank["film"]["noun"][0] == "movie"  # the most frequent sense first
        assert bank["xyzzy"] == {"adj": [], "noun": [], "adv": [], "verb": []}
        swap = SememeSwap(bank, tag)
        made = swapped(swap, "the Good film")
    assert "the Good movie" in made and "the Good shoot" not in made
    assert all("_" not in text for text in made) and "the Good film" not in made
    assert any(text.startswith("the Skillful") for text in made)
