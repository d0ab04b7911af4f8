from __future__ import annotations

from pathlib import Path

import pytest
import torch

from robustexit.attacks import resources
from robustexit.attacks.components.masked_lm import Gap, MaskedLM, Rule, load_masked_lm
from robustexit.errors import ModelError, ResourceError

EVERYTHING = Rule(count=10**6, least=0.0, pieces=True)
NOUNS = {"film", "movie", "story", "plot", "script", "cast"}


def load(folder: Path) -> MaskedLM:
    from transformers import AutoModelForMaskedLM, AutoTokenizer

    return MaskedLM(AutoModelForMaskedLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder), str(folder))


@pytest.fixture(scope="module", params=["tiny_bert", "tiny_roberta"])
def lm(request):
    return load(request.getfixturevalue(request.param))


def test_a_gap_is_filled_with_what_fits(lm):
    words = lm.fill([lm.gap("the ", " is very good")], Rule(6, 0.0, pieces=False))
    assert set(words[0]) == NOUNS
    words = lm.fill([lm.gap("the film is ", " good")], Rule(4, 0.0, pieces=False))
    assert set(words[0]) == {"very", "really", "rather", "quite"}


def test_proposals_are_the_likeliest_first(lm):
    gap = lm.gap("the ", " is very good")
    inputs = lm.tokenizer(gap.text, return_tensors="pt")
    at = inputs["input_ids"][0].tolist().index(lm.tokenizer.mask_token_id)
    with torch.no_grad():
        probabilities = lm.model(**inputs).logits[0, at].softmax(-1)
    likely = [lm.tokenizer.decode(i).strip() for i in probabilities.argsort(descending=True)[:5]]
    assert lm.fill([gap], Rule(5, 0.0, pieces=True)) == [likely]
    third = float(probabilities.sort(descending=True).values[2])
    assert lm.fill([gap], Rule(5, third * 0.999, pieces=True)) == [likely[:3]]


def test_a_gap_s_proposals_depend_on_its_text_alone(lm):
    sentences = [
        "the film is very good",
        "a dull story with a really dull cast .",
        "a fine plot with a rather fine cast .",
    ]
    gaps = [
        lm.gap(" ".join(w[:i]) + " ", " " + " ".join(w[i + 1 :])) for w in map(str.split, sentences) for i in range(5)
    ]
    probabilities = {}
    for group in [gaps, gaps[:1], gaps[3:5], list(reversed(gaps)), *([gap] for gap in gaps)]:
        fresh = MaskedLM(lm.model, lm.tokenizer)
        fresh._proposed = lambda row, rule, at_start: row  # type: ignore[assignment]
        for gap, row in zip(group, fresh.fill(group, EVERYTHING, spare=gaps), strict=True):
            assert torch.equal(row, probabilities.setdefault(gap, row))


def test_the_head_runs_on_the_gaps_alone_and_changes_nothing(lm):
    text = lm.gap("the film is ", " good").text
    logits, offsets = lm.read(text)
    inputs = lm.tokenizer(text, return_tensors="pt")
    with torch.no_grad():
        expected = lm.model(**inputs).logits[0]
    assert torch.allclose(logits, expected, atol=1e-5)
    assert len(offsets) == len(expected)
    seen = []
    handle = lm.model.get_output_embeddings().register_forward_hook(lambda _, arguments, out: seen.append(out.shape[1]))
    MaskedLM(lm.model, lm.tokenizer).fill([lm.gap("the ", " is very good")], EVERYTHING)
    handle.remove()
    assert seen == [1]


def test_what_was_asked_is_not_run_again(lm):
    runs = []
    handle = lm.model.register_forward_hook(lambda *_: runs.append(1))
    fresh = MaskedLM(lm.model, lm.tokenizer)
    gaps = [fresh.gap("the ", " is very good"), fresh.gap("the film is ", " good")]
    first = fresh.fill(gaps[:1], EVERYTHING, spare=gaps)
    assert len(runs) == 1
    assert fresh.fill([gaps[0], gaps[0]], EVERYTHING) == [first[0], first[0]]
    assert fresh.fill(gaps[1:], EVERYTHING) and len(runs) == 1, "the second gap took a row that was free"
    fresh.read("the film")
    fresh.read("the film")
    assert len(runs) == 2
    handle.remove()


def test_memory_is_bounded(lm, monkeypatch):
    from robustexit.attacks.components import masked_lm

    monkeypatch.setattr(masked_lm, "_REMEMBERED", 3)
    fresh = MaskedLM(lm.model, lm.tokenizer)
    for noun in sorted(NOUNS):
        assert fresh.fill([fresh.gap(f"the {noun} is ", " good")], EVERYTHING)[0]
    assert len(fresh._filled) == 3


def test_the_mask_token_s_letters_in_a_text_are_no_gap(lm):
    before = f"{lm.mask} "
    assert lm.gap(before, " is very good") == Gap(f"{before}{lm.mask} is very good", 1)
    assert set(lm.fill([lm.gap(before, " is very good")], Rule(6, 0.0, pieces=False))[0]) == NOUNS
    assert set(lm.fill([Gap(f"{before}{lm.mask} is very good", 0)], Rule(2, 0.0, pieces=False))[0]) < {"the", "a", "is"}


def test_special_and_reserved_entries_are_no_words(lm):
    everything = lm.fill([lm.gap("the ", " is very good")], EVERYTHING)[0]
    assert everything and not set(everything) & set(lm.tokenizer.all_special_tokens)
    vocabulary = lm.vocabulary
    assert not any(vocabulary.is_word[i] for i in lm.tokenizer.all_special_ids)


def test_reserved_entries_of_bert_are_no_words(tiny_bert, tmp_path):
    from transformers import BertTokenizerFast

    words = (tiny_bert / "vocab.txt").read_text().splitlines()
    (tmp_path / "vocab.txt").write_text("\n".join([*words[:5], "[unused0]", *words[6:]]))
    vocabulary = load(tiny_bert).vocabulary.of(BertTokenizerFast(str(tmp_path / "vocab.txt")), len(words))
    assert vocabulary.texts[5] == "[unused0]" and not vocabulary.is_word[5]
    assert vocabulary.is_word[6]


def test_pieces_are_told_from_words(tiny_bert, tiny_roberta):
    bert, roberta = load(tiny_bert), load(tiny_roberta)
    entries = dict(zip(bert.tokenizer.convert_ids_to_tokens(range(len(bert.tokenizer))), range(10**6), strict=False))
    assert bert.vocabulary.begins[entries["film"]] and not bert.vocabulary.begins[entries["##ness"]]
    assert bert.vocabulary.texts[entries["##ness"]] == "ness"
    assert not bert.vocabulary.space_marked and roberta.vocabulary.space_marked
    cafe = roberta.tokenizer(" caf\u00e9", add_special_tokens=False)["input_ids"]
    assert len(cafe) == 1 and roberta.vocabulary.texts[cafe[0]] == "caf\u00e9"
    assert roberta.vocabulary.begins[cafe[0]]
    half = roberta.tokenizer.convert_tokens_to_ids("\u00c3")
    assert not roberta.vocabulary.is_word[half], "half a letter"
    assert "the" in roberta.fill([roberta.gap("", " film is very good")], Rule(9, 0.0, pieces=False))[0]


def test_sentencepiece_needs_no_rule_of_its_own(lm):
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    entries = [
        ("<unk>", 0.0),
        ("<mask>", 0.0),
        ("\u2581a", -1.0),
        ("\u2581film", -1.0),
        ("film", -2.0),
        ("s", -1.0),
        ("\u2581", -4.0),
    ]
    tokenizer = Tokenizer(models.Unigram(entries, 0))
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>", mask_token="<mask>")
    vocabulary = lm.vocabulary.of(fast, 8)
    assert vocabulary.texts[:6] == ["<unk>", "<mask>", "a", "film", "film", "s"] and vocabulary.texts[7] == ""
    assert vocabulary.is_word.tolist() == [False, False, True, True, True, True, False, False]
    assert vocabulary.begins.tolist()[2:6] == [True, True, False, False]
    assert not vocabulary.space_marked


def test_gaps_beyond_the_model_s_positions_get_nothing(tiny_bert):
    lm = load(tiny_bert)
    lm.limit = 16
    long = "the film is very good and " * 10
    assert (
        lm.fill([lm.gap("the ", " is very good " + long), lm.gap(long + "the ", " is very good")], EVERYTHING)[1] == []
    )
    logits, offsets = lm.read(long)
    assert len(logits) == len(offsets) == 16


def test_positions_are_the_model_s_own(tiny_bert, tiny_roberta):
    assert load(tiny_bert).limit == 512
    assert load(tiny_roberta).limit == 512


@pytest.mark.parametrize("family", ["distilbert", "electra", "albert", "deberta-v2", "modernbert", "mpnet"])
def test_every_family_of_masked_models_works(family, tiny_bert):
    from transformers import AutoConfig, AutoModelForMaskedLM

    tokenizer = load(tiny_bert).tokenizer
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    if family == "distilbert":
        sizes = {"dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 64}
    sizes |= {"embedding_size": 32} if family in ("electra", "albert") else {}
    config = AutoConfig.for_model(family, vocab_size=len(tokenizer) + 3, pad_token_id=0, **sizes)
    torch.manual_seed(0)
    lm = MaskedLM(AutoModelForMaskedLM.from_config(config), tokenizer)
    gap = lm.gap("the ", " is very good")
    inputs = tokenizer(gap.text, return_tensors="pt")
    if family in ("distilbert", "modernbert", "mpnet"):
        inputs.pop("token_type_ids")
    assert len(lm.fill([gap], EVERYTHING)[0]) > len(NOUNS)
    with torch.no_grad():
        expected = lm.model(**inputs).logits[0]
    assert torch.allclose(lm.read(gap.text)[0], expected, atol=1e-4)


def test_a_model_is_loaded_once(tiny_bert):
    resources.configure({"masked-lm": tiny_bert, "masked-lm-roberta": tiny_bert})
    try:
        assert load_masked_lm("masked-lm") is load_masked_lm("masked-lm-roberta")
        assert not load_masked_lm("masked-lm").model.training
    finally:
        resources.configure({})


def test_a_model_that_cannot_fill_gaps_is_refused(tiny_bert, tmp_path, bare):
    from transformers import BertModel

    BertModel.from_pretrained(tiny_bert).save_pretrained(tmp_path / "encoder")
    load(tiny_bert).tokenizer.save_pretrained(tmp_path / "encoder")
    try:
        resources.configure({"masked-lm": tmp_path / "encoder"})
        with pytest.raises(ModelError, match=r"lacks .* of the model's weights"):
            load_masked_lm("masked-lm")
        resources.configure({})
        with pytest.raises(ResourceError, match="masked-lm is missing"):
            load_masked_lm("masked-lm")
    finally:
        resources.configure({})


def test_a_model_stays_where_it_is(lm):
    assert lm.on(torch.device("cpu")) is lm
    there = lm.on(torch.device("meta"))
    assert there is lm.on(torch.device("meta")) and there is not lm
    assert lm.device == torch.device("cpu")


def test_a_tokenizer_without_a_mask_is_refused(lm):
    import copy

    tokenizer = copy.deepcopy(lm.tokenizer)
    tokenizer.mask_token = None
    with pytest.raises(ModelError, match="no mask token"):
        MaskedLM(lm.model, tokenizer, "here")


def test_the_example_trains_a_model_that_the_recipes_take(tiny_bert, tmp_path, capsys):
    """An encoder without a head, texts in two kinds of files; read as `masked-lm` afterwards."""
    import json
    import runpy

    from transformers import BertModel

    example = runpy.run_path(str(Path(__file__).parents[3] / "examples" / "masked_lm.py"))
    BertModel.from_pretrained(tiny_bert).save_pretrained(tmp_path / "encoder")
    load(tiny_bert).tokenizer.save_pretrained(tmp_path / "encoder")
    sentences = [f"the {noun} is {adverb} good" for noun in sorted(NOUNS) for adverb in ("very", "really", "quite")]
    (tmp_path / "lines.txt").write_text("\n".join(sentences))
    (tmp_path / "rows.jsonl").write_text("\n".join(json.dumps({"words": text, "label": 1}) for text in sentences))
    files = [str(tmp_path / "lines.txt"), str(tmp_path / "rows.jsonl")]
    out, trained = (
        tmp_path / "stand-in",
        ["--column", "words", "--steps", "60", "--rate", "3e-3", "--head-rate", "3e-3"],
    )
    example["main"]([*files, "--held-out", *files, "--out", str(out), "--encoder", str(tmp_path / "encoder"), *trained])
    assert "always the commonest token" in capsys.readouterr().out
    assert "**It is not one of them and is much weaker**" in (out / "README.md").read_text()
    resources.configure({"masked-lm": out})
    try:
        lm = load_masked_lm("masked-lm")
        assert resources.find("masked-lm").substitute == "stand-in"
    finally:
        resources.configure({})
    assert set(lm.fill([lm.gap("the ", " is very good")], Rule(6, 0.0, pieces=False))[0]) == NOUNS


def test_the_example_s_measure_is_right():
    """Known guesses: half of one text's tokens right, all of another's; texts are drawn whole for the interval."""
    import runpy

    import numpy as np

    example = runpy.run_path(str(Path(__file__).parents[3] / "examples" / "masked_lm.py"))
    share, low, high = example["_share"](np.array([[4, 2, 4], [2, 2, 2]]), 1)
    assert share == pytest.approx(4 / 6)
    assert (low, high) == (0.5, 1.0)
