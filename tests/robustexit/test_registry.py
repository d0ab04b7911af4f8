"""The registry: built-in members, members of other packages, collisions, suggestions."""

from __future__ import annotations

from importlib.metadata import EntryPoint
from typing import Any

import pytest

from robustexit import registry as module
from robustexit.errors import ConfigError, did_you_mean, unknown_name
from robustexit.exits import make_policy, policies, replay
from robustexit.registry import Registry


def test_members_and_suggestions() -> None:
    animals: Registry[int] = Registry("animal", "robustexit.tests")
    animals.register("horse")(1)
    assert animals.get("horse") == 1
    assert animals.names() == ["horse"]
    assert "horse" in animals
    with pytest.raises(ConfigError, match=r"unknown animal 'hrose' \(did you mean 'horse'\?\); expected one of: horse"):
        animals.get("hrose")


def test_a_name_is_taken_once() -> None:
    animals: Registry[str] = Registry("animal", "robustexit.tests")
    animals.register("horse")("a")
    animals.register("horse")("a")
    with pytest.raises(ConfigError, match="registered twice"):
        animals.register("horse")("b")


def test_another_package_adds_a_policy(monkeypatch: pytest.MonkeyPatch) -> None:
    from robustexit.exits.rules.patience import Patience

    def entry_points(group: str) -> list[EntryPoint]:
        assert group == "robustexit.policies"
        return [EntryPoint("theirs", "robustexit.exits.rules.patience:Patience", group)]

    monkeypatch.setattr(module, "entry_points", entry_points)
    monkeypatch.setattr(policies, "_members", dict(policies._members))
    assert "theirs" in policies.names()
    policy = make_policy("theirs", t=1)
    assert isinstance(policy, Patience)
    assert replay(policy, [[[1.0, 0.0]] * 3]).exit.tolist() == [2]


@pytest.mark.parametrize(
    ("got", "known", "expected"),
    [
        ("Entropy", ["entropy"], " (did you mean 'entropy'?)"),
        ("zzz", ["entropy"], ""),
        ("x", [], ""),
    ],
)
def test_did_you_mean(got: str, known: list[str], expected: str) -> None:
    assert did_you_mean(got, known) == expected


def test_no_known_names_are_said() -> None:
    assert unknown_name("thing", "x", []) == "unknown thing 'x'; expected one of: none"


def test_settings_are_answered_with_the_place() -> None:
    from robustexit.campaign.spec import CampaignSpec
    from robustexit.validation import validate

    bad: dict[str, Any] = {
        "name": "x",
        "datasets": {"d": {"data": {"path": "p", "lable": "y"}}},
        "models": {"m": {"path": "p"}},
        "victims": {"v": {"model": "m", "calibrat": {}}},
        "recipes": ["pwws"],
        "seeds": [],
    }
    with pytest.raises(ConfigError) as caught:
        validate(CampaignSpec, bad, "c.yaml")
    message = str(caught.value)
    assert "did you mean 'label'" in message
    assert "victims.v.calibrat: unknown key 'calibrat' (did you mean 'calibrate'?)" in message
    assert "seeds" in message
