from __future__ import annotations

import re
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from robustexit.attacks import resources
from robustexit.errors import ConfigError, ResourceError


@pytest.fixture
def no_wordnet(bare, tmp_path, monkeypatch):
    monkeypatch.setattr(resources.wordnet, "DEBIAN_WORDNET", tmp_path / "nowhere")
    monkeypatch.setattr(resources.places, "nltk_folders", lambda: [bare / "nltk_data"])
    return bare


def touch(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


def test_a_missing_wordnet_says_how_to_get_it(no_wordnet):
    with pytest.raises(ResourceError) as error:
        resources.require(["wordnet"])
    message = str(error.value)
    assert "\n" not in message
    assert "wordnet is missing" in message
    assert "apt-get install wordnet-base wordnet-sense-index, or set NLTK_DATA" in message


@pytest.mark.parametrize("file", ["corpora/wordnet/data.noun", "corpora/wordnet.zip"])
def test_wordnet_is_found_in_nltk_s_folders(no_wordnet, file):
    touch(no_wordnet / "nltk_data" / file)
    assert resources.find("wordnet").found
    assert resources.find("wordnet").where == str(no_wordnet / "nltk_data")


def test_nltk_data_is_searched_first(bare, monkeypatch, tmp_path):
    monkeypatch.setenv("NLTK_DATA", str(tmp_path / "mine"))
    assert resources.nltk_folders()[:2] == [tmp_path / "mine", bare / "nltk_data"]
    touch(tmp_path / "mine" / "corpora" / "stopwords" / "english")
    assert resources.find("stopwords").where == str(tmp_path / "mine")
    assert resources.find("stopwords").substitute is None


def test_our_search_path_is_nltk_s(monkeypatch):
    nltk_data = pytest.importorskip("nltk.data")
    as_loaded = [str(folder) for folder in resources.nltk_folders()]
    assert as_loaded == [str(folder) for folder in nltk_data.path]
    monkeypatch.delitem(__import__("sys").modules, "nltk.data")
    ours = [str(folder) for folder in resources.nltk_folders()]
    foreign = [folder for folder in as_loaded if not folder.startswith(str(resources.cache_folder()))]
    assert ours == foreign


def test_stop_words_have_a_substitute(no_wordnet):
    found = resources.find("stopwords")
    assert (found.found, found.substitute, found.usable) == (False, "robustexit-stopwords", True)
    folder = resources.substitute_stopwords()
    words = (folder / "corpora/stopwords/english").read_text().split()
    assert {"the", "not", "don't"} <= set(words)
    assert len(words) == len(set(words))


def test_our_own_folder_is_no_nltk_folder(bare, monkeypatch):
    folder = resources.substitute_stopwords()
    monkeypatch.setattr(resources.places, "nltk_folders", lambda: [folder])
    assert not resources.find("stopwords").found


def test_the_tagger_needs_its_tag_set(no_wordnet):
    touch(no_wordnet / "nltk_data/taggers/averaged_perceptron_tagger_eng/x.json")
    assert "universal_tagset" in resources.find("pos-tagger").where
    touch(no_wordnet / "nltk_data/taggers/universal_tagset.zip")
    assert resources.find("pos-tagger").found


def test_counter_fitted_vectors_are_looked_for_where_textattack_puts_them(bare, monkeypatch, tmp_path):
    assert str(bare / ".cache/textattack/word_embeddings/paragramcf") in resources.find("counter-fitted-vectors").where
    monkeypatch.setenv("TA_CACHE_DIR", str(tmp_path))
    for name in ("paragram.npy", "wordlist.pickle", "nn.npy", "mse_dist.p", "cos_sim.p"):
        touch(tmp_path / "word_embeddings/paragramcf" / name)
    assert resources.find("counter-fitted-vectors").found


def test_an_unknown_resource_is_named():
    with pytest.raises(ConfigError, match=r"unknown resource 'wordnett' \(did you mean 'wordnet'\?\)"):
        resources.find("wordnett")


def test_the_cache_can_be_moved(bare, monkeypatch, tmp_path):
    monkeypatch.setenv("ROBUSTEXIT_CACHE", str(tmp_path / "elsewhere"))
    assert resources.substitute_stopwords().is_relative_to(tmp_path / "elsewhere")
    assert not any(bare.iterdir())


def test_a_cache_that_cannot_be_written_is_a_clear_error(bare, monkeypatch, tmp_path):
    monkeypatch.setenv("ROBUSTEXIT_CACHE", str(touch(tmp_path / "file") / "below"))
    with pytest.raises(ResourceError, match="set ROBUSTEXIT_CACHE to a folder that can be"):
        resources.substitute_stopwords()


def test_folders_appear_whole_also_when_many_write_them(bare):
    with ThreadPoolExecutor(8) as pool:
        folders = list(pool.map(lambda _: resources.substitute_stopwords(), range(32)))
    assert len(set(folders)) == 1
    assert [entry.name for entry in folders[0].parent.iterdir()] == [folders[0].name]


def test_debian_s_wordnet_is_completed(bare, monkeypatch, tmp_path):
    for name in resources.wordnet.WORDNET_FILES:
        touch(tmp_path / "debian" / name).write_text(name)
    monkeypatch.setattr(resources.wordnet, "DEBIAN_WORDNET", tmp_path / "debian")
    folder = resources.wordnet_folder() / "corpora/wordnet"
    assert {path.name for path in folder.iterdir()} == {*resources.wordnet.WORDNET_FILES, "lexnames"}
    assert not any(path.is_symlink() for path in folder.iterdir())
    (tmp_path / "debian/data.noun").write_text("a newer package")
    assert resources.wordnet_folder() != folder.parents[1]
    shutil.rmtree(tmp_path / "debian")


def test_lexnames_are_numbered_in_order():
    rows = [line.split("\t") for line in (resources.PACKAGED / "lexnames.txt").read_text().splitlines()]
    assert [int(number) for number, _, _ in rows] == list(range(45))
    assert all(re.fullmatch(r"(adj|adv|noun|verb)\.\w+", name) for _, name, _ in rows)
