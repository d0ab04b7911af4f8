from __future__ import annotations

import pandas as pd
import pytest

from robustexit.measures import CHECKS, check, not_headline, withheld

FULL = {"victims": {"v": {"full_depth": False, "num_exits": 3}}, "datasets": {"d": {"majority_rate": 0.5}}}


def wrong_attacked(frame, rows):
    frame = frame.copy()
    frame.loc[frame.index[rows], "pred_attacked"] = 1 - frame.loc[frame.index[rows], "label"]
    return frame


def below_majority(cell, many):
    frame = many()
    frame.loc[:29, "pred_clean"] = 1 - frame.loc[:29, "label"]
    return frame, FULL


def weak_exit(cell, many):
    return cell([(i % 2, [0, i % 2, i % 2], 1 if i % 4 == 0 else 2, [i % 2] * 3, 2) for i in range(60)]), FULL


def below_full_depth(cell, many):
    rows = [
        (i % 2, [i % 2 if i > 5 else 1 - i % 2, i % 2, i % 2], 1 + i % 2 * (i > 5), [i % 2] * 3, 1) for i in range(80)
    ]
    return cell(rows), FULL


def calibrated_below(cell, many):
    said = {
        "v": {"num_exits": 3, "calibrations": {"d": {"clean_accuracy": 0.8, "full_depth_accuracy": 0.84, "n": 400}}}
    }
    return many(), {**FULL, "victims": said}


def errors(cell, many):
    frame = many(100)
    frame.loc[:1, "outcome"] = ["error", "timeout"]
    return frame, FULL


def few_examples(cell, many):
    return many(29), FULL


def policy_inert(cell, many):
    return many(exit_clean=2), FULL


def transfer_stronger(cell, many):
    frame = many()
    return pd.concat([frame, wrong_attacked(frame.assign(goal="final"), range(5))], ignore_index=True), FULL


def no_candidates(cell, many):
    return many(words_changed=0, outcome="failed"), FULL


def constraints_leave_nothing(cell, many):
    return many(candidates=40, candidates_kept=0, outcome="failed"), FULL


def weak_search(cell, many):
    frame = many(view="label")
    return frame, {**FULL, "weak_attacks": [{"recipe": "r", "goal": "deployed", "view": "label"}]}


def sentence_constraint_skipped(cell, many):
    return many(), {**FULL, "windows": {"d": {"r": {"window": 15, "below": 24}}}}


def cost_not_matched(cell, many):
    slow = many(victim="slow", cost_clean=0.9)
    said = {"v": {"num_exits": 3}, "slow": {"num_exits": 3, "full_depth": False}}
    return pd.concat([many(), slow], ignore_index=True), {**FULL, "victims": said}


FIRES = {
    "below-majority": [below_majority],
    "weak-exit": [weak_exit],
    "below-full-depth": [below_full_depth, calibrated_below],
    "errors": [errors],
    "few-examples": [few_examples],
    "policy-inert": [policy_inert],
    "transfer-stronger": [transfer_stronger],
    "no-candidates": [no_candidates, constraints_leave_nothing],
    "weak-search": [weak_search],
    "sentence-constraint-skipped": [sentence_constraint_skipped],
    "cost-not-matched": [cost_not_matched],
}


@pytest.mark.parametrize(("code", "build"), [(code, build) for code, builds in FIRES.items() for build in builds])
def test_fires(cell, many, code, build):
    found = check(*build(cell, many))
    assert code in {flag.code for flag in found}
    assert all(flag.message for flag in found)


@pytest.mark.parametrize("code", CHECKS)
def test_every_check_is_tested(code):
    assert code in FIRES


def quiet_cases(many):
    frame = many()
    slow = many(victim="slow")
    rescued = pd.concat([wrong_attacked(frame, range(5)), frame.assign(goal="final")])
    control = many(victim="full", exit_clean=3, exit_attacked=3, cost_clean=1.0)
    said = {"full": {"num_exits": 3, "full_depth": True}, "v": {"num_exits": 3}}
    return {
        "one good victim": (frame, FULL),
        "no manifest": (frame, {}),
        "matched cost": (pd.concat([frame, slow]), FULL),
        "transfer weaker": (rescued, FULL),
        "control beside it": (pd.concat([frame, control]), {**FULL, "victims": said}),
        "full depth by its policy": (many(policy="fixed(k=3)", exit_clean=3), {}),
        "fixed exit by design": (many(exit_clean=2, policy="fixed(k=2)"), FULL),
        "half without candidates": (frame.assign(words_changed=[0, 1] * 30), FULL),
        "candidates but no success": (
            frame.assign(candidates=40, candidates_kept=3, outcome="failed", words_changed=0),
            FULL,
        ),
        "weak in another view": (
            frame,
            {**FULL, "weak_attacks": [{"recipe": "r", "goal": "deployed", "view": "label"}]},
        ),
        "no text under the window": (frame, {**FULL, "windows": {"d": {"r": {"window": 15, "below": 0}}}}),
    }


@pytest.mark.parametrize(
    "case",
    [
        "one good victim",
        "no manifest",
        "matched cost",
        "transfer weaker",
        "control beside it",
        "full depth by its policy",
        "fixed exit by design",
        "half without candidates",
        "candidates but no success",
        "weak in another view",
        "no text under the window",
    ],
)
def test_stays_quiet(many, case):
    assert check(*quiet_cases(many)[case]) == []


def test_exact_limits_are_not_flagged(many):
    frame = many(100)
    frame.loc[0, "outcome"] = "timeout"
    assert check(frame, FULL) == []
    assert check(many(30), FULL) == []


def test_withheld_and_headline(cell, many):
    found = check(*below_majority(cell, many))
    assert set(withheld(found)) == {("d", "v")}
    assert "majority rate" in withheld(found)["d", "v"]
    assert not_headline(check(*below_full_depth(cell, many))) == {("d", "v")}
    assert withheld(check(*below_full_depth(cell, many))) == {}


def test_no_flag_tells_a_withheld_victims_robust_accuracy(cell, many):
    frame, manifest = below_majority(cell, many)
    stronger = wrong_attacked(frame.assign(goal="final"), range(5))
    codes = {flag.code for flag in check(pd.concat([frame, stronger], ignore_index=True), manifest)}
    assert "below-majority" in codes and "transfer-stronger" not in codes


def test_all_errors_is_flagged_once_a_cell(many):
    found = check(many(outcome="error"), FULL)
    assert {flag.code for flag in found} == {"errors", "few-examples"}
