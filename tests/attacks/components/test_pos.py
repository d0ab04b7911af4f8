"""Parts of speech: NLTK's tagger as NLTK names it today, and the tagger made from WordNet."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest

from robustexit.attacks import resources, textattack_api
from robustexit.attacks.components import pos
from robustexit.attacks.components.install import prepared
from robustexit.attacks.components.pos import Lexicon, LexiconPartOfSpeech, LexiconTagger
from robustexit.attacks.textattack_api import AttackedText, PartOfSpeech, attack_recipes, no_nltk_downloads
from robustexit.errors import ResourceError

FILES = {
    "index.sense": "".join(
        f"{lemma}%{kind}:00:00:: 0 1 {count}\n"
        for lemma, kind, count in [
            ("film", 1, 20),
            ("film", 2, 1),
            ("watch", 2, 9),
            ("watch", 1, 5),
            ("funny", 3, 7),
            ("happy", 5, 3),
            ("go", 2, 99),
            ("quick", 3, 4),
            ("quickly", 4, 6),
            ("stop", 2, 8),
            ("hot_dog", 1, 3),
            ("child", 1, 40),
            ("city", 1, 30),
            ("bake", 2, 2),
        ]
    ),
    "noun.exc": "children child\n",
    "verb.exc": "went go\n",
    "adj.exc": "",
    "adv.exc": "",
}


@pytest.fixture
def tagger():
    return LexiconTagger(Lexicon.read(FILES.__getitem__))


def test_counts_and_forms_come_from_wordnet(tagger):
    lexicon = tagger._lexicon
    assert lexicon.tags("film") == pytest.approx({"NOUN": 20.1, "VERB": 1.1})
    assert lexicon.tags("films") == pytest.approx({"NOUN": 20.1, "VERB": 1.1})
    assert lexicon.tags("children") == pytest.approx({"NOUN": 40.1})
    assert lexicon.tags("went") == pytest.approx({"VERB": 99.1})
    assert set(lexicon.tags("cities")) == {"NOUN"}
    assert set(lexicon.tags("baking")) == set(lexicon.tags("baked")) == {"VERB"}
    assert set(lexicon.tags("stopped")) == {"VERB"}
    assert set(lexicon.tags("funnier")) == set(lexicon.tags("happiest")) == {"ADJ"}
    assert lexicon.tags("hot_dog") == lexicon.tags("zzz") == {}


@pytest.mark.parametrize(
    ("text", "tags"),
    [
        ("the film", "DET NOUN"),
        ("they film the city", "PRON VERB DET NOUN"),
        ("I will watch", "PRON VERB VERB"),
        ("watch", "VERB"),
        ("to film children", "PRT VERB NOUN"),
        ("a watch", "DET NOUN"),
        ("a funny film went quickly", "DET ADJ NOUN VERB ADV"),
        ("its 12 children", "PRON NUM NOUN"),
        ("Xyzzy and the Abc", "NOUN CONJ DET NOUN"),
        ("zappish blorkness gleefully zorbed", "ADJ NOUN ADV VERB"),
        ("much quick watch", "ADV ADJ NOUN"),
        ("more film", "ADJ NOUN"),
        ("she went down", "PRON VERB PRT"),
        ("down the city", "ADP DET NOUN"),
        ("child-friendly", "ADJ"),
        ("they know that the film went", "PRON NOUN ADP DET NOUN VERB"),
        ("??", "X"),
        ("", ""),
    ],
)
def test_words_are_tagged_by_lexicon_and_place(tagger, text, tags):
    assert tagger.tag(text.split()) == tags.split()


def write_wordnet(folder: Path) -> Path:
    for name in resources.wordnet.WORDNET_FILES:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(FILES.get(name, ""))
    return folder


@pytest.fixture
def no_tagger(bare, tmp_path, monkeypatch):
    """WordNet alone, as in FILES, and no NLTK folder that NLTK had loaded before."""
    monkeypatch.setattr(resources.places, "nltk_folders", lambda: [tmp_path / "nltk"])
    monkeypatch.setattr(resources.wordnet, "DEBIAN_WORDNET", write_wordnet(tmp_path / "wordnet"))
    pos._tagger.cache_clear()
    yield tmp_path
    pos._tagger.cache_clear()


def test_the_tagger_stands_in_where_wordnet_is(no_tagger, monkeypatch):
    found = resources.find("pos-tagger")
    assert (found.found, found.substitute) == (False, "lexicon-tagger")
    assert pos.lexicon_tagger().tag(["the", "children"]) == ["DET", "NOUN"]
    monkeypatch.setattr(resources.wordnet, "DEBIAN_WORDNET", no_tagger / "nowhere")
    missing = resources.find("pos-tagger")
    assert not missing.usable and "averaged_perceptron_tagger_eng" in missing.how_to_get


def test_nltk_s_packed_wordnet_is_read(no_tagger):
    (no_tagger / "nltk" / "corpora").mkdir(parents=True)
    with zipfile.ZipFile(no_tagger / "nltk" / "corpora" / "wordnet.zip", "w") as archive:
        for name, text in FILES.items():
            archive.writestr(f"wordnet/{name}", text)
    assert resources.find("wordnet").where == str(no_tagger / "nltk")
    assert pos.wordnet_text("noun.exc") == "children child\n"
    with pytest.raises(ResourceError, match=r"expected WordNet's file index\.verb, found none"):
        pos.wordnet_text("index.verb")


def swapped(text, place, word):
    new = text.replace_word_at_index(place, word)
    new.attack_attrs.update(newly_modified_indices={place}, last_transformation=None)
    return new


def test_the_constraint_compares_tags_in_context(no_tagger):
    with prepared(["pos-tagger"]):
        constraint = attack_recipes.textfooler_jin_2019.PartOfSpeech(allow_verb_noun_swap=True)
        strict = attack_recipes.a2t_yoo_2021.PartOfSpeech(allow_verb_noun_swap=False)
        flair = attack_recipes.textfooler_jin_2019.PartOfSpeech.__call__
    assert isinstance(constraint, LexiconPartOfSpeech) and flair
    assert attack_recipes.textfooler_jin_2019.PartOfSpeech is PartOfSpeech
    text = AttackedText("the film went quickly, a funny film")
    assert constraint._check_constraint(swapped(text, 1, "city"), text)
    assert not constraint._check_constraint(swapped(text, 1, "funny"), text)
    assert not constraint._check_constraint(swapped(text, 3, "happy"), text)
    assert constraint._check_constraint(swapped(text, 1, "go"), text)
    assert not strict._check_constraint(swapped(text, 1, "go"), text)
    # The second "film" has a tag of its own, that of its place, not that of the first.
    assert constraint._get_pos(["film", "the"], "film", []) == "NOUN"


def test_nltk_s_tagger_needs_its_new_name(no_tagger, monkeypatch):
    """TextAttack fetches the tagger under a name whose data NLTK no longer reads: its constraint then fails."""
    from nltk import tag

    old = no_tagger / "nltk" / "taggers" / "averaged_perceptron_tagger"
    old.mkdir(parents=True)
    (old / "averaged_perceptron_tagger.pickle").touch()
    monkeypatch.setitem(tag.perceptron.find.__globals__, "path", [str(no_tagger / "nltk")])
    tag._get_tagger.cache_clear()
    text = AttackedText("the film went quickly")
    try:
        with pytest.raises(LookupError):
            PartOfSpeech()._check_constraint(swapped(text, 1, "city"), text)
        assert resources.find("pos-tagger").substitute == "lexicon-tagger"
        with prepared(["pos-tagger"]):
            ours = attack_recipes.textfooler_jin_2019.PartOfSpeech()
        assert ours._check_constraint(swapped(text, 1, "city"), text)
    finally:
        tag._get_tagger.cache_clear()


def test_the_tagger_is_fetched_by_its_new_name(monkeypatch):
    import nltk

    asked = []
    monkeypatch.setattr(textattack_api, "_stock_nltk_download", lambda package, *_, **__: asked.append(package))
    monkeypatch.setenv("ROBUSTEXIT_ALLOW_NETWORK", "1")
    with no_nltk_downloads():
        for package in ("averaged_perceptron_tagger", "universal_tagset"):
            nltk.download(package)
    assert asked == ["averaged_perceptron_tagger_eng", "universal_tagset"]
    monkeypatch.delenv("ROBUSTEXIT_ALLOW_NETWORK")
    with no_nltk_downloads():
        nltk.download("averaged_perceptron_tagger")
    assert len(asked) == 2


def test_the_configured_tagger_is_shown_to_nltk(bare, real_data, monkeypatch):
    import nltk

    monkeypatch.setattr(nltk.data, "path", [])
    resources.configure({"pos-tagger": real_data / "nltk_data"})
    assert resources.find("pos-tagger").found
    with prepared(["pos-tagger"]):
        assert attack_recipes.textfooler_jin_2019.PartOfSpeech is PartOfSpeech
    assert nltk.data.path == [str(real_data / "nltk_data")]


def test_it_agrees_with_nltk_s_tagger_on_most_words(real_data, monkeypatch):
    import nltk

    if not resources.find("wordnet").found:
        pytest.skip(f"needs WordNet: {resources.find('wordnet').where}")
    # The list that the tagger itself reads: other tests let nltk.data be imported anew.
    monkeypatch.setitem(nltk.tag.perceptron.find.__globals__, "path", [str(real_data / "nltk_data")])
    nltk.tag._get_tagger.cache_clear()
    lines = (real_data / "sst2" / "validation.jsonl").read_text(encoding="utf-8").splitlines()[:200]
    total = same = swappable = 0
    for line in lines:
        words = textattack_api.words_from_text(json.loads(line)["text"])
        theirs = [tag for _, tag in nltk.pos_tag(words, tagset="universal")]
        for one, other in zip(theirs, pos.lexicon_tagger().tag(words), strict=True):
            total += 1
            same += one == other
            swappable += one == other or {one, other} == {"NOUN", "VERB"}
    assert same / total > 0.86 and swappable / total > 0.90
