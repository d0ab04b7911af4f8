from __future__ import annotations

import hashlib
import json
import subprocess
import sys

import pytest

from robustexit.attacks import (
    check,
    check_combination,
    effective_name,
    get_view,
    make_goal,
    make_recipe,
    recipes,
    resources,
)
from robustexit.attacks.recipes import describe_recipes, describe_resources, hash_resources, require_ready
from robustexit.errors import ConfigError, ResourceError

NAMES = [
    "bad-characters-deletions",
    "bad-characters-homoglyphs",
    "bad-characters-invisible",
    "bad-characters-reorderings",
    "deepwordbug",
    "input-reduction",
    "pruthi",
    "pwws",
    "textfooler",
]


@pytest.fixture
def nothing_here(bare, monkeypatch, tmp_path):
    monkeypatch.setattr(resources.places, "nltk_folders", lambda: [])
    monkeypatch.setattr(resources.wordnet, "DEBIAN_WORDNET", tmp_path / "nowhere")
    monkeypatch.setattr(resources.homoglyphs, "stock_homoglyphs", lambda: tmp_path / "nowhere")


def test_every_recipe_is_listed_with_its_paper():
    assert set(NAMES) <= set(recipes.names())
    for name in recipes:
        recipe = recipes.get(name)
        assert recipe.citation and recipe.bibtex_key and recipe.url.startswith("https://")


@pytest.mark.parametrize(
    ("name", "recorded"),
    [
        ("deepwordbug", "deepwordbug+robustexit-stopwords"),
        ("bad-characters-homoglyphs", "bad-characters-homoglyphs+robustexit-homoglyphs"),
        ("bad-characters-invisible", "bad-characters-invisible"),
        ("checklist", "checklist+rule-ner"),
    ],
)
def test_substituted_resources_stand_in_the_name(nothing_here, monkeypatch, name, recorded):
    monkeypatch.setattr(resources.sentence_encoder, "_PACKAGE", "json")  # installed everywhere
    assert effective_name(name) == recorded
    assert check(name).effective_name == recorded


def test_check_says_what_is_missing(nothing_here):
    status = check("pwws")
    assert (status.ready, status.missing) == (False, ("wordnet",))
    assert status.substitutes == ("robustexit-stopwords",)
    assert "apt-get install" in status.fix
    assert check("deepwordbug").ready and check("deepwordbug").fix is None


def test_a_recipe_that_cannot_run_is_refused(nothing_here):
    assert require_ready("deepwordbug") == "deepwordbug+robustexit-stopwords"
    with pytest.raises(ResourceError, match="counter-fitted-vectors is missing"):
        require_ready("textfooler")


def test_parameters_stand_in_the_name_and_are_checked():
    recipe = make_recipe("bad-characters-invisible", popsize=3, maxiter=10)
    assert recipe.settings == {"perturbs": 1, "popsize": 3, "maxiter": 10}
    assert effective_name(recipe) == "bad-characters-invisible(popsize=3)"
    with pytest.raises(ConfigError, match=r"no parameter 'popsiz' \(did you mean 'popsize'\?\); expected one of"):
        make_recipe("bad-characters-invisible", popsiz=3)
    with pytest.raises(ConfigError, match="must be a whole number from 1 on, got 0"):
        make_recipe("pruthi", max_num_word_swaps=0)
    with pytest.raises(ConfigError, match="has no parameter 'x'; expected one of: search"):
        make_recipe("pwws", x=1)


SCORES = get_view("scores")


def test_a_recipe_with_its_own_goal_keeps_it():
    reduction, own, deployed = recipes.get("input-reduction"), make_goal("input-reduction"), make_goal("deployed")
    check_combination(reduction, own, SCORES)
    check_combination(recipes.get("pwws"), deployed, SCORES)
    with pytest.raises(ConfigError, match=r"'input-reduction' keeps its own goal: .* got 'deployed'"):
        check_combination(reduction, deployed, SCORES)
    with pytest.raises(ConfigError, match="belongs to recipe 'input-reduction'; choose another goal for 'pwws'"):
        check_combination(recipes.get("pwws"), own, SCORES)


def test_descriptions_are_plain_values():
    names = ["pwws", "bad-characters-homoglyphs"]
    chosen = [recipes.get(name) for name in names]
    described = {"recipes": describe_recipes(chosen), "resources": describe_resources(chosen)}
    assert json.loads(json.dumps(described)) == described
    assert sorted(described["resources"]) == ["homoglyphs", "stopwords", "wordnet"]
    assert described["recipes"]["pwws"]["bibtex_key"] == "ren2019generating"


def test_listing_and_checking_do_not_import_textattack():
    code = (
        "import sys, robustexit.attacks as a\n"
        "for name in a.recipes: a.check(name)\n"
        "list(a.goals); a.make_goal('slowdown-uniform')\n"
        "heavy = {'textattack', 'nltk', 'torch', 'transformers', 'flair', 'datasets'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_files_given_for_resources_are_hashed(tmp_path):
    table = tmp_path / "neighbours.json"
    table.write_text('{"good": ["fine"]}')
    resources.configure({"counter-fitted-vectors": table})
    found = hash_resources([recipes.get("textfooler"), recipes.get("pwws")])
    assert found == {"counter-fitted-vectors": hashlib.sha256(table.read_bytes()).hexdigest()}
