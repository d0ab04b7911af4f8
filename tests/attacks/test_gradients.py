"""The gradient view: tokens found where words stand, the goal's own gradient, swaps that raise its score."""

from __future__ import annotations

import random
import time
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch

from robustexit.attacks import make_goal, resources
from robustexit.attacks.goal_function import make_goal_function
from robustexit.attacks.gradients import (
    CharacterSwapGradient,
    GradientRanking,
    Vocabulary,
    WordSwapGradient,
    differentiate_goal,
    words_with_tokens,
)
from robustexit.attacks.limits import LimitReached
from robustexit.attacks.textattack_api import AttackedText, WordSwapGradientBased
from robustexit.attacks.views import VIEWS
from robustexit.attacks.wrapper import VictimWrapper
from robustexit.errors import ConfigError
from robustexit.exits import make_policy
from robustexit.victims.model_victim import ModelVictim

KINDS = ["wordpiece", "bpe", "unigram"]
TEXTS = [
    OrderedDict(text="The film was a good story (great cast), but bad jokes - and it's a slow, dull end."),
    OrderedDict(text="unwaiting Café ends; the movie... naïve"),
    OrderedDict(first="A good film!", second="(the end) was slow, un-funny & never warm"),
    OrderedDict(text=" ".join(["the good film was slow"] * 30)),
    OrderedDict(text=""),
]


def attempt_on(deployed, goal="deployed", policy=None, fields=("text",)):
    """A goal function and its wrapper over a victim, as a white-box recipe builds them."""
    victim = ModelVictim(deployed, policy)
    goal = make_goal(goal) if isinstance(goal, str) else goal
    wrapper = VictimWrapper(victim, fields, goal.min_depth(victim.num_exits))
    goal_function = make_goal_function(wrapper, goal, view=VIEWS["gradients"])
    differentiate_goal(goal_function)
    return goal_function, wrapper


def started(goal_function, text, label=0):
    text = AttackedText(OrderedDict(text=text) if isinstance(text, str) else text)
    goal_function.begin()
    goal_function.model.begin()
    return goal_function.init_attack_example(text, label)[0]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("text", TEXTS, ids=range(len(TEXTS)))
def test_tokens_are_those_of_the_word(worded, kind, text):
    goal_function, wrapper = attempt_on(worded(kind), fields=tuple(text))
    attacked = AttackedText(text)
    started(goal_function, text)
    (gradient,) = wrapper.gradients([attacked.tokenizer_input])
    words = words_with_tokens(attacked, gradient)
    assert len(words) == len(attacked.words)
    used = [token for word in words for token in word.tokens]
    assert len(used) == len(set(used))
    seen = 0
    for word, found in zip(attacked.words, words, strict=True):
        spans = dict.fromkeys(gradient.spans[token] for token in found.tokens)  # bytes of a letter share a span
        letters = "".join(list(text.values())[span.field][span.start : span.end].strip() for span in spans)
        assert word.startswith(letters)
        seen += letters == word
    # Words are found whole, but for those behind the limit of 64 tokens (and one that it cuts).
    assert seen == len(words) or len(gradient.ids) == 64
    assert not text.get("text", "x") or seen > 0
    assert all(span is None for span in (gradient.spans[0], gradient.spans[-1]))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("text", TEXTS[:4], ids=range(4))
def test_words_are_ranked_by_their_gradient(worded, kind, text):
    goal_function, wrapper = attempt_on(worded(kind), fields=tuple(text))
    attacked = started(goal_function, text).attacked_text
    ranking = GradientRanking(wir_method="gradient", truncate_words_to=3)
    ranking.goal_function = goal_function
    asked = [i for i in range(len(attacked.words)) if i % 3]
    ranking.get_indices_to_order = lambda text: (len(asked), asked)
    order, over = ranking._get_index_order(attacked)
    (gradient,) = wrapper.gradients([attacked.tokenizer_input])
    words = words_with_tokens(attacked, gradient)
    norms = [np.abs(gradient.values[list(words[i].tokens)].mean(axis=0)).sum() for i in order]
    assert norms == sorted(norms, reverse=True) and not over
    assert sorted(order) == [i for i in asked if words[i].tokens]
    assert wrapper.forwards == 2  # the query and one gradient, of this very text


def test_words_know_what_stands_before_them(worded):
    goal_function, wrapper = attempt_on(worded("bpe"), fields=("first", "second"))
    text = OrderedDict(first="film (great)", second="slow end")
    started(goal_function, text)
    attacked = AttackedText(text)
    words = words_with_tokens(attacked, wrapper.gradients([attacked.tokenizer_input])[0])
    assert [word.before for word in words] == ["", "(", "", " "]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("before", ["", " ", "("])
def test_candidates_are_words_that_become_one_token(worded, kind, before):
    tokenizer = worded(kind).tokenizer
    found = Vocabulary(tokenizer, len(tokenizer)).after(before)
    for token, word in found.items():
        text = {"": word, " ": f"slow {word}", "(": f"slow ({word}"}[before]
        assert tokenizer(text + " end")["input_ids"].count(token) >= 1
        assert tokenizer(text)["input_ids"][-2] == token
        assert token not in tokenizer.all_special_ids
        assert word.isalpha()
    names = set(found.values())
    expected = {"wordpiece": {"film", "great"}, "bpe": {"great"} if before != " " else {"film"}, "unigram": {"film"}}
    if kind != "unigram" or before != "(":
        assert expected[kind] <= names
    assert not names & {"##ing", "[unused1]", "unused1", "[CLS]", "Ġfilm", "▁film", "."}


def test_embeddings_bound_the_candidates(worded):
    tokenizer = worded().tokenizer
    few = Vocabulary(tokenizer, 10).after(" ")
    assert few and max(few) < 10


def test_gradients_are_of_the_goal_s_own_score(worded):
    text = "the film was a good story"
    for goal in ("deployed", "average", "slowdown-uniform", "slowdown-disagree", "silent-slowdown"):
        goal_function, wrapper = attempt_on(worded(), goal, make_policy("entropy", t=0.4))
        result = started(goal_function, text, label=1)
        (gradient,) = wrapper.gradients([text])
        assert gradient.score == pytest.approx(result.score, abs=1e-6)
        assert gradient.values.any()
    goal_function, wrapper = attempt_on(worded())
    both = []
    for label in (0, 1):
        started(goal_function, text, label)
        both.append(wrapper.gradients([text])[0].values)
    np.testing.assert_allclose(both[0], -both[1], atol=1e-5)  # two classes: what one label loses the other wins


def test_the_direction_is_textattack_s_on_a_plain_classifier(worded):
    from textattack.models.wrappers import HuggingFaceModelWrapper

    deployed = worded(plain=True)
    stock = HuggingFaceModelWrapper(deployed.model, deployed.tokenizer)
    goal_function, wrapper = attempt_on(deployed)
    for text in ("the film was a good story", "no heart in this plot", "one movie one actor much noise"):
        predicted = wrapper([text])[0].answer
        started(goal_function, text, predicted)
        (ours,) = wrapper.gradients([text])
        theirs = stock.get_grad(text)
        deployed.model.zero_grad()
        assert ours.ids.tolist() == theirs["ids"][0].tolist()[: len(ours.ids)]
        one, other = ours.values.ravel(), theirs["gradient"][: len(ours.ids)].ravel()
        assert one @ other / np.linalg.norm(one) / np.linalg.norm(other) == pytest.approx(1, abs=1e-4)


def test_stock_swaps_refuse_transformers(worded):
    """Why there is a swap of ours: TextAttack's works with its own LSTM alone."""
    _, wrapper = attempt_on(worded())
    wrapper.tokenizer = wrapper.model.deployed.tokenizer
    with pytest.raises(ValueError, match="Cannot perform GradientBasedWordSwap"):
        WordSwapGradientBased(wrapper)


@pytest.mark.parametrize("kind", KINDS)
def test_swaps_are_the_best_to_first_order(worded, kind):
    goal_function, wrapper = attempt_on(worded(kind), "average", make_policy("patience", t=1))
    text = "one unwaiting film was good (great cast) but slow"
    attacked = started(goal_function, text, label=1).attacked_text
    swap = WordSwapGradient(wrapper, top_n=25)
    indices = {1, 2, 4, 5, 8}
    flips = swap.flips(attacked, indices)
    (gradient,) = wrapper.gradients([text])
    expected = []
    for index in indices:
        word = words_with_tokens(attacked, gradient)[index]
        ids = gradient.ids[list(word.tokens)]
        for token, name in swap.vocabulary.after(word.before).items():
            steps = swap.table[token].numpy() - swap.table[torch.from_numpy(ids)].numpy()
            if ids.tolist() != [token]:
                expected.append((float((gradient.values[list(word.tokens)] * steps).sum()), index, name))
    expected.sort(reverse=True)
    assert [flip.gain for flip in flips] == pytest.approx([gain for gain, _, _ in expected[:25]], rel=1e-4, abs=1e-5)
    assert {(flip.index, flip.word) for flip in flips} == {(index, name) for _, index, name in expected[:25]}
    assert all(flip.word != attacked.words[flip.index] for flip in flips)
    (best,) = WordSwapGradient(wrapper).flips(attacked, indices)
    assert best == flips[0]


@pytest.mark.parametrize("goal", ["deployed", "average", "slowdown-uniform"])
def test_first_order_tells_good_swaps_from_bad_ones(worded, goal):
    goal_function, wrapper = attempt_on(worded(), goal)
    swap = WordSwapGradient(wrapper, top_n=10**6)
    told, true = [], []
    for text in ("the film was a good story", "no heart in this plot yet", "one movie much noise and bad jokes"):
        start = started(goal_function, text, label=0)
        flips = swap.flips(start.attacked_text, range(len(start.attacked_text.words)))
        texts = [start.attacked_text.replace_word_at_index(flip.index, flip.word) for flip in flips]
        told += [flip.gain for flip in flips]
        true += [result.score - start.score for result in goal_function.get_results(texts)[0]]
    assert np.corrcoef(told, true)[0, 1] > 0.2
    order = np.argsort(told)[::-1]
    assert np.mean(np.array(true)[order[:20]]) > np.mean(true) > np.mean(np.array(true)[order[-20:]])


def test_where_the_score_does_not_move_nothing_is_proposed(worded):
    goal_function, wrapper = attempt_on(worded(), make_goal("exit-at-most", exit=1), make_policy("entropy", t=0.4))
    start = started(goal_function, "the film was a good story")
    assert WordSwapGradient(wrapper, top_n=9).flips(start.attacked_text, range(6)) == []


def test_words_behind_the_limit_are_not_swapped(worded):
    goal_function, wrapper = attempt_on(worded())
    start = started(goal_function, TEXTS[3])
    flips = WordSwapGradient(wrapper, top_n=10**6).flips(start.attacked_text, range(len(start.attacked_text.words)))
    assert max(flip.index for flip in flips) == 61  # 64 tokens, two of them special


def test_gradients_are_forwards_and_no_queries(worded):
    policy = make_policy("entropy", t=0.5)
    goal_function, wrapper = attempt_on(worded(), "deployed", policy)
    texts = ["the film was a good story", "no heart in this plot", "a slow end", "bad jokes", "one actor"]
    started(goal_function, texts[0])
    forwards, layers = wrapper.forwards, wrapper.layer_forwards
    wrapper.gradients(texts)
    traces = wrapper.model.trace([{"text": text} for text in texts])
    assert wrapper.forwards - forwards == len(texts)
    assert wrapper.layer_forwards - layers == sum(trace.exit for trace in traces) < 4 * len(texts)
    wrapper.gradients([*texts, texts[0]])
    assert wrapper.forwards - forwards == len(texts)
    assert goal_function.num_queries == 1
    wrapper.begin(deadline=time.monotonic() - 1)
    with pytest.raises(LimitReached):
        wrapper.gradients(texts)
    wrapper.begin()
    wrapper.gradients(texts[:1])
    assert wrapper.forwards == 1


def test_goals_that_read_every_exit_are_differentiated_at_full_depth(worded):
    goal_function, wrapper = attempt_on(worded(), "average", make_policy("fixed", k=1))
    started(goal_function, "a slow end")
    layers = wrapper.layer_forwards
    wrapper.gradients(["a slow end"])
    assert wrapper.layer_forwards - layers == 4


def test_victims_and_views_without_gradients_are_refused(worded, bag):
    wrapper = VictimWrapper(bag(num_exits=2), ("text",), 1)
    with pytest.raises(ConfigError, match="which a BagOfWords does not show"):
        differentiate_goal(make_goal_function(wrapper, make_goal("deployed"), view=VIEWS["gradients"]))
    wrapper = VictimWrapper(ModelVictim(worded()), ("text",), 1)
    with pytest.raises(ConfigError, match="needs the view 'gradients', got 'scores'"):
        differentiate_goal(make_goal_function(wrapper, make_goal("deployed")))


def one_edit(word: str, other: str) -> bool:
    """A swap of neighbours, an insertion, a deletion or a substitution."""
    if len(word) == len(other):
        at = [i for i in range(len(word)) if word[i] != other[i]]
        return len(at) == 1 or (len(at) == 2 and at[1] == at[0] + 1 and word[at[0]] == other[at[1]])
    longer, shorter = sorted((word, other), key=len, reverse=True)
    return any(longer[:i] + longer[i + 1 :] == shorter for i in range(len(longer)))


def test_characters_are_edited_where_the_gradient_is_steepest(worded):
    goal_function, wrapper = attempt_on(worded(), "average")
    text = "a film was good (great cast) but slow"
    attacked = started(goal_function, text).attacked_text
    table: Path = resources.homoglyph_table()
    swap = CharacterSwapGradient(wrapper, top_n=30, top_k=3, homoglyphs=table)
    (gradient,) = wrapper.gradients([text])
    norms = {
        index: max(np.abs(gradient.values[token]).sum() for token in word.tokens)
        for index, word in enumerate(words_with_tokens(attacked, gradient))
    }
    steepest = sorted(norms, key=norms.get, reverse=True)[:3]
    random.seed(5)
    candidates = swap(attacked)
    changed = [attacked.all_words_diff(candidate) for candidate in candidates]
    assert len(candidates) == 30 and {index for found in changed for index in found} <= set(steepest)
    assert all(len(found) == 1 for found in changed)
    for candidate, (index,) in zip(candidates, changed, strict=True):
        assert one_edit(attacked.words[index], candidate.words[index])
    assert len({candidate.text for candidate in candidates}) == 30
    random.seed(5)
    assert [candidate.text for candidate in swap(attacked)] == [candidate.text for candidate in candidates]
    assert not swap.deterministic
    everything = CharacterSwapGradient(wrapper, top_n=10**6, top_k=100, homoglyphs=table)(attacked)
    assert all(0 not in attacked.all_words_diff(candidate) for candidate in everything)  # "a" is left alone
