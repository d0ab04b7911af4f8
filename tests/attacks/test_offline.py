"""In a fresh process: no network, nothing of the user's touched, the same answers for any hash seed."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

from robustexit.attacks import resources
from robustexit.errors import ResourceError

PROGRAM = """
import json, logging, os, runpy, socket, sys

opened = []


def refuse(*args, **kwargs):
    caller = sys._getframe(1).f_code.co_name
    if caller != "_has_ipv6":  # urllib3 asks at import, with a local socket, whether there is IPv6
        opened.append(f"{caller}: {args[1:]}")
    raise OSError("no network in this test")


socket.socket = type("Blocked", (socket.socket,), {"__init__": refuse})
socket.create_connection = socket.getaddrinfo = refuse

mine = logging.getLogger("mine")
fakes = runpy.run_path(sys.argv[1])
from robustexit.attacks import Attacker, effective_name, make_recipe
from robustexit.attacks.textattack_api import StopwordModification

victim = fakes["BagOfWords"](num_exits=4, num_classes=3, threshold=0.8, gain=0.3)
results = {}
for name in sys.argv[2].split(","):
    recipe = make_recipe(name, popsize=8, maxiter=3) if name.startswith("bad") else make_recipe(name)
    attacker = Attacker(victim, recipe)
    for example in fakes["labelled"](victim)[:12]:
        result = attacker.attempt(example, dataset="d", seed=0)
        results[f"{attacker.effective_name} {example.example_id}"] = [
            result.outcome, result.text_attacked["text"], result.queries, result.forwards, result.error
        ]
watched = ("HF_HOME", "XDG_CACHE_HOME", "TA_CACHE_DIR", "TFHUB_CACHE_DIR", "PYTORCH_TRANSFORMERS_CACHE")
import huggingface_hub.constants
from textattack.shared.utils import install
print("RESULT" + json.dumps({
    "results": results,
    "environment": {name: os.environ.get(name) for name in watched},
    "parallelism": os.environ["TOKENIZERS_PARALLELISM"],
    "hf_home": huggingface_hub.constants.HF_HOME,
    "textattack_cache": install.TEXTATTACK_CACHE_DIR,
    "opened": opened,
    "logger_disabled": mine.disabled,
    "stopwords": sorted(StopwordModification().stopwords),
}))
"""


def start(home: Path, environment, recipes: list[str]) -> subprocess.Popen[str]:
    home.mkdir()
    conftest = Path(__file__).with_name("conftest.py")
    command = [sys.executable, "-c", PROGRAM, str(conftest), ",".join(recipes)]
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, encoding="utf-8"
    )


def finish(process: subprocess.Popen[str]) -> dict:
    output, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    seen = json.loads(output[output.index("RESULT") + len("RESULT") :])
    return {**seen, "errors": errors, "printed": output[: output.index("RESULT")]}


@pytest.fixture(scope="module")
def fresh(tmp_path_factory, child_environment):
    """Two runs of the same attacks with different hash seeds, each in an empty home."""
    folder = tmp_path_factory.mktemp("homes")
    names = ["deepwordbug", "bad-characters-deletions", "bad-characters-homoglyphs"]
    names += ["pwws"] if resources.find("wordnet").found else []
    homes = [folder / "one", folder / "two"]
    environments = [
        child_environment(home, PYTHONHASHSEED=seed, OMP_NUM_THREADS="1", PYTHONIOENCODING="utf-8")
        for home, seed in zip(homes, ("1", "4242"), strict=True)
    ]
    running = [start(home, env, names) for home, env in zip(homes, environments, strict=True)]
    return [{**finish(process), "home": home} for process, home in zip(running, homes, strict=True)]


@pytest.mark.slow
def test_attacks_run_offline_in_an_empty_home(fresh):
    results = fresh[0]["results"].values()
    assert len(results) >= 36
    assert all(error is None for *_, error in results)
    assert {outcome for outcome, *_ in results} >= {"succeeded"}
    assert fresh[0]["errors"] == "" or "textattack" not in fresh[0]["errors"]
    assert fresh[0]["printed"] == ""
    assert fresh[0]["opened"] == []


@pytest.mark.slow
def test_results_do_not_depend_on_the_hash_seed(fresh):
    assert fresh[0]["results"] == fresh[1]["results"]


@pytest.mark.slow
def test_nothing_of_the_user_s_is_touched(fresh):
    seen = fresh[0]
    home = seen["home"]
    assert not (home / ".cache/textattack").exists()
    assert not (home / "nltk_data").exists()
    assert set(seen["environment"].values()) == {None}
    assert seen["parallelism"] == "false"
    assert seen["hf_home"] == str(home / ".cache/huggingface")
    assert seen["textattack_cache"] == str(home / ".cache/textattack")
    assert seen["logger_disabled"] is False
    assert (home / ".cache/robustexit/textattack/post_install_check_3").is_file()


@pytest.mark.slow
def test_our_stop_words_stand_in(fresh):
    ours = (resources.PACKAGED / "english_stopwords.txt").read_text().split()
    if resources.find("stopwords").where.startswith("/usr"):
        pytest.skip("this machine has NLTK's stop words system-wide")
    assert fresh[0]["stopwords"] == sorted(ours)
    assert any(key.startswith("deepwordbug+robustexit-stopwords ") for key in fresh[0]["results"])


def test_downloads_are_refused_with_the_way_out(tmp_path, monkeypatch):
    monkeypatch.setenv("TA_CACHE_DIR", str(tmp_path))
    monkeypatch.delenv("ROBUSTEXIT_ALLOW_NETWORK", raising=False)
    importlib.import_module("robustexit.attacks.textattack_api")
    from textattack.shared import utils

    with pytest.raises(ResourceError, match=r"counter-fitted-vectors is missing .* do this: download it \(--allow"):
        utils.download_from_s3("word_embeddings/paragramcf")
    (tmp_path / "word_embeddings").mkdir()
    assert utils.download_from_s3("word_embeddings") == str(tmp_path / "word_embeddings")
    assert [path.name for path in tmp_path.iterdir()] == ["word_embeddings"]


def test_nltk_downloads_nothing_while_attacks_are_built(monkeypatch):
    import nltk

    from robustexit.attacks.components.install import prepared

    def fail(*args, **kwargs):
        raise AssertionError("nltk.download was called")

    monkeypatch.setattr(nltk, "download", fail)
    with prepared([]):
        assert nltk.download("omw-1.4") is False


def test_wordnet_loads_whole():
    if not resources.find("wordnet").found:
        pytest.skip(f"needs WordNet: {resources.find('wordnet').where}")
    from robustexit.attacks.components.install import prepared

    with prepared(["wordnet"]):
        from nltk.corpus import wordnet
        from textattack.transformations import WordSwapWordNet

        swaps = WordSwapWordNet()
    assert sum(1 for _ in wordnet.all_synsets()) == 117_659
    assert "movie" in swaps._get_replacement_words("film")
