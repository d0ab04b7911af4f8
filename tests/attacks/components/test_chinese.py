"""The Chinese recipe's swaps, beside TextAttack's own."""

from __future__ import annotations

import pickle

import pytest

from robustexit.attacks.components.chinese import Homophones, Morphonyms, Sememes, counted_homophones, read_homophones
from robustexit.attacks.components.pickles import read_plain
from robustexit.attacks.textattack_api import ChineseHomophoneCharacterSwap, ChineseMorphonymCharacterSwap
from robustexit.errors import ResourceError


def differences(word, other):
    return sum(a != b for a, b in zip(word, other, strict=True))


def test_one_character_of_a_word_is_replaced_by_one_of_like_shape():
    stock = ChineseMorphonymCharacterSwap()._get_replacement_words("延彦")
    assert any(differences("延彦", other) == 2 for other in stock)  # TextAttack's own replace more
    ours = Morphonyms()._get_replacement_words("延彦")
    assert ours == ["诞彦", "蜒彦", "延颜", "延谚"]
    assert Morphonyms()._get_replacement_words("film") == []


def test_the_table_of_homophones_is_read_where_textattack_fails(tmp_path):
    with pytest.raises((ValueError, FileNotFoundError)):
        ChineseHomophoneCharacterSwap()
    file = tmp_path / "table.txt"
    file.write_text("shi\t是\t时\t使\t事\t式\nma\t吗\t\t妈\n", "utf-8")
    table = read_homophones(file)
    assert table == {"shi": ["是", "时", "使", "事", "式"], "ma": ["吗", "妈"]}
    swap = Homophones(table)
    assert swap._get_replacement_words("世妈") == ["是妈", "时妈", "使妈", "世吗"]
    assert swap._get_replacement_words("a!") == []


def test_homophones_are_counted_from_what_is_installed():
    table = counted_homophones()
    assert table["de"][0] == "的" and table["wo"][0] == "我" and table["shi"][0] == "是"
    assert all(len(character) == 1 for characters in table.values() for character in characters)
    assert {"他", "她", "它"} <= set(table["ta"])


class Sense:
    """Hashed by identity, as OpenHowNet's are: their order in a set differs from process to process."""

    def __init__(self, number):
        self.No = number


class HowNet:
    def __init__(self, *results):
        self.results = results

    def get_nearest_words(self, word, language, K):
        return dict(self.results) if word == "电影" else {}


def test_the_first_sense_is_the_one_numbered_first_whatever_comes_first():
    first, other = (Sense("0900"), ["x", "影片"]), (Sense("10000"), ["x", "好"])
    for results in ((first, other), (other, first)):
        swap = Sememes(HowNet(*results))
        assert swap._get_replacement_words("电影") == ["影片"]
        assert swap._get_replacement_words("无") == []


class Harmful:
    def __reduce__(self):
        return print, ("run",)


def test_pickles_of_others_make_nothing_but_plain_data(tmp_path, capsys):
    from collections import OrderedDict, defaultdict

    plain = {"good": defaultdict(list, adj=["fine"]), "b": OrderedDict(noun=["x"]), "c": {1, 2.5, None}}
    file = tmp_path / "bank.pkl"
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        file.write_bytes(pickle.dumps(plain, protocol))
        assert read_plain(file) == plain
    for content in (pickle.dumps(Harmful()), pickle.dumps(plain)[:-20], b"no pickle"):
        file.write_bytes(content)
        with pytest.raises(ResourceError, match="cannot read"):
            read_plain(file)
    assert capsys.readouterr().out == ""
