"""Universal triggers: a planted weakness is found, and what is dropped early was truly hopeless."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robustexit.attacks.goals import make_goal
from robustexit.attacks.triggers import TriggerSpec, find_trigger, frequent_words, tokenizer_words
from robustexit.attacks.views import VIEWS
from robustexit.data.types import Example, Fields
from robustexit.errors import ConfigError, ModelError
from robustexit.exits import make_policy
from robustexit.victims.custom import FunctionVictim

TEXTS = ("a fine story", "the cast is great", "slow and dull", "no heart in it", "warm and funny", "a lot of noise")
WORDS = ["the", "story", "fine", "cast", "zebra", "dull", "of", "mirror", "no"]


def planted(weakness: Callable[[list[str]], tuple[float, float]], exits: int = 3) -> FunctionVictim:
    """A victim that is sure of class 1 at its first exit; `weakness` (doubt, flip) in [0, 1] of a text's words."""

    def logits(texts: list[dict[str, str]]) -> np.ndarray:
        rows = []
        for text in texts:
            doubt, flip = weakness(" ".join(text.values()).split())
            margin = 6 * (1 - doubt) * (1 - 2 * flip)
            rows.append([[0.0, margin * (i + 1 if doubt < 1 else 0.1)] for i in range(exits)])
        return np.array(rows)

    return FunctionVictim(logits, num_classes=2, num_exits=exits, policy=make_policy("entropy", t=0.3))


def flips_on(word: str, needed: int = 1) -> FunctionVictim:
    return planted(lambda words: (0.0, min(words.count(word), needed) / needed))


def examples(texts: Sequence[str] = TEXTS) -> list[Example]:
    return [Example(str(i), {"text": text}, 1) for i, text in enumerate(texts)]


def search(victim: FunctionVictim, goal: str = "deployed", words: Sequence[str] = WORDS, **spec: object):
    return find_trigger(
        victim, examples(), words, goal=make_goal(goal), view=VIEWS["scores"], field="text", spec=TriggerSpec(**spec)
    )


@pytest.mark.parametrize("place", ["prefix", "suffix"])
def test_a_word_that_flips_everything_is_found(place: str) -> None:
    found = search(flips_on("zebra"), length=1, place=place)
    assert found.words == ("zebra",)
    assert found.score > 0.99 > 0.1 > found.score_without
    assert found.passes == 2  # the second changes nothing


def test_a_word_that_slows_everything_is_found() -> None:
    victim = planted(lambda words: (1.0 if "mirror" in words else 0.0, 0.0))
    for goal in ("slowdown-uniform", "slowdown-position"):
        found = search(victim, goal, length=2)
        assert "mirror" in found.words
        assert found.score > found.score_of_start
    # its exits are then unsure, so that every text leaves at the last one
    text = found.text + " a fine story"
    assert victim.trace([{"text": text}])[0].exit == 3 > victim.trace([{"text": "a fine story"}])[0].exit


def test_each_position_is_searched_with_what_the_others_hold() -> None:
    found = search(flips_on("zebra", needed=3), length=3)
    assert found.words == ("zebra",) * 3


def test_a_beam_finds_what_a_greedy_search_misses() -> None:
    """The pair that flips starts with a word that alone is second best."""

    def weakness(words: list[str]) -> tuple[float, float]:
        if words[:2] == ["dull", "mirror"]:
            return 0.0, 1.0
        return 0.0, {"story": 0.3, "dull": 0.2}.get(words[0], 0.0)

    assert search(planted(weakness), length=2, beam=1, passes=1).words[0] == "story"
    assert search(planted(weakness), length=2, beam=2, passes=1).words == ("dull", "mirror")


def test_without_a_weakness_the_start_stays() -> None:
    found = search(planted(lambda words: (0.0, 0.0)), length=2, start="so")
    assert found.words == ("so", "so")
    assert found.passes == 1
    assert found.score == found.score_of_start


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_dropping_early_changes_nothing(data: st.DataObject) -> None:
    """With length 1 and one pass the result is the best of all words, however the scores lie."""
    texts = [f"t{i}" for i in range(data.draw(st.integers(1, 40)))]
    words = [f"w{i}" for i in range(data.draw(st.integers(1, 40)))]
    steps = st.sampled_from([0.0, 0.25, 0.5, 0.9, 1.0])
    table = {pair: data.draw(steps) for pair in itertools.product(["the", *words], texts)}
    beam = data.draw(st.integers(1, 3))

    def weakness(found: list[str]) -> tuple[float, float]:
        return 0.0, table[found[0], found[1]] if len(found) == 2 else 0.0

    victim = planted(weakness)
    goal, view = make_goal("deployed"), VIEWS["scores"]
    found = find_trigger(
        victim, examples(texts), words, goal=goal, view=view, field="text", spec=TriggerSpec(1, beam=beam, passes=1)
    )

    def mean(word: str) -> float:
        traces = victim.trace([{"text": f"{word} {text}"} for text in texts])
        seen = [view.show(trace, 3) for trace in traces]
        return float(np.mean([float(goal.score(one, 1, one)) for one in seen]))

    means = {word: mean(word) for word in ["the", *words]}
    assert found.score == pytest.approx(max(means.values()), abs=1e-6)
    assert means[found.words[0]] == pytest.approx(found.score, abs=1e-6)
    assert found.queries <= len(texts) * (len(words) + 2)


def test_hopeless_words_do_not_meet_every_text() -> None:
    many = [f"text number {i}" for i in range(200)]
    words = ["zebra", *(f"word{i}" for i in range(100))]
    found = find_trigger(
        flips_on("zebra"),
        examples(many),
        words,
        goal=make_goal("deployed"),
        view=VIEWS["scores"],
        field="text",
        spec=TriggerSpec(1, passes=1),
    )
    assert found.words == ("zebra",)
    assert found.triggers == 102
    assert found.queries < 200 * 50


def test_the_search_is_the_same_twice_and_counts_what_it_asks() -> None:
    asked: list[int] = []
    victim = flips_on("zebra", needed=2)
    inner = victim.trace

    def counted(texts: Sequence[Fields], min_depth: int = 1):
        asked.append(len(texts))
        return inner(texts, min_depth)

    victim.trace = counted  # type: ignore[method-assign]
    first = search(victim, length=2, beam=2)
    assert sum(asked) == first.queries
    assert search(victim, length=2, beam=2) == first


def test_a_pair_gets_it_in_one_field() -> None:
    pair = [Example("a", {"premise": "p", "hypothesis": "h"}, 1)]
    victim = planted(lambda words: (0.0, float(words[1:2] == ["zebra"])))
    found = find_trigger(
        victim,
        pair,
        WORDS,
        goal=make_goal("deployed"),
        view=VIEWS["scores"],
        field="hypothesis",
        spec=TriggerSpec(1),
    )
    assert found.words == ("zebra",)
    assert TriggerSpec(1).apply(("zebra",), pair[0].fields, "hypothesis") == {"premise": "p", "hypothesis": "zebra h"}
    assert TriggerSpec(2, "suffix").apply(("a", "b"), {"text": "x"}, "text") == {"text": "x a b"}


def test_answers_to_keep_that_are_wrong_do_not_count() -> None:
    victim = planted(lambda words: (1.0 if "mirror" in words else 0.0, float("wrong" in words)))
    mixed = [*examples(), Example("w", {"text": "wrong"}, 1)]
    arguments = {"goal": make_goal("silent-slowdown"), "view": VIEWS["scores"], "field": "text"}
    with_it = find_trigger(victim, mixed, WORDS, spec=TriggerSpec(1), **arguments)
    without = find_trigger(victim, examples(), WORDS, spec=TriggerSpec(1), **arguments)
    assert with_it.score == without.score
    with pytest.raises(ConfigError, match="leaves none of the 1 training texts"):
        find_trigger(victim, mixed[-1:], WORDS, spec=TriggerSpec(1), **arguments)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"goal": make_goal("input-reduction")}, "belongs to recipe"),
        ({"goal": make_goal("average"), "view": VIEWS["label"]}, "needs the scores of every exit"),
        ({"goal": make_goal("exit(k=9)")}, "cannot apply"),
        ({"field": "txt"}, "did you mean 'text'"),
        ({"candidates": []}, "words to try"),
    ],
)
def test_what_cannot_work_is_refused(changes: dict[str, object], message: str) -> None:
    given = {"candidates": WORDS, "goal": make_goal("deployed"), "view": VIEWS["scores"], "field": "text", **changes}
    with pytest.raises(ConfigError, match=message):
        find_trigger(flips_on("zebra"), examples(), given.pop("candidates"), **given)


@pytest.mark.parametrize("values", [{"length": 0}, {"beam": 0}, {"passes": 1.5}, {"place": "middle"}, {"start": " "}])
def test_a_search_that_makes_no_sense_is_refused(values: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match="universal trigger"):
        TriggerSpec(**values)  # type: ignore[arg-type]


def test_scores_outside_their_range_are_an_error() -> None:
    class Wild(type(make_goal("deployed"))):  # type: ignore[misc]
        def score(self, seen, label, start):
            return 2 + seen.probabilities[0]

    with pytest.raises(ModelError, match="expected one from 0 to 1"):
        find_trigger(flips_on("zebra"), examples(), WORDS, goal=Wild(), view=VIEWS["scores"], field="text")


def test_words_by_frequency() -> None:
    texts = ["The cat, the dog", "It's a CAT: 3 times", "naïve dog-house"]
    assert frequent_words(texts, 3) == ["cat", "dog", "the"]
    assert set(frequent_words(texts, 99)) == {"cat", "dog", "the", "it's", "a", "times", "naïve", "house"}


def test_words_of_a_tokenizer(tiny_model) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    words = tokenizer_words(tokenizer, 99)
    assert words[-4:] == ["the", "was", "and", "but"]
    assert words[:3] == ["a", "b", "c"]
    assert not any(word.startswith(("#", "[")) for word in words)
    assert tokenizer_words(tokenizer, 5) == ["a", "b", "c", "d", "e"]


def test_words_of_a_byte_pair_tokenizer() -> None:
    from tokenizers import Tokenizer
    from tokenizers.models import BPE
    from tokenizers.pre_tokenizers import ByteLevel
    from transformers import PreTrainedTokenizerFast

    merges = [("Ġ", "a"), ("Ġ", "b"), ("Ġa", "b")]
    vocabulary = {token: i for i, token in enumerate(["<unk>", "a", "b", "Ġ", "Ġa", "Ġb", "Ġab", "A", "ĠA"])}
    inner = Tokenizer(BPE(vocabulary, merges, unk_token="<unk>"))
    inner.pre_tokenizer = ByteLevel(add_prefix_space=False)
    assert tokenizer_words(PreTrainedTokenizerFast(tokenizer_object=inner), 9) == ["a", "b", "ab"]
