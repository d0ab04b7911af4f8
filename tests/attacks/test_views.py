"""What each view shows, what that rules out, and that nothing else gets through."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from robustexit.attacks import VIEWS, Limits, get_view, goals, make_goal, make_recipe, recipes, resources
from robustexit.attacks.attempt import Attacker
from robustexit.attacks.goal_function import make_goal_function
from robustexit.attacks.goals.base import Goal
from robustexit.attacks.recipes import refused_combination
from robustexit.attacks.textattack_api import AttackedText
from robustexit.attacks.views import ANSWER, EXIT, GRADIENTS, SCORES
from robustexit.attacks.wrapper import VictimWrapper
from robustexit.errors import ConfigError
from robustexit.victims.base import Trace

SHOWN = {
    "scores": {ANSWER, EXIT, SCORES},
    "label": {ANSWER},
    "label+exit": {ANSWER, EXIT},
    "gradients": {ANSWER, EXIT, SCORES, GRADIENTS},
}
GOALS = {
    "deployed": {"scores", "label", "label+exit", "gradients"},
    "keep-answer": {"scores", "label", "label+exit", "gradients"},
    "slowdown-position": {"scores", "label+exit", "gradients"},
    "exit<=2": {"scores", "label+exit", "gradients"},
    "exit>=2": {"scores", "label+exit", "gradients"},
    "flip & exit<=2": {"scores", "label+exit", "gradients"},
    "slowdown-position & keep-answer": {"scores", "label+exit", "gradients"},
    "final": {"scores", "gradients"},
    "exit(k=2)": {"scores", "gradients"},
    "average": {"scores", "gradients"},
    "all-exits": {"scores", "gradients"},
    "max-average": {"scores", "gradients"},
    "confident-early-error": {"scores", "gradients"},
    "slowdown-uniform": {"scores", "gradients"},
    "slowdown": {"scores", "gradients"},
    "silent-slowdown": {"scores", "gradients"},
    "flip & slowdown-uniform": {"scores", "gradients"},
}


def test_every_view_is_known():
    assert {name: set(view.shows) for name, view in VIEWS.items()} == SHOWN
    assert all(get_view(name).name == name and view.about for name, view in VIEWS.items())
    with pytest.raises(ConfigError, match=r"unknown view 'labels' \(did you mean 'label'\?\)"):
        get_view("labels")


@pytest.mark.parametrize("view", SHOWN)
def test_what_a_view_shows(view):
    probabilities = np.array([0.2, 0.5, 0.3], np.float32)
    logits = np.array([[1, 0, 0], [0, 2, 0]], np.float32)
    trace = Trace(logits, 2, probabilities, tokens=7, macs=2, full_macs=3, layers=2)
    seen = get_view(view).show(trace, 3)
    assert (seen.answer, seen.num_exits) == (1, 3)
    if SCORES in SHOWN[view]:
        assert torch.equal(seen.probabilities, torch.from_numpy(probabilities))
        assert torch.equal(seen.exits, torch.from_numpy(logits).softmax(-1))
    else:
        assert seen.probabilities.tolist() == [0, 1, 0]
        assert seen.logits is None
        with pytest.raises(ValueError, match="does not show the exits' scores"):
            _ = seen.exits
    if EXIT in SHOWN[view]:
        assert seen.taken == 2
    else:
        assert seen.exit is None
        with pytest.raises(ValueError, match="does not show the exit"):
            _ = seen.taken


@pytest.mark.parametrize("goal", GOALS)
def test_goals_are_refused_where_what_they_need_is_not_shown(goal):
    for view in VIEWS.values():
        reason = refused_combination(make_recipe("deepwordbug"), make_goal(goal), view)
        assert (reason is None) == (view.name in GOALS[goal]), view.name
        if reason is not None:
            assert f"goal {make_goal(goal).label!r} needs the " in reason
            assert f"which the view {view.name!r} does not show" in reason


def with_defaults(name: str) -> Goal:
    return goals.get(name)()


@pytest.mark.parametrize("name", goals.names())
@pytest.mark.parametrize("view", SHOWN)
def test_every_registered_goal_is_refused_exactly_where_it_needs_more(name, view):
    goal = with_defaults(name)
    recipe = recipes.get(goal.recipe or "deepwordbug")
    reason = refused_combination(recipe, goal, get_view(view))
    unseen = (goal.needs | {ANSWER}) - SHOWN[view]
    assert (reason is None) == (not unseen)
    assert all(what in str(reason) for what in unseen)


@pytest.mark.parametrize(
    ("name", "view"),
    [(n, v) for n in goals.names() for v in SHOWN if with_defaults(n).needs | {ANSWER} <= SHOWN[v]],
)
def test_a_goal_reads_no_more_than_it_says(bag, label_by, name, view):
    """Where it is not refused, its score and its condition can be computed."""
    goal = with_defaults(name)
    victim = bag(num_exits=4, num_classes=3, threshold=0.55, gain=0.3)
    assert goal.refuses(victim) is None
    for example in label_by(victim)[:3]:
        seen = get_view(view).show(victim.trace([example.fields], min_depth=4)[0], 4)
        assert 0 <= float(goal.score(seen, example.label, seen)) <= 1
        assert isinstance(goal.met(seen, example.label, seen), bool)


def test_white_box_recipes_are_refused_without_gradients():
    recipe = replace(recipes.get("deepwordbug"), white_box=True)
    for view in VIEWS.values():
        reason = refused_combination(recipe, make_goal("deployed"), view)
        assert (reason is None) == (view.name == "gradients")
        assert reason is None or "needs gradients; attack in the view 'gradients'" in reason


@pytest.mark.parametrize(
    ("recipe", "goal", "weak"),
    [
        ({"name": "deepwordbug"}, "deployed", {"label", "label+exit"}),
        ({"name": "deepwordbug", "search": "random-order"}, "deployed", {"label", "label+exit"}),
        ({"name": "deepwordbug", "search": "restore"}, "deployed", set()),
        ({"name": "deepwordbug"}, "slowdown-position", {"label"}),
        ({"name": "deepwordbug"}, "flip & exit<=2", {"label"}),
        ({"name": "pwws", "search": "position"}, "slowdown-position", {"label"}),
        ({"name": "slowbert"}, "slowdown-position", {"label"}),
    ],
)
def test_searches_are_weak_where_they_only_see_met_or_not(recipe, goal, weak):
    made = make_recipe(**recipe)
    assert {view.name for view in VIEWS.values() if made.weak_under(view, make_goal(goal))} == weak


@pytest.mark.parametrize(("view", "graded"), [("scores", True), ("label", False), ("label+exit", False)])
def test_greedy_recipes_see_nought_or_one_where_scores_are_not_shown(bag, label_by, view, graded):
    victim = bag(num_exits=4, num_classes=3, threshold=0.55, gain=0.3)
    function = make_goal_function(VictimWrapper(victim, ("text",), 1), make_goal("deployed"), view=get_view(view))
    example = label_by(victim)[0]
    text = AttackedText(example.fields["text"])
    function.init_attack_example(text, example.label)
    results, _ = function.get_results([text.delete_word_at_index(i) for i in range(text.num_words)])
    scores = {result.score for result in results}
    assert (not scores <= {0.0, 1.0}) if graded else (scores <= {0.0, 1.0})
    assert (len(scores) > 5) == graded


class Disguised:
    """Another victim's answers (and its exits, unless others are given); every other number is another one."""

    def __init__(self, inner, exit_=None):
        self.inner, self.exit = inner, exit_

    def __getattr__(self, name):
        return getattr(self.inner, name)

    def trace(self, texts, min_depth=1):
        return [
            self._disguise(text, trace)
            for text, trace in zip(texts, self.inner.trace(texts, self.num_exits), strict=True)
        ]

    def _disguise(self, text, trace):
        noise = np.random.default_rng(len(str(text))).random(trace.logits.shape, np.float32)
        probabilities = np.roll(np.array([0.4, 0.35, 0.25], np.float32), trace.answer)
        exit_ = trace.exit if self.exit is None else self.exit(text)
        assert int(probabilities.argmax()) == trace.answer
        return replace(
            trace, logits=-3 * noise, probabilities=probabilities, exit=exit_, tokens=1, macs=99, full_macs=999
        )


class Plain(Disguised):
    """The victim itself, computed to its last exit as its disguises are."""

    def _disguise(self, text, trace):
        return trace


READY = [
    name
    for name in ("deepwordbug", "pruthi", "pwws", "slowbert", "bad-characters-invisible")
    if all(resources.find(need).usable for need in recipes.get(name).needs)
]
SEARCHES = {
    "deepwordbug": ("own", "random-order", "restore", "position"),
    "slowbert": ("own", "random-order", "restore"),
    "pwws": ("own", "restore"),
}


@pytest.mark.parametrize(
    ("recipe", "search"), [(name, search) for name in READY for search in SEARCHES.get(name, ("own",))]
)
@pytest.mark.parametrize(
    ("view", "goal"),
    [
        ("label", "deployed"),
        ("label+exit", "deployed"),
        ("label+exit", "slowdown-position"),
        ("label+exit", "flip & exit<=2"),
    ],
)
def test_nothing_that_is_not_shown_can_influence_a_search(bag, label_by, recipe, search, view, goal):
    inner = bag(num_exits=4, num_classes=3, threshold=0.55, gain=0.3)
    other = Disguised(inner, (lambda text: 1 + len(str(text)) % 4) if view == "label" else None)
    settings = {"popsize": 8, "maxiter": 2} if recipe.startswith("bad-characters") else {}
    made = make_recipe(recipe, search=search, **settings)
    attackers = [Attacker(v, made, goal, view=view, limits=Limits(queries=80)) for v in (Plain(inner), other)]
    changed = 0
    for example in label_by(inner)[:4]:
        one, two = (replace(a.attempt(example, dataset="d", seed=1), seconds=0) for a in attackers)
        assert one.error is None
        assert one == two
        changed += one.text_attacked != example.fields
    assert changed


def test_the_disguise_shows_where_scores_are_seen(bag, label_by):
    inner = bag(num_exits=4, num_classes=3, threshold=0.55, gain=0.3)
    attackers = [Attacker(v, "deepwordbug", view="scores") for v in (Plain(inner), Disguised(inner))]
    pairs = [[a.attempt(example, dataset="d", seed=1) for a in attackers] for example in label_by(inner)]
    assert any(one.text_attacked != two.text_attacked for one, two in pairs)
