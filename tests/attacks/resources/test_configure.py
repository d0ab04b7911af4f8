"""Where the user says that resources lie."""

from __future__ import annotations

import json
import multiprocessing
import subprocess
import sys
from pathlib import Path

import pytest

from robustexit.attacks import effective_name, resources
from robustexit.errors import ConfigError, ResourceError


def touch(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


def model(folder: Path) -> Path:
    touch(folder / "config.json")
    touch(folder / "model.safetensors")
    return folder


@pytest.fixture
def alone(bare: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Nothing of the system's either; returns an empty folder, the current one."""
    monkeypatch.setattr(resources.wordnet, "DEBIAN_WORDNET", Path("/nowhere"))
    monkeypatch.setattr(resources.places, "nltk_folders", lambda: [])
    here = bare.parent / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    return here


def test_nothing_is_configured_at_first(alone):
    assert {resources.configured(name) for name in resources.finders} == {None}


def test_paths_become_absolute(alone, tmp_path):
    resources.configure({"wordnet": "data", "hownet": Path("bank.pkl")})
    assert resources.configured("wordnet") == str(alone / "data")
    assert resources.configured("hownet") == str(alone / "bank.pkl")
    resources.configure({"wordnet": "data"}, base=tmp_path / "campaign")
    assert resources.configured("wordnet") == str(tmp_path / "campaign" / "data")
    assert resources.configured("hownet") is None


def test_home_is_expanded(alone, bare):
    resources.configure({"wordnet": "~/data"})
    assert resources.configured("wordnet") == str(bare / "data")


def test_a_model_may_be_named_by_its_id_on_the_hub(alone):
    resources.configure({"masked-lm": "me/tiny", "hownet": "me/tiny"})
    assert resources.configured("masked-lm") == "me/tiny"
    assert resources.configured("hownet") == str(alone / "me/tiny")
    model(alone / "me" / "tiny")
    resources.configure({"masked-lm": "me/tiny"})
    assert resources.configured("masked-lm") == str(alone / "me/tiny")


@pytest.mark.parametrize("value", ["./me/tiny", "/me/tiny", "a/b/c", "~/tiny"])
def test_a_path_is_no_id(alone, value):
    resources.configure({"masked-lm": value})
    with pytest.raises(ResourceError, match=r"masked-lm is missing .the configured path .* does not exist"):
        resources.require(["masked-lm"])


@pytest.mark.parametrize(
    ("paths", "message"),
    [
        ({"wordnett": "x"}, r"resources: unknown resource 'wordnett' \(did you mean 'wordnet'\?\)"),
        ({3: "x"}, "unknown resource '3'"),
        ({"wordnet": ""}, "expected a path for 'wordnet', got ''"),
        ({"wordnet": 3}, "expected a path for 'wordnet', got 3"),
        ({"wordnet": None}, "expected a path for 'wordnet', got None"),
    ],
)
def test_bad_settings_are_refused(alone, paths, message):
    with pytest.raises(ConfigError, match=message) as error:
        resources.configure(paths)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", resources.finders)
def test_a_path_with_nothing_there_is_one_clear_line(alone, name):
    resources.configure({name: "./nowhere"})
    found = resources.find(name)
    assert not found.usable
    with pytest.raises(ResourceError) as error:
        resources.require([name])
    message = str(error.value)
    assert "\n" not in message
    assert message.startswith(f"{name} is missing (the configured path {alone / 'nowhere'} does not exist); do this: ")
    assert "--resource" in message
    assert not list(alone.iterdir())


def test_the_file_of_the_environment(alone, monkeypatch, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "paths.yaml").write_text("wordnet: data\nmasked-lm: me/tiny\n")
    monkeypatch.setenv("ROBUSTEXIT_RESOURCES", str(tmp_path / "mine" / "paths.yaml"))
    assert resources.configured("wordnet") == str(tmp_path / "mine" / "data")
    assert resources.configured("masked-lm") == "me/tiny"
    resources.configure({"wordnet": "other"})
    assert resources.configured("wordnet") == str(alone / "other")
    assert resources.configured("masked-lm") == "me/tiny"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "expected a YAML file of names and paths .No such file"),
        (b"a: [", "not valid YAML"),
        (b"- a\n", "expected lines NAME: PATH, got list"),
        (b"wordnett: x\n", "did you mean 'wordnet'"),
        (b"\xff\xfe\xff", "expected a YAML file of names and paths"),
    ],
)
def test_a_bad_file_of_the_environment(alone, monkeypatch, content, message):
    if content is not None:
        Path("paths.yaml").write_bytes(content)
    monkeypatch.setenv("ROBUSTEXIT_RESOURCES", "paths.yaml")
    with pytest.raises(ConfigError, match=f"ROBUSTEXIT_RESOURCES=paths.yaml: .*{message}"):
        resources.find("wordnet")


def test_an_empty_file_of_the_environment(alone, monkeypatch):
    touch(alone / "paths.yaml")
    monkeypatch.setenv("ROBUSTEXIT_RESOURCES", "paths.yaml")
    assert resources.configured("wordnet") is None


@pytest.mark.parametrize("method", ["spawn", "fork"])
def test_worker_processes_have_the_same_paths(alone, method):
    resources.configure({"wordnet": "data"})
    with multiprocessing.get_context(method).Pool(1) as pool:
        assert pool.apply(resources.configured, ("wordnet",)) == str(alone / "data")


NLTK = {
    "stopwords": ["corpora/stopwords/english"],
    "wordnet": ["corpora/wordnet/data.noun"],
    "omw": [f"corpora/{resources.omw.omw_package()}/fra/wn-data-fra.tab"],
    "pos-tagger": ["taggers/averaged_perceptron_tagger_eng/x.json", "taggers/universal_tagset/en-ptb.map"],
}


@pytest.mark.parametrize("name", NLTK)
def test_nltk_folders_are_taken_as_configured(alone, name):
    for file in NLTK[name]:
        touch(alone / "data" / file)
    resources.configure({name: "data"})
    here = resources.require([name])[0]
    assert (here.found, here.substitute, here.where) == (True, None, str(alone / "data"))
    touch(alone / "empty" / "x")
    resources.configure({name: "empty"})
    with pytest.raises(ResourceError, match=f"{name} is missing .the configured path .*empty holds"):
        resources.require([name])


def test_configured_paths_go_before_nltk_s_folders(alone, monkeypatch):
    for folder in ("theirs", "mine"):
        touch(alone / folder / "corpora/stopwords/english")
    monkeypatch.setattr(resources.places, "nltk_folders", lambda: [alone / "theirs"])
    assert resources.find("stopwords").where == str(alone / "theirs")
    resources.configure({"stopwords": "mine"})
    assert resources.find("stopwords").where == str(alone / "mine")


def test_wordnet_s_own_files_are_completed(alone):
    for name in resources.wordnet.WORDNET_FILES:
        touch(alone / "dict" / name)
    resources.configure({"wordnet": "dict"})
    assert resources.find("wordnet").found
    completed = resources.wordnet_folder()
    assert (completed / "corpora/wordnet/lexnames").is_file()
    (alone / "dict" / "index.sense").unlink()
    with pytest.raises(ResourceError, match=r"holds neither corpora/wordnet nor WordNet's index.sense"):
        resources.wordnet_folder()


STORED = {
    "learning-to-write-lm": resources.learning_to_write_lm.LEARNING_TO_WRITE_FILES,
    "google-lm": tuple(file.replace("*", "1") for file in resources.google_lm.GOOGLE_LM_FILES),
}


@pytest.mark.parametrize("name", STORED)
def test_textattack_s_folders_are_taken_as_configured(alone, monkeypatch, name):
    for module in (resources.google_lm, resources.learning_to_write_lm):
        monkeypatch.setattr(module, "_INSTALLED", True, raising=False)
    monkeypatch.setattr(resources.learning_to_write_lm, "_INSTALLED", True)
    for file in STORED[name]:
        touch(alone / "model" / file)
    resources.configure({name: "model"})
    assert resources.find(name).found
    path = next(path for path, resource in resources.textattack_files.STORED.items() if resource == name)
    assert resources.stock_path(path) == alone / "model"
    (alone / "model" / STORED[name][0]).unlink()
    with pytest.raises(ResourceError, match=f"{name} is missing .the configured path .*model does not hold"):
        resources.require([name])


HUB = [name for name in resources.finders if resources.finders.get(name).hub and name != "sentence-encoder"]


@pytest.mark.parametrize("name", HUB)
def test_a_configured_model_stands_in_under_its_name(alone, name):
    model(alone / "tiny-model")
    resources.configure({name: "tiny-model"})
    here = resources.require([name])[0]
    assert (here.found, here.substitute, here.where) == (False, "tiny-model", str(alone / "tiny-model"))
    touch(alone / "no-model" / "readme")
    resources.configure({name: "no-model"})
    with pytest.raises(ResourceError, match=f"{name} is missing .the configured path .*no-model does not hold a "):
        resources.require([name])


def test_the_hub_s_cache_is_looked_into(alone, monkeypatch, tmp_path):
    assert "bert-base-uncased" in resources.find("masked-lm").where
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    folder = model(tmp_path / "hub" / "models--google-bert--bert-base-uncased" / "snapshots" / "abc")
    here = resources.find("masked-lm")
    assert (here.found, here.where) == (True, str(folder))
    resources.configure({"masked-lm": "bert-base-uncased"})
    assert resources.find("masked-lm").found
    resources.configure({"masked-lm": "me/other"})
    assert not resources.find("masked-lm").usable
    model(tmp_path / "hub" / "models--me--other" / "snapshots" / "abc")
    assert resources.find("masked-lm").substitute == "other"


def test_the_hub_s_folders_are_the_library_s():
    from huggingface_hub import constants

    assert str(resources.places.hub_cache()) == constants.HF_HUB_CACHE


def test_flair_s_models(alone, monkeypatch, tmp_path):
    monkeypatch.setenv("FLAIR_CACHE_ROOT", str(tmp_path / "flair"))
    stock = touch(
        tmp_path / "flair/models/upos-english-fast/models--flair--upos-english-fast/snapshots/abc/pytorch_model.bin"
    )
    here = resources.find("upos-tagger")
    assert (here.found, here.where) == (True, str(stock))
    resources.configure({"upos-tagger": touch(alone / "mine" / "final-model.pt")})
    here = resources.find("upos-tagger")
    assert (here.found, here.substitute) == (False, "mine")
    resources.configure({"upos-tagger": alone / "mine"})
    assert "is a folder" in resources.find("upos-tagger").where


def test_a_table_of_homoglyphs_of_the_user_s_stands_in_under_its_name(alone):
    Path("mine.txt").write_text("0041 ;\t0391\t# ( A ~ Α ) X\n")
    resources.configure({"homoglyphs": "mine.txt"})
    assert effective_name("bad-characters-homoglyphs") == "bad-characters-homoglyphs+mine"
    assert resources.homoglyph_table() == alone / "mine.txt"
    Path("mine.txt").write_text("\ufeff# intentional.txt\n0041 ;\t0391\t# ( A ~ Α ) X\n")
    assert effective_name("bad-characters-homoglyphs") == "bad-characters-homoglyphs"


def test_every_resource_says_one_line_how_to_get_it(alone):
    for name in resources.finders:
        found = resources.find(name)
        assert found.name == name
        assert found.how_to_get and "\n" not in found.how_to_get + found.where


def test_looking_is_light():
    """No machine learning library, no NLTK, no Hub, no network library is loaded by looking for everything."""
    program = (
        "import sys\n"
        "from robustexit.attacks import resources\n"
        "for name in resources.finders:\n"
        "    resources.find(name)\n"
        "import json; print(json.dumps(sorted(name.partition('.')[0] for name in sys.modules)))\n"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    heavy = {"textattack", "nltk", "torch", "transformers", "flair", "datasets", "huggingface_hub", "pandas"}
    assert not heavy & set(json.loads(ran.stdout.splitlines()[-1]))


def test_a_resource_of_another_package_is_an_entry_point(monkeypatch):
    """What `finder` registers is what an entry point of the group gives."""
    mine = resources.Finder(lambda: resources.Resource("mine", True, "here", None, ""))
    monkeypatch.setattr(resources.finders, "_external", lambda: {"mine": lambda: mine})
    monkeypatch.setattr(resources.finders, "_members", dict(resources.finders._members))
    assert resources.find("mine").found
    assert "mine" in resources.finders.names()
