"""Recipes whose goal no classifier can be attacked with."""

from __future__ import annotations

import pytest

from robustexit.attacks import Attacker, recipes
from robustexit.errors import ConfigError


@pytest.mark.parametrize("name", ["morpheus", "seq2sick"])
@pytest.mark.parametrize("goal", [None, "deployed", "slowdown-uniform"])
def test_recipes_about_output_texts_are_refused_with_the_reason(bag, name, goal):
    with pytest.raises(ConfigError, match=f"recipe '{name}' cannot attack a classifier: its goal is .*output text"):
        Attacker(bag(num_exits=3), name, goal)
    assert "\n" not in recipes.get(name).unsupported
