"""How recipes stand on this machine, and what would make them ready."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import pytest

from robustexit.attacks import recipes, resources
from robustexit.attacks.diagnosis import diagnose, diagnose_all, fetchable, refuse_unready
from robustexit.attacks.resources import Finder, Resource
from robustexit.errors import ConfigError, ResourceError


@pytest.fixture
def lexicons(monkeypatch):
    """A recipe that needs two resources of the test's; returns a function that says how they are."""
    stock = recipes.get("deepwordbug")
    monkeypatch.setattr(
        recipes, "_members", {**recipes._members, "mine": replace(stock, name="mine", needs=("a", "b"))}
    )
    monkeypatch.setattr(resources.finders, "_members", dict(resources.finders._members))

    def say(name, found=False, substitute=None, fetch=None):
        resource = Resource(name, found, f"{name} is nowhere", substitute, f"install {name}")
        resources.finders._members[name] = Finder(lambda: resource, fetch=fetch)

    say("a", found=True)
    say("b", found=True)
    return say


def test_ready(lexicons):
    found = diagnose("mine")
    assert (found.state, found.effective_name, found.fix, found.lines) == ("ready", "mine", None, [])
    refuse_unready(found)


def test_ready_with_substitution(lexicons):
    lexicons("b", substitute="mini")
    found = diagnose("mine")
    assert (found.state, found.effective_name) == ("ready with substitution", "mine+mini")
    assert found.substitutes == {"b": "mini"}
    assert found.lines == ["recorded as mine+mini", "for the recipe itself: install b"]
    refuse_unready(found)


def test_missing(lexicons):
    lexicons("a", substitute="mini")
    lexicons("b")
    found = diagnose("mine")
    assert (found.state, found.missing, found.fix) == ("missing", {"b": "b is nowhere"}, "install b")
    assert found.lines == ["lacks b", "do this: install b"]
    with pytest.raises(ResourceError) as error:
        refuse_unready(found)
    assert str(error.value) == "recipe 'mine' lacks b (b is nowhere); do this: install b"


def test_one_command_where_downloads_bring_all_that_lacks(lexicons):
    lexicons("a", fetch=print)
    lexicons("b", fetch=print)
    assert diagnose("mine").fix == "robustexit doctor mine --fetch"
    assert diagnose("mine").lines[2:] == ["or by hand, for a: install a", "or by hand, for b: install b"]
    assert fetchable(["mine"]) == ["a", "b"]
    lexicons("a")
    assert diagnose("mine").fix == "install a; then robustexit doctor mine --fetch"
    assert fetchable(["mine"]) == ["b"]
    lexicons("b", found=True, fetch=print)
    assert fetchable(["mine"]) == []


def test_what_the_user_configured_is_not_downloaded(lexicons, tmp_path):
    lexicons("b", fetch=print)
    resources.configure({"b": tmp_path / "nowhere"})
    found = diagnose("mine")
    assert found.state == "missing"
    assert "does not exist" in found.missing["b"]
    assert "--fetch" not in found.fix
    assert fetchable(["mine"]) == []


def test_what_cannot_attack_a_classifier(lexicons, monkeypatch):
    unsupported = replace(recipes.get("mine"), unsupported="it changes what a translation says")
    monkeypatch.setitem(recipes._members, "mine", unsupported)
    lexicons("b", fetch=print)
    found = diagnose("mine")
    assert (found.state, found.fix) == ("unsupported", None)
    assert found.lines == ["cannot attack a classifier: it changes what a translation says"]
    assert "b" not in fetchable()
    with pytest.raises(ConfigError, match="recipe 'mine' cannot attack a classifier: it changes"):
        refuse_unready(found)


def test_every_recipe_has_a_state_and_a_way_out(bare, monkeypatch):
    monkeypatch.setattr(resources.wordnet, "DEBIAN_WORDNET", bare / "nowhere")
    monkeypatch.setattr(resources.places, "nltk_folders", lambda: [])
    found = diagnose_all()
    assert sorted(one.recipe for one in found) == recipes.names()
    for one in found:
        assert (one.fix is None) == (one.state in ("ready", "unsupported")), one
        assert bool(one.missing) <= (one.state in ("missing", "unsupported"))
        assert all("\n" not in line for line in one.lines)


def test_textattack_s_recipes_come_first():
    classes = [bool(one.textattack_class) for one in diagnose_all()]
    assert classes == sorted(classes, reverse=True)


def test_an_unknown_recipe():
    with pytest.raises(ConfigError, match="did you mean 'deepwordbug'"):
        diagnose_all(["deepwordbugg"])


def test_looking_is_light():
    program = (
        "import sys; from robustexit.attacks.diagnosis import diagnose_all, fetchable; diagnose_all(), fetchable()\n"
        "heavy = {'textattack', 'nltk', 'torch', 'transformers', 'flair', 'datasets'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
