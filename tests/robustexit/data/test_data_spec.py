from __future__ import annotations

import pytest
import yaml

from robustexit.data import DataSpec
from robustexit.errors import ConfigError
from robustexit.validation import validate


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, "expected exactly one of path, hub and builtin, got none of them"),
        ({"path": "a.csv", "hub": "b"}, "expected exactly one of path, hub and builtin, got path and hub"),
        ({"path": "a.csv", "lable": "y"}, "unknown key 'lable' (did you mean 'label'?); expected one of: builtin, "),
        ({"path": "a.csv", "n": 5}, "'n' belongs to builtin, not to path; remove it"),
        ({"path": "a.csv", "config": "x"}, "'config' belongs to hub, not to path; remove it"),
        ({"builtin": "reviews", "label": "y"}, "'label' belongs to path or hub, not to builtin; remove it"),
        ({"builtin": "review"}, "Input should be 'reviews'"),
        ({"builtin": "reviews", "difficulty": ["plane"]}, "unknown difficulty level 'plane' (did you mean 'plain'?)"),
        ({"builtin": "reviews", "difficulty": []}, "expected at least one difficulty level"),
        ({"path": "a.csv", "fields": ["a", "b", "c"]}, "expected one or two different text columns"),
        ({"path": "a.csv", "fields": ["a", "a"]}, "expected one or two different text columns"),
        ({"path": "a.csv", "fields": {}}, "expected one or two different text columns"),
        ({"path": "a.csv", "labels": ["a"]}, "expected at least two different label names"),
        ({"path": "a.csv", "labels": ["a", "a"]}, "expected at least two different label names"),
        ({"path": "a.csv", "labels": {0: "a", 1: "a"}}, "expected at least two different label names"),
        ({"path": "a.csv", "sample": 0}, "greater than or equal to 1"),
        ({"path": "a.csv", "sample": True}, "valid integer"),
        ({"path": "a.csv", "seed": -1}, "greater than or equal to 0"),
        ({"path": "a.csv", "id": True}, "id"),
    ],
)
def test_wrong_settings(settings, expected):
    with pytest.raises(ConfigError) as caught:
        validate(DataSpec, settings, "campaign.yaml")
    assert expected in str(caught.value)


def test_yaml_round_trip():
    text = "{path: a.csv, fields: {premise: s1, hypothesis: s2}, labels: {0: no, true: yes, x: maybe}, id: false}"
    spec = DataSpec.model_validate(yaml.load(text, yaml.BaseLoader) | {"id": False})
    assert spec == DataSpec.model_validate(spec.model_dump())
    assert spec == DataSpec.model_validate_json(spec.model_dump_json())
    assert spec.language == "en"


def test_one_field_as_a_string():
    assert DataSpec(path="a.csv", fields="review").fields == ("review",)
