from __future__ import annotations

import json

import numpy as np
import pytest

from robustexit.attacks import check, effective_name, make_recipe, recipes, resources
from robustexit.attacks.attempt import Attacker
from robustexit.attacks.recipes.sets import MAX_TEXTS
from robustexit.attacks.sets import make_set, perturbation_sets
from robustexit.data.types import Example
from robustexit.errors import ConfigError, ResourceError

TYPOS = "not nto noct\nfilm flim fiml\ngreat graet\nslow solw sloww\n"
WORDS = "not film great slow a the"


@pytest.fixture
def of_files(tmp_path):
    (tmp_path / "typos.txt").write_text(TYPOS)
    (tmp_path / "words.txt").write_text(WORDS)
    return {"dictionary": str(tmp_path / "typos.txt"), "words": str(tmp_path / "words.txt")}


def test_every_set_has_a_recipe_and_every_recipe_its_paper():
    assert [name for name in recipes if name.startswith("set-")] == [f"set-{name}" for name in perturbation_sets]
    for name in perturbation_sets:
        recipe = recipes.get(f"set-{name}")
        assert recipe.citation and recipe.bibtex_key and recipe.url.startswith("https://")
        assert recipe.needs == make_set(name).needs and recipe.space == f"set: {name}"
        assert recipe.settings["edits"] == 1 and recipe.settings["max_texts"] == MAX_TEXTS
        assert json.loads(json.dumps(recipe.settings)) == recipe.settings  # for the manifest


def test_parameters_are_the_sets(of_files):
    recipe = make_recipe("set-contractions", edits=3, search="exhaustive")
    assert effective_name(recipe) == "set-contractions(edits=3, search=exhaustive)"
    assert make_recipe("set-typos", **of_files).needs == ()
    assert make_recipe("set-typos", dictionary=of_files["dictionary"]).needs == ("wordnet",)
    assert make_recipe("set-typos").with_parameters(**of_files).with_parameters(edits=2).needs == ()
    with pytest.raises(ConfigError, match=r"no parameter 'edit' \(did you mean 'edits'\?\)"):
        make_recipe("set-contractions", edit=3)
    with pytest.raises(ConfigError, match="expected letters to put in"):
        make_recipe("set-any-character-edit", letters="1")


def test_what_is_missing_is_said(bare, monkeypatch, tmp_path):
    monkeypatch.delenv("_ROBUSTEXIT_CONFIGURED_RESOURCES", raising=False)
    status = check("set-typos")
    assert not status.ready and "typo-dictionary" in status.missing
    with pytest.raises(ResourceError, match="typo-dictionary is missing"):
        resources.require(["typo-dictionary"])


@pytest.mark.parametrize("search", ["own", "random-order", "restore", "exhaustive"])
@pytest.mark.parametrize("name", ["set-contractions", "set-neutral-sentence", "set-typos", "set-any-character-edit"])
def test_every_search_stays_on_the_set(bag, label_by, of_files, name, search):
    victim = bag(num_exits=2, gain=0.4)
    parameters = of_files if name == "set-typos" else {"letters": "ab"} if "character" in name else {}
    texts = (
        "It's slow, but it is not a great film and we are not fond of it.",
        "A film that does n't work , it 's slow .",
    )
    attacker = Attacker(victim, make_recipe(name, edits=2, search=search, **parameters))
    chosen = make_set(name.removeprefix("set-"), edits=2, **parameters)
    for example in label_by(victim, texts):
        result = attacker.attempt(example, dataset="d", seed=1)
        assert result.error is None
        space = chosen.around(example.fields)
        assert result.text_attacked in space
        if result.outcome == "succeeded":
            assert victim.trace([result.text_attacked])[0].answer != example.label
            assert space.choice_of(result.text_attacked)


def engine(bag, name, fields, protected=(), **parameters):
    """The parts of one attack that has begun."""
    attacker = Attacker(bag(), make_recipe(name, **parameters))
    attacker.attempt(Example("x", fields, 0), dataset="d", seed=0, protected_fields=protected)
    parts = next(iter(attacker._engines.values()))
    parts.attack.begin()
    return parts.attack, parts.goal_function.initial_attacked_text


def test_words_keep_their_numbers_when_edits_move_them(bag):
    """Contracting the first two words moves the rest; a search that asks for word 5 still gets it."""
    attack, original = engine(bag, "set-contractions", {"text": "It is late and you are not here ."}, edits=3)
    assert original.words == ["It", "is", "late", "and", "you", "are", "not", "here"]
    assert attack.get_indices_to_order(original) == (3, [0, 4, 5])
    (first,) = attack.get_transformations(original, original_text=original, indices_to_modify=[0])
    assert first.text == "It 's late and you are not here ."
    assert first.words == ["It", "s", "late", "and", "you", "are", "not", "here"]
    (second,) = attack.get_transformations(first, original_text=original, indices_to_modify=[5])
    assert second.text == "It 's late and you are n't here ."
    assert second.attack_attrs["previous_attacked_text"] is first
    assert attack.get_transformations(second, original_text=original, indices_to_modify=[4]) == []  # overlaps
    plain, text = engine(bag, "set-contractions", {"text": "It is late and you are not here, it is!"}, edits=3)
    (joined,) = plain.get_transformations(text, original_text=text, indices_to_modify=[0])
    assert joined.words == ["It's", "late", "and", "you", "are", "not", "here", "it", "is"]
    assert joined.attack_attrs["original_index_map"].tolist() == [0, -1, 1, 2, 3, 4, 5, 6, 7, 8]
    assert joined.attack_attrs["modified_indices"] == {0}
    (moved,) = plain.get_transformations(joined, original_text=text, indices_to_modify=[5])
    assert moved.text == "It's late and you aren't here, it is!"
    assert moved.attack_attrs["original_index_map"].tolist() == [0, -1, 1, 2, 3, 4, -1, 5, 6, 7]
    assert moved.attack_attrs["modified_indices"] == {0, 4}


def test_the_original_word_map_is_textattacks_own(bag, of_files):
    attack, original = engine(bag, "set-typos", {"text": "a slow film , not great"}, edits=2, **of_files)
    for text in attack.get_transformations(original, original_text=original):
        word = original.all_words_diff(text)
        assert len(word) == 1
        (i,) = word
        stock = original.replace_word_at_index(i, text.words[i])
        assert stock.text == text.text
        for key in ("original_index_map", "modified_indices", "newly_modified_indices"):
            assert np.array_equal(stock.attack_attrs[key], text.attack_attrs[key])


def test_at_most_so_many_edits(bag, of_files):
    attack, original = engine(bag, "set-typos", {"text": "a slow film"}, edits=2, **of_files)
    one = attack.get_transformations(original, original_text=original)
    assert [t.text for t in one] == ["a slow fiml", "a slow flim", "a sloww film", "a solw film"]
    two = attack.get_transformations(one[0], original_text=original)
    assert len(two) == 2
    assert attack.get_transformations(two[0], original_text=original) == []
    foreign = original.replace_word_at_index(0, "another")
    assert attack.get_transformations(foreign, original_text=original) == []


def test_a_sentence_is_appended_at_the_last_word(bag):
    attack, original = engine(bag, "set-neutral-sentence", {"text": "A fine film."})
    assert attack.get_indices_to_order(original) == (1, [2])
    found = attack.get_transformations(original, original_text=original, indices_to_modify=[2])
    assert len(found) == 10
    assert found[0].attack_attrs["original_index_map"].tolist() == [0, 1, 2]
    assert min(found[0].attack_attrs["modified_indices"]) == 3


def test_protected_fields_are_neither_ranked_nor_changed(bag, of_files):
    fields = {"premise": "a slow film", "hypothesis": "not great"}
    attack, original = engine(bag, "set-typos", fields, ("premise",), **of_files)
    assert attack.get_indices_to_order(original) == (2, [3, 4])
    assert all(t.text.startswith("a slow film\n") for t in attack.get_transformations(original, original_text=original))
    attack, original = engine(bag, "set-typos", fields, ("hypothesis",), **of_files)
    assert attack.get_indices_to_order(original) == (2, [1, 2])


def test_records_repeat(bag, label_by, of_files):
    victim = bag(num_exits=2)
    for search in ("own", "random-order", "exhaustive"):
        attempts = [
            Attacker(victim, make_recipe("set-any-character-edit", letters="xyz", search=search)).attempt(
                example, dataset="d", seed=5
            )
            for _ in range(2)
            for example in label_by(victim)[:3]
        ]
        plain = [(a.outcome, a.text_attacked, a.queries, a.forwards) for a in attempts]
        assert plain[:3] == plain[3:]
