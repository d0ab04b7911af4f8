"""French, Spanish and Chinese recipes on small data made here, in the formats of the real ones."""

from __future__ import annotations

import ast
import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from robustexit.attacks import check, recipes, resources
from robustexit.attacks.recipes import refused_language
from robustexit.attacks.resources.omw import omw_package

needs_wordnet = pytest.mark.skipif(
    not resources.find("wordnet").found, reason=f"needs WordNet: {resources.find('wordnet').where}"
)


@pytest.mark.parametrize(
    ("name", "language"), [("french", "fr"), ("spanish", "es"), ("chinese", "zh"), ("checklist", "en"), ("leap", "en")]
)
def test_a_recipe_is_for_texts_of_its_language(name, language):
    recipe = recipes.get(name)
    assert recipe.language == language
    assert refused_language(recipe, language) is None
    assert f"made for texts in '{language}'" in (refused_language(recipe, "de") or "")


@pytest.fixture
def nothing_here(bare, monkeypatch, tmp_path):
    monkeypatch.setattr(resources.places, "nltk_folders", lambda: [])
    monkeypatch.setattr(resources.language_stopwords, "nltk_folders", lambda: [])
    monkeypatch.setattr(resources.wordnet, "DEBIAN_WORDNET", tmp_path / "nowhere")


def test_what_is_missing_is_said_with_one_way_out(nothing_here):
    assert check("french").missing == ("wordnet", "omw")
    assert check("french").substitutes == ("robustexit-stopwords", "rule-ner")
    assert check("spanish").missing == ("wordnet", "omw")
    chinese = check("chinese")
    assert chinese.missing == ("hownet-chinese", "masked-lm-chinese")
    assert chinese.substitutes == ("pinyin-homophones",)
    assert chinese.fix == resources.find("hownet-chinese").how_to_get


def test_stop_words_of_a_language_come_from_nltk_or_from_us(nothing_here, monkeypatch, tmp_path):
    own = resources.language_stopwords.language_stopwords("french")
    assert {"le", "de", "est", "ne", "pas"} <= set(own) and not {"film", "bon"} & set(own)
    assert resources.find("stopwords-french").substitute == "robustexit-stopwords"
    english_only, both = tmp_path / "one", tmp_path / "two"
    for folder, languages in ((english_only, ["english"]), (both, ["english", "french"])):
        (folder / "corpora" / "stopwords").mkdir(parents=True)
        for language in languages:
            (folder / "corpora" / "stopwords" / language).write_text("le\nla\n", "utf-8")
    monkeypatch.setattr(resources.language_stopwords, "nltk_folders", lambda: [english_only, both])
    assert resources.find("stopwords-french").found
    assert resources.language_stopwords.language_stopwords("french") == ["le", "la"]
    assert not resources.find("stopwords-spanish").found


PROGRAM = """
import runpy, sys
from dataclasses import replace
fakes = runpy.run_path(sys.argv[1])
from robustexit.attacks import Attacker, recipes
from robustexit.attacks.components.install import prepared
from robustexit.attacks.textattack_api import AttackedText, StopwordModification, WordSwapWordNet
from robustexit.data.types import Example

victim = fakes["BagOfWords"](num_exits=4, num_classes=2, threshold=0.9, gain=0.2)
name, text = sys.argv[2:]
recipe = recipes.get(name)
with prepared(recipe.needs):
    try:
        stock = WordSwapWordNet(language={"french": "fra", "spanish": "esp"}[name])
    except ValueError as error:
        stock = str(error)
attacker = Attacker(victim, recipe)
label = victim.trace([{"text": text}])[0].answer
found = [replace(attacker.attempt(Example("e", {"text": text}, label), dataset="d", seed=0), seconds=0) for _ in "ab"]
assert found[0] == found[1] and found[0].error is None, found
(attack,) = [engine.attack for engine in attacker._engines.values()]
stops = [c.stopwords for c in attack.pre_transformation_constraints if isinstance(c, StopwordModification)]
start = AttackedText(text)
candidates = [made.text for made in attack.get_transformations(start, start)]
print("RESULT" + repr((attacker.effective_name, candidates, stops[0], stock)))
"""


def run(tmp_path, child_environment, name, text, **environment):
    """Attack one text in a process of its own: NLTK reads a WordNet once."""
    (tmp_path / "home").mkdir()
    conftest = str(Path(__file__).parents[1] / "conftest.py")
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, conftest, name, text],
        env=child_environment(tmp_path / "home", OMP_NUM_THREADS="1", PYTHONIOENCODING="utf-8", **environment),
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return ast.literal_eval(done.stdout.partition("RESULT")[2])


def omw(tmp_path, prov, language, rows):
    folder = tmp_path / "nltk" / "corpora" / omw_package() / prov
    folder.mkdir(parents=True)
    lines = [f"# {prov}\t{language}\turl\tlicence", *(f"{sense}\t{language}:lemma\t{word}" for sense, word in rows)]
    (folder / f"wn-data-{language}.tab").write_text("\n".join(lines) + "\n", "utf-8")
    return str(tmp_path / "nltk")


@needs_wordnet
@pytest.mark.slow
def test_french_swaps_words_places_and_names(tmp_path, child_environment):
    data = omw(tmp_path, "fra", "fra", [("06613686-n", "film"), ("06613686-n", "pellicule"), ("06613686-n", "fer")])
    text = "ce film de Aaron en Allemagne ne vaut pas cher"
    name, candidates, stops, stock = run(tmp_path, child_environment, "french", text, NLTK_DATA=data)
    assert stock.startswith("Language fra not one of")  # TextAttack's own, before NLTK has read any other language
    assert name == "french+robustexit-stopwords+rule-ner"
    assert any("pellicule" in text for text in candidates)
    assert any("Allemagne" not in text for text in candidates)
    assert any("Aaron" not in text for text in candidates)
    assert all(text.startswith("ce ") for text in candidates)  # a stop word
    assert "avec" in stops and "f" not in stops  # TextAttack's own are f, r, e, n, c, h


@needs_wordnet
@pytest.mark.slow
def test_spanish_swaps_words_although_textattack_s_own_cannot_be_built(tmp_path, child_environment):
    data = omw(tmp_path, "mcr", "spa", [("06613686-n", "película"), ("06613686-n", "filme"), ("06613686-n", "cinta")])
    text = "la película que hizo Carmen en Alemania no es buena"
    name, candidates, stops, stock = run(tmp_path, child_environment, "spanish", text, NLTK_DATA=data)
    assert stock.startswith("Language esp not one of")
    assert name == "spanish+robustexit-stopwords+rule-ner" and "hasta" in stops
    assert any("filme" in text for text in candidates) and any("cinta" in text for text in candidates)
    assert any("Alemania" not in text for text in candidates)
    assert "Language esp not one of" in stock


@pytest.fixture(scope="module")
def chinese_data(tmp_path_factory):
    """OpenHowNet's files with four senses, and a masked language model that knows single characters."""
    import torch
    from anytree import Node
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import BertConfig, BertForMaskedLM, BertTokenizerFast

    folder = tmp_path_factory.mktemp("chinese")
    hownet = folder / "hownet"
    hownet.mkdir()
    senses = {}
    for number, en, zh, sememe in (
        ("3400", "film", "电影", "film|影片"),
        ("3401", "picture", "影片", "film|影片"),
        ("3402", "movie", "片子", "film|影片"),
        ("3403", "good", "好", "good|好"),
        ("3500", "cinema", "电影", "good|好"),
    ):
        kinds = {"en_grammar": "noun", "ch_grammar": "noun"}
        senses[number] = {"No": number, "en_word": en, "ch_word": zh, "Def": f"{{{sememe}}}", **kinds}
    similar = {(a, b): 1.0 if a == b else 0.1 for a in ("film|影片", "good|好") for b in ("film|影片", "good|好")}
    trees = {number: Node(sense["Def"][1:-1], role="sense") for number, sense in senses.items()}
    written = {
        "HowNet_dict_complete": senses,
        "sememe_all": {"film|影片": 1, "good|好": 1},
        "sememe_sim_table": similar,
        "sense_tree": trees,
        "synonym": {},
    }
    for name, content in written.items():
        (hownet / name).write_bytes(pickle.dumps(content))
    (hownet / "sememe_triples_taxonomy.txt").write_text("film|影片 hypernym good|好\n", "utf-8")

    characters = "这个电影片子很好看我们都喜欢他坏的事市世是"
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *dict.fromkeys(characters)]
    tokenizer = Tokenizer(models.WordPiece({piece: i for i, piece in enumerate(pieces)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    model = BertForMaskedLM(BertConfig(vocab_size=len(pieces), max_position_embeddings=64, **sizes))
    model.save_pretrained(folder / "lm")
    BertTokenizerFast(tokenizer_object=tokenizer, model_max_length=64).save_pretrained(folder / "lm")
    return {"hownet-chinese": folder / "hownet", "masked-lm-chinese": folder / "lm"}


@pytest.fixture
def chinese_here(chinese_data, tmp_path, monkeypatch):
    monkeypatch.setattr(resources.base.os, "environ", {**resources.base.os.environ})
    resources.configure(chinese_data)
    yield
    resources.configure({})


def test_chinese_changes_one_word_at_a_time_by_sound_shape_sense_and_context(bag, chinese_here):
    from robustexit.attacks import Attacker
    from robustexit.data.types import Example

    text = "这个电影很好看，我们都喜欢。"
    victim = bag(num_exits=3, num_classes=2, gain=0.5)
    assert check("chinese").effective_name == "chinese+lm+pinyin-homophones"
    attacker = Attacker(victim, "chinese")
    tried = set()
    trace = victim.trace
    victim.trace = lambda texts, min_depth=1: (tried.update(t["text"] for t in texts), trace(texts, min_depth))[1]
    label = trace([{"text": text}])[0].answer
    found = [
        replace(attacker.attempt(Example("e", {"text": text}, label), dataset="d", seed=0), seconds=0) for _ in "ab"
    ]
    assert found[0] == found[1] and found[0].error is None
    assert {"这个影片很好看，我们都喜欢。", "这个片子很好看，我们都喜欢。"} & tried  # HowNet
    for odd in ("", "a", "!", "中文 句子", "x" * 300, "的", "电影" * 80):
        result = attacker.attempt(Example("o", {"text": odd}, trace([{"text": odd}])[0].answer), dataset="d", seed=0)
        assert result.error is None, (odd, result.error)
