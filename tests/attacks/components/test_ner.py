"""Names of people and places: the rules, and TextAttack's two swaps over them and over flair."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robustexit.attacks.components.ner import ChangeLocation, ChangeName, rule_ner
from robustexit.attacks.components.tagged import Tag
from robustexit.attacks.textattack_api import (
    NAMED_ENTITIES,
    PERSON_NAMES,
    AttackedText,
    WordSwapChangeLocation,
    words_from_text,
)


def names(text, language="en"):
    """The names found, as word -> tag, in order."""
    tags = rule_ner(language).tags(text)
    return [(word, tag.value) for word, tag in zip(words_from_text(text), tags, strict=True) if tag.value != "O"]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("I am in Dallas.", [("Dallas", "S-LOC")]),
        ("I am John Smith.", [("John", "B-PER"), ("Smith", "E-PER")]),
        ("we met John F. Kennedy there", [("John", "B-PER"), ("F", "I-PER"), ("Kennedy", "E-PER")]),
        ("then Mr. Grace came, and Michael left", [("Grace", "S-PER"), ("Michael", "S-PER")]),
        ("they live in New York, and work in Reading", [("New", "B-LOC"), ("York", "E-LOC"), ("Reading", "S-LOC")]),
        ("France won, said the small man", [("France", "S-LOC")]),
        ("we saw that Paris Hilton film", [("Paris", "B-PER"), ("Hilton", "E-PER")]),
        ("a director named Steven Szplbrg made it", [("Steven", "B-PER"), ("Szplbrg", "E-PER")]),
    ],
)
def test_names_are_found_by_list_and_context(text, found):
    assert names(text) == found


@pytest.mark.parametrize(
    "text",
    [
        "michael lives in dallas with john smith",  # no capitals
        "Grace and Hope are what it lacks; it will Mark an era",  # names that are words
        "It opens in May, on a Sunday.",
        "the Wells Fargo Bank and the Ford Motor Co",
        "we went to Star Trek and the Baby Mobile",
        "Michael Left Early Again",  # a headline
        "",
        "!",
        "中文 句子",
    ],
)
def test_what_is_no_name_is_left_alone(text):
    assert names(text) == []


def test_capitals_of_a_headline_need_more_than_a_first_name():
    assert names("Old Friends Meet Michael Jordan Again") == [("Michael", "B-PER"), ("Jordan", "E-PER")]
    assert names("Big Storm Hits Dallas Very Hard") == []
    assert names("Big Storm Hits Homes In Dallas Now") == [("Dallas", "S-LOC")]


RICA = [("Costa", "B-LOC"), ("Rica", "E-LOC")]


@pytest.mark.parametrize(
    ("language", "text", "found"),
    [
        ("fr", "nous sommes en Allemagne avec M. Aaron", [("Allemagne", "S-LOC"), ("Aaron", "S-PER")]),
        ("fr", "la Roumanie est belle", [("Roumanie", "S-LOC")]),  # "Réunion<tab>Roumanie" in TextAttack's list
        (
            "es",
            "ella viaja siempre a Costa Rica con Carmen",
            [("Costa", "B-LOC"), ("Rica", "E-LOC"), ("Carmen", "S-PER")],
        ),
        ("es", "viajo a Chequia", [("Chequia", "S-LOC")]),  # "República Checa / Chequia"
    ],
)
def test_other_languages_have_their_own_lists(language, text, found):
    assert names(text, language) == found


PARTS = [
    "Michael",
    "Jordan",
    "in",
    "New",
    "York",
    "Mr.",
    ".",
    ",",
    "Dallas",
    "it's",
    "J",
    "Inc",
    "中文",
    "--",
    "'",
    "The",
    "\n",
]


@settings(deadline=None, max_examples=150)
@given(
    st.one_of(
        st.text(max_size=60),
        st.lists(st.sampled_from(PARTS), max_size=14).map(" ".join),
    )
)
def test_every_word_has_one_tag_of_the_scheme(text):
    values = [tag.value for tag in rule_ner("en").tags(text)]
    assert len(values) == len(words_from_text(text))
    for before, tag in zip(["O", *values], [*values, "O"], strict=True):
        kind = tag.partition("-")[2]
        inside = before[0] in "BI"
        assert (tag[0] in "IE") == inside, values  # a name begins with B or S, and B is followed up to E
        assert not inside or kind == before.partition("-")[2]


def swapped(transformation, text, indices=None):
    np.random.seed(0)
    made = transformation(AttackedText(text), indices_to_modify=indices)
    return [candidate.text for candidate in made]


def test_names_and_places_are_swapped_for_others_of_their_list():
    tags = rule_ner("en").tags
    people = swapped(ChangeName(tags), "he is John Smith of old")
    assert len(people) == 6
    assert {text.split()[2] for text in people[:3]} <= set(PERSON_NAMES["first"])
    assert {text.split()[3] for text in people[3:]} <= set(PERSON_NAMES["last"])
    places = swapped(ChangeLocation(tags), "a man in New York cried")
    assert len(places) == 3 and "a man in New York cried" not in places
    assert all(text.removeprefix("a man in ").removesuffix(" cried") in NAMED_ENTITIES["city"] for text in places)


def test_the_words_of_a_place_are_joined_whatever_order_a_set_has():
    text = "one two three four five six seven New York was it"
    places = frozenset({7, 8})
    assert list(places) == [8, 7]  # the premise: this set does not iterate in order
    tags = rule_ner("en").tags
    stock = WordSwapChangeLocation()
    tagged = AttackedText(text)
    tagged.ner_of_word_index = lambda i, model: tags(text)[i]
    # TextAttack's own sees "York" and "New" apart, and has a city of York.
    assert all(" New " in made.text for made in stock(tagged, indices_to_modify=places))
    assert not any(" New " in made for made in swapped(ChangeLocation(tags), text, places))


def test_entries_with_alternatives_are_found_and_drawn_one_at_a_time():
    swap = ChangeLocation(rule_ner("es").tags, language="esp")
    made = swapped(swap, "viajo a Chequia con gusto")
    assert len(made) == 3 and not any("/" in text for text in made)
    monkey = [swap._get_new_location("Chequia") for _ in range(200)]
    assert not any("/" in place or "\t" in place for places in monkey for place in places)
    assert any(place == "Birmania" for places in monkey for place in places)  # of "Birmania / Myanmar"


def test_draws_come_from_the_seeded_generator():
    swap = ChangeName(rule_ner("en").tags)
    assert swapped(swap, "so I met Michael") == swapped(swap, "so I met Michael")


@pytest.fixture(scope="module")
def flair_file(tmp_path_factory):
    """A flair tagger that has learnt one sentence by heart, in the tag scheme of flair's own."""
    import flair
    import torch
    from flair.data import Dictionary, Sentence
    from flair.embeddings import OneHotEmbeddings
    from flair.models import SequenceTagger

    torch.manual_seed(0)
    sentence = Sentence(["so", "John", "Smith", "saw", "Dallas"], use_tokenizer=False)
    sentence[1:3].add_label("ner", "PER")
    sentence[4:5].add_label("ner", "LOC")
    vocabulary, tags = Dictionary(), Dictionary(add_unk=False)
    for token in sentence:
        vocabulary.add_item(token.text)
    for tag in ("PER", "LOC"):
        tags.add_item(tag)
    tags.span_labels = True
    flair.device = torch.device("cpu")
    embeddings = OneHotEmbeddings(vocabulary, embedding_length=16)
    tagger = SequenceTagger(embeddings, tags, tag_type="ner", use_rnn=False, use_crf=False, reproject_embeddings=False)
    optimizer = torch.optim.Adam(tagger.parameters(), lr=0.1)
    for _ in range(60):
        optimizer.zero_grad()
        sentence.clear_embeddings()
        loss, _ = tagger.forward_loss([sentence])
        loss.backward()
        optimizer.step()
    file = tmp_path_factory.mktemp("flair") / "tagger.pt"
    tagger.save(file)
    return file


def test_tags_of_the_installed_flair_are_those_that_textattack_reads(flair_file, monkeypatch):
    """TextAttack compares tags with "B-PER" and "S-LOC": another format would silently leave no candidates."""
    from robustexit.attacks.textattack_api import load_flair_tagger, strings

    monkeypatch.setattr(strings, "_flair_taggers", {})
    load_flair_tagger("ner", flair_file)
    text = AttackedText("so John Smith saw Dallas")
    found = [text.ner_of_word_index(i) for i in range(5)]
    assert [tag.value for tag in found] == ["O", "B-PER", "E-PER", "O", "S-LOC"]
    assert all(tag.score > 0.7 for tag in found if tag.value != "O")
    assert len(swapped(ChangeName(None), "so John Smith saw Dallas")) == 6
    assert len(swapped(ChangeLocation(None), "so John Smith saw Dallas")) == 3
    assert Tag("S-PER", 1.0).value == "S-PER"
