"""Our transformations beside TextAttack's, over the same models: the same where theirs work, right where not."""

from __future__ import annotations

import itertools
import math
import re
from collections import OrderedDict
from contextlib import contextmanager
from functools import partial

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from robustexit.attacks.components.gap_filling import (
    MaskedInsertion,
    MaskedMerge,
    MaskedSwap,
    best_combinations,
    word_spans,
)
from robustexit.attacks.components.masked_lm import MaskedLM, is_one_word
from robustexit.attacks.limits import LimitReached
from robustexit.attacks.textattack_api import (
    AttackedText,
    InputColumnModification,
    RepeatModification,
    WordInsertionMaskedLM,
    WordMergeMaskedLM,
    WordSwapMaskedLM,
)

TEXTS = (
    "the film is very good .",
    "a dull story with a really dull cast .",
    "The unreel plot, goodness: is (rather) weakly fine!",
)

BOTH = pytest.mark.parametrize(
    ("family", "text"),
    # For RoBERTa TextAttack counts punctuation after a space among the words, and proposes fewer: only texts without.
    [*(("bert", text) for text in TEXTS), *(("roberta", text) for text in TEXTS[:2])],
)


@pytest.fixture(scope="module")
def bert(tiny_bert):
    from transformers import AutoModelForMaskedLM, AutoTokenizer

    return MaskedLM(AutoModelForMaskedLM.from_pretrained(tiny_bert), AutoTokenizer.from_pretrained(tiny_bert))


@pytest.fixture(scope="module")
def roberta(tiny_roberta):
    from transformers import AutoModelForMaskedLM, AutoTokenizer

    return MaskedLM(AutoModelForMaskedLM.from_pretrained(tiny_roberta), AutoTokenizer.from_pretrained(tiny_roberta))


def theirs(kind, lm, **settings):
    return kind(masked_language_model=lm.model, tokenizer=lm.tokenizer, **settings)


def texts(transformation, text, **settings):
    return [made.text for made in transformation(text, **settings)]


def once(many):
    return list(dict.fromkeys(many))


@pytest.fixture
def whole_text(monkeypatch):
    """TextAttack's cut of the text mended, so that its insertions and merges can be compared."""
    monkeypatch.setattr(AttackedText, "text_window_around_index", lambda self, index, size: self.text)


@pytest.fixture
def tags(monkeypatch, film_tagger):
    """The same tags for both."""
    monkeypatch.setattr(AttackedText, "pos_of_word_index", lambda self, i: film_tagger(self.words)[i])


# --- where theirs work ---------------------------------------------------------------------------------------------


@BOTH
def test_swaps_are_textattack_s(family, text, request):
    lm = request.getfixturevalue(family)
    settings = {"method": "bae", "max_candidates": 12, "min_confidence": 1e-2}
    stock = texts(theirs(WordSwapMaskedLM, lm, **settings), AttackedText(text))
    ours = texts(MaskedSwap(masked_language_model=lm, **settings), AttackedText(text))
    assert ours == once(stock) and len(ours) >= 10


@pytest.mark.parametrize("text", TEXTS)
def test_bert_attack_s_words_are_textattack_s(bert, text):
    settings = {"method": "bert-attack", "max_candidates": 4}
    stock = texts(theirs(WordSwapMaskedLM, bert, **settings), AttackedText(text))
    ours = texts(MaskedSwap(masked_language_model=bert, ranked=False, **settings), AttackedText(text))
    assert ours == once(stock) and len(ours) > 10


@BOTH
@pytest.mark.parametrize(
    ("stock", "ours"), [(WordInsertionMaskedLM, MaskedInsertion), (WordMergeMaskedLM, MaskedMerge)]
)
def test_insertions_and_merges_are_textattack_s(family, stock, ours, text, request, whole_text, tags):
    lm = request.getfixturevalue(family)
    settings = {"max_candidates": 12, "min_confidence": 1e-2}
    expected = once(texts(theirs(stock, lm, **settings), AttackedText(text)))
    found = texts(ours(masked_language_model=lm, **settings), AttackedText(text))
    assert found == expected and found


def test_candidates_know_what_was_changed(roberta, tags):
    text = AttackedText("the film is very good")
    for kind, changed in ((MaskedSwap, 1), (MaskedInsertion, 2), (MaskedMerge, 1)):
        transformation = kind(masked_language_model=roberta, max_candidates=3)
        made = transformation(text)
        assert made and all(m.attack_attrs["last_transformation"] is transformation for m in made)
        assert all(len(m.attack_attrs["newly_modified_indices"]) == changed for m in made)


# --- where theirs do not -------------------------------------------------------------------------------------------


@contextmanager
def likely(lm, entry):
    """The model with one entry far more likely than all others, and nothing remembered."""
    bias = lm.model.get_output_embeddings().bias.data
    kept = bias[entry].clone()
    bias[entry] += 100
    yield MaskedLM(lm.model, lm.tokenizer)
    bias[entry] = kept


def test_bae_proposes_whole_words(bert):
    with likely(bert, bert.tokenizer.convert_tokens_to_ids("##ness")) as fresh:
        text = AttackedText("the film is very good")
        swap = MaskedSwap(masked_language_model=fresh, max_candidates=3, min_confidence=0.0, pieces=False)
        assert "ness film is very good" in texts(theirs(WordSwapMaskedLM, bert, max_candidates=3), text)
        assert texts(swap, text) and not any("ness" in made for made in texts(swap, text))


@pytest.mark.parametrize("method", ["bae", "bert-attack"])
def test_special_tokens_are_not_proposed(bert, method):
    with likely(bert, bert.tokenizer.cls_token_id) as fresh:
        text = AttackedText("the film is very good")
        settings = {"method": method, "max_candidates": 4, "min_confidence": 0.0}
        assert "the [CLS] is very good" in texts(theirs(WordSwapMaskedLM, bert, **settings), text)
        ours = texts(MaskedSwap(masked_language_model=fresh, **settings), text)
        assert ours and not any("CLS" in made for made in ours)


def test_words_in_other_letters_are_read_back(roberta):
    (entry,) = roberta.tokenizer(" caf\u00e9", add_special_tokens=False)["input_ids"]
    text, settings = AttackedText("the film is very good"), {"max_candidates": 3, "min_confidence": 0.0}
    with likely(roberta, entry) as fresh:
        stock = texts(theirs(WordSwapMaskedLM, roberta, **settings), text, indices_to_modify=[1])
        ours = texts(MaskedSwap(masked_language_model=fresh, **settings), text, indices_to_modify=[1])
    assert stock[0] == "the caf\u00c3\u00a9 is very good"
    assert ours[0] == "the caf\u00e9 is very good"


def test_the_gap_is_found_beside_the_mask_token_s_letters(bert):
    text = AttackedText("[MASK] film is very good")
    stock = texts(theirs(WordSwapMaskedLM, bert, max_candidates=6), text, indices_to_modify=[1])
    ours = texts(MaskedSwap(masked_language_model=bert, max_candidates=6), text, indices_to_modify=[1])
    nouns = {"movie", "story", "plot", "script", "cast"}
    assert {made.split()[1] for made in ours} == nouns
    assert {made.split()[1] for made in stock} != nouns


def test_models_with_few_positions_work(tiny_bert):
    from transformers import AutoTokenizer, BertConfig, BertForMaskedLM

    tokenizer = AutoTokenizer.from_pretrained(tiny_bert)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    torch.manual_seed(0)
    lm = MaskedLM(BertForMaskedLM(BertConfig(len(tokenizer), max_position_embeddings=32, **sizes)), tokenizer)
    with pytest.raises((IndexError, RuntimeError)):
        theirs(WordSwapMaskedLM, lm)(AttackedText("the film"))
    assert texts(MaskedSwap(masked_language_model=lm, min_confidence=0.0), AttackedText("the film"))


def test_families_that_textattack_does_not_know_work(tiny_bert):
    from transformers import AutoTokenizer, DistilBertConfig, DistilBertForMaskedLM

    tokenizer = AutoTokenizer.from_pretrained(tiny_bert)
    tokenizer.model_input_names = ["input_ids", "attention_mask"]
    torch.manual_seed(0)
    lm = MaskedLM(DistilBertForMaskedLM(DistilBertConfig(len(tokenizer), dim=32, n_layers=1, n_heads=2)), tokenizer)
    with pytest.raises(ValueError, match="distilbert is not available"):
        theirs(WordSwapMaskedLM, lm)(AttackedText("the film"))
    assert texts(MaskedSwap(masked_language_model=lm, min_confidence=0.0), AttackedText("the film"))


def test_clare_s_causal_class_is_the_masked_model_where_it_exists(tiny_roberta, roberta):
    from transformers import AutoModelForCausalLM

    inputs = roberta.tokenizer("the<mask> is very good", return_tensors="pt")
    with torch.no_grad():
        causal = AutoModelForCausalLM.from_pretrained(tiny_roberta).eval()(**inputs).logits
        assert torch.equal(causal, roberta.model(**inputs).logits), "no causal mask: the same predictions"


def test_a_model_is_not_moved(bert, monkeypatch):
    from textattack.shared import utils

    monkeypatch.setattr(utils, "device", torch.device("meta"))
    MaskedSwap(masked_language_model=bert)
    assert bert.device == torch.device("cpu")


@pytest.mark.parametrize("family", ["bert", "roberta"])
def test_the_first_place_can_be_inserted_at_and_the_last_merged(family, request, tags):
    lm = request.getfixturevalue(family)
    text = AttackedText("very good film")
    settings = {"max_candidates": 5, "min_confidence": 0.0}
    assert not texts(theirs(WordInsertionMaskedLM, lm, **settings), text, indices_to_modify=[0])
    inserted = texts(MaskedInsertion(masked_language_model=lm, **settings), text, indices_to_modify=[0])
    assert inserted and all(made.endswith(" very good film") for made in inserted)
    first = [made for made in texts(theirs(WordMergeMaskedLM, lm, **settings), text) if made.endswith(" film")]
    assert not first, "theirs lose the mask token at the start"
    merged = texts(MaskedMerge(masked_language_model=lm, **settings), text)
    assert {made.split()[-1] == "film" for made in merged} == {True, False}


def test_merges_keep_to_the_fields_that_may_change(roberta, tags):
    pair = AttackedText(OrderedDict(premise="the film is very good", hypothesis="movie is a dull story"))
    only = InputColumnModification(["premise", "hypothesis"], {"premise"})
    settings = {"max_candidates": 4, "min_confidence": 0.0}
    stock = theirs(WordMergeMaskedLM, roberta, **settings)(pair, [only])
    ours = MaskedMerge(masked_language_model=roberta, **settings)(pair, [only])
    assert any(made.tokenizer_input[0] != pair.tokenizer_input[0] for made in stock)
    assert ours and all(made.tokenizer_input[0] == pair.tokenizer_input[0] for made in ours)


def test_merges_never_join_two_fields(roberta, tags):
    pair = AttackedText(OrderedDict(premise="the film is very good", hypothesis="movie is dull"))
    settings = {"max_candidates": 4, "min_confidence": 0.0}
    crossing = [i for i in range(pair.num_words) if pair.words[i] == "good"]
    assert any(
        made.tokenizer_input[1].strip() == "is dull" for made in theirs(WordMergeMaskedLM, roberta, **settings)(pair)
    ), "theirs take the hypothesis' first word into the premise"
    ours = MaskedMerge(masked_language_model=roberta, **settings)
    assert ours(pair) and not any(made.tokenizer_input[1].strip() == "is dull" for made in ours(pair))
    assert not ours(pair, indices_to_modify=[*crossing, crossing[0] + 1])


def test_merged_words_are_not_merged_again(roberta, tags):
    text = AttackedText("the good good film is very good")
    merge = MaskedMerge(masked_language_model=roberta, max_candidates=4, min_confidence=0.0)
    changed = text.delete_word_at_index(2).replace_word_at_index(1, "dull")
    assert any("dull" not in made for made in texts(merge, changed))
    again = texts(merge, changed, pre_transformation_constraints=[RepeatModification()])
    assert again and all(made.startswith("the dull film ") for made in again)
    stock = theirs(WordMergeMaskedLM, roberta, max_candidates=4, min_confidence=0.0)
    assert not all(
        made.startswith("the dull film ")
        for made in texts(stock, changed, pre_transformation_constraints=[RepeatModification()])
    )


# --- BERT-Attack's combinations ------------------------------------------------------------------------------------


def brute_force(choices, count, ranked=True):
    made = [("".join(t for t, _ in c), sum(cost for _, cost in c)) for c in itertools.product(*choices)]
    made = [(text, cost) for text, cost in made if is_one_word(text)]
    return once([text for text, _ in (sorted(made, key=lambda one: one[1]) if ranked else made)[:count]])


pieces = st.sampled_from(["film", "s", "-", "'", ",", "un", "2", "(", "\u00e9", "_", "a.b", "*"])
position = st.lists(st.tuples(pieces, st.integers(0, 2**20).map(float)), min_size=1, max_size=4)


@given(st.lists(position, min_size=1, max_size=5), st.integers(1, 12), st.booleans())
def test_the_best_combinations_are_those_of_brute_force(choices, count, ranked):
    found = best_combinations(choices, count, ranked=ranked)
    expected = brute_force(choices, count, ranked)
    if ranked:
        assert [costs(choices)[text] for text in found] == [costs(choices)[text] for text in expected]
    else:
        assert found == expected


def costs(choices):
    cheapest: dict[str, float] = {}
    for c in itertools.product(*choices):
        text = "".join(t for t, _ in c)
        cheapest[text] = min(cheapest.get(text, math.inf), sum(cost for _, cost in c))
    return cheapest


def test_combinations_come_by_perplexity(bert):
    """TextAttack's class says so; it sorts them, drops the result, and takes the first."""
    text, count = AttackedText("the unmakely plot is very good"), 4
    logits, offsets = bert.read(text.text)
    places = [i for i, (start, end) in enumerate(offsets) if 4 <= start < 12 and end > start]
    assert len(places) == 3
    scores, ids = logits[places].log_softmax(-1).topk(count)
    entries = [
        [(bert.vocabulary.texts[i], -float(s)) for i, s in zip(*row, strict=True)]
        for row in zip(ids.tolist(), scores, strict=True)
    ]
    swap = partial(MaskedSwap, method="bert-attack", masked_language_model=bert, max_candidates=count)
    ours = texts(swap(), text, indices_to_modify=[1])
    assert [made.split()[1] for made in ours] == brute_force(entries, count)
    unsorted = texts(
        theirs(WordSwapMaskedLM, bert, method="bert-attack", max_candidates=count), text, indices_to_modify=[1]
    )
    assert [made.split()[1] for made in unsorted] == brute_force(entries, count, ranked=False)
    assert ours != unsorted
    assert texts(swap(ranked=False), text, indices_to_modify=[1]) == unsorted


def test_combinations_do_not_explode():
    """48 sub-words at each of 12 places are 1.5e20 combinations; TextAttack makes them all."""
    choices = [[(f"{chr(97 + k % 26)}{k}", float(k)) for k in range(48)] for _ in range(12)]
    found = best_combinations(choices, 48)
    assert found[0] == "a0" * 12 and len(found) == 48
    dead = [[("a", 0.0)], *([[(",", 0.0), (";", 1.0), (".", 2.0)]] * 20), [("b", 0.0)]]
    assert best_combinations(dead, 8) == []


# --- limits and odd texts ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [MaskedSwap, MaskedInsertion, MaskedMerge, partial(MaskedSwap, method="bert-attack")])
def test_a_call_can_be_stopped_between_gaps(kind, roberta, tags):
    transformation, made = kind(masked_language_model=roberta, max_candidates=5), []

    def stop_at_seven(count: int) -> None:
        made.append(count)
        if count >= 7:
            raise LimitReached("budget")

    transformation.watch = stop_at_seven
    with pytest.raises(LimitReached):
        transformation(AttackedText("a good film with a very good cast . " * 5))
    assert 7 <= made[-1] <= 7 + 5


@pytest.mark.parametrize("kind", [MaskedSwap, MaskedInsertion, MaskedMerge])
def test_a_long_text_s_gaps_are_not_all_filled_first(kind, roberta, tags):
    lm, rows = MaskedLM(roberta.model, roberta.tokenizer), []
    transformation = kind(masked_language_model=lm, max_candidates=5)
    handle = lm.model.register_forward_pre_hook(
        lambda _, __, given: rows.append(len(given["input_ids"])), with_kwargs=True
    )

    def stop(count: int) -> None:
        if count:
            raise LimitReached("timeout")

    transformation.watch = stop
    with pytest.raises(LimitReached):
        transformation(AttackedText("a good film with a very good cast . " * 20))
    handle.remove()
    assert sum(rows) <= 40


@pytest.mark.parametrize("kind", [MaskedSwap, MaskedInsertion, MaskedMerge, partial(MaskedSwap, method="bert-attack")])
@pytest.mark.parametrize("text", ["", "  ", "...", "film", "\u4e2d\u6587 film", "very " * 100 + "good film"])
def test_odd_texts_are_no_errors(kind, text, roberta, bert, tags):
    for lm in (MaskedLM(roberta.model, roberta.tokenizer), MaskedLM(bert.model, bert.tokenizer)):
        lm.limit = 64
        made = texts(kind(masked_language_model=lm, max_candidates=3), AttackedText(text))
        assert len(made) == len(set(made)) and text not in made


def test_words_lie_where_they_are_said_to_lie():
    text = AttackedText("'a' cat, a-b -- c_d isn't (x) a")
    assert [text.text[start:end] for start, end in word_spans(text)] == text.words
    assert word_spans(text)[0] == (1, 2)
    assert re.fullmatch(r"\W*a\W*", text.text[word_spans(text)[-1][0] - 1 :])
