"""Downloads from a server of the test's own: good, wrong, cut off, refused, forbidden."""

from __future__ import annotations

import hashlib
import importlib
import io
import json
import os
import socket
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from robustexit.attacks import resources
from robustexit.attacks.resources import download as module
from robustexit.attacks.resources import nltk_packages, textattack_files
from robustexit.attacks.resources.download import Source, download, record_of
from robustexit.errors import ResourceError

WORDS = b"one\ntwo\nthree\n" * 1000


class Site:
    """What a local server answers, by path; `asked` counts the requests."""

    def __init__(self) -> None:
        self.pages: dict[str, dict[str, Any]] = {}
        self.asked = 0
        self.url = ""

    def put(self, path: str, content: bytes = b"", **how: Any) -> str:
        self.pages[f"/{path}"] = {"content": content, **how}
        return f"{self.url}/{path}"


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    here = Site()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            here.asked += 1
            page = here.pages.get(self.path)
            if page is None:
                self.send_error(404)
                return
            if "status" in page:
                self.send_error(page["status"])
                return
            content = page["content"]
            self.send_response_only(200)
            if page.get("length", True):
                self.send_header("Content-Length", str(len(content)))
            for name, value in page.get("headers", {}).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content[: page.get("cut")])

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    here.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    yield here
    server.shutdown()
    server.server_close()


@pytest.fixture
def allowed(bare: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The network is allowed; returns a cache folder that is not there yet."""
    monkeypatch.setenv("ROBUSTEXIT_ALLOW_NETWORK", "1")
    monkeypatch.setenv("ROBUSTEXIT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def zipped(**files: bytes) -> bytes:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as opened:
        for name, content in files.items():
            opened.writestr(name.replace("__", "/"), content)
    return archive.getvalue()


def tree(folder: Path) -> dict[str, str]:
    """Every file and folder below one, with a hash of its content."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "folder"
        for path in sorted(folder.rglob("*"))
    }


def test_a_good_file_arrives_with_a_record_of_its_source(site: Site, allowed: Path) -> None:
    url, right = site.put("words.txt", WORDS), hashlib.sha256(WORDS).hexdigest()
    target = download(Source(url, sha256=right, size=len(WORDS)), allowed / "a" / "words.txt")
    assert target.read_bytes() == WORDS
    assert sorted(path.name for path in target.parent.iterdir()) == ["words.txt", "words.txt.source.json"]
    assert json.loads(record_of(target).read_text()) == {
        "url": url,
        "sha256": right,
        "size": len(WORDS),
        "published_hash": right,
    }


def test_what_is_there_is_not_downloaded_again(site: Site, allowed: Path) -> None:
    source = Source(site.put("words.txt", WORDS))
    download(source, allowed / "words.txt")
    download(source, allowed / "words.txt")
    assert site.asked == 1


BAD = {
    "wrong SHA-256": ({}, {"sha256": "0" * 64}, "expected the SHA-256 0000"),
    "wrong MD5": ({}, {"md5": "0" * 32}, "expected the MD5 0000"),
    "wrong size": ({}, {"size": 5}, "expected 5 bytes, got 14000"),
    "cut off in the middle": ({"cut": 7000}, {}, "expected 14000 bytes, got 7000"),
    "cut off at once": ({"cut": 0}, {}, "expected 14000 bytes, got 0"),
    "cut off in a chunk": (
        {"length": False, "headers": {"Transfer-Encoding": "chunked"}, "raw": b"36b0\r\n" + WORDS[:100]},
        {},
        "could not download",
    ),
    "server error": ({"status": 503}, {}, "HTTP 503"),
    "forbidden": ({"status": 403}, {}, "HTTP 403"),
    "not there": (None, {}, "HTTP 404"),
    "other content than Amazon's tag says": (
        {"headers": {"Server": "AmazonS3", "ETag": f'"{"0" * 32}"'}},
        {},
        "expected the MD5 0000",
    ),
}


@pytest.mark.parametrize("case", BAD)
@pytest.mark.parametrize("before", [{}, {"downloads/other.txt": "kept"}], ids=["no cache", "a cache"])
def test_a_bad_download_leaves_the_cache_as_it_was(site: Site, allowed: Path, case: str, before: dict) -> None:
    answer, published, message = BAD[case]
    for name, content in before.items():
        (allowed / name).parent.mkdir(parents=True)
        (allowed / name).write_text(content)
    state = tree(allowed.parent)
    url = f"{site.url}/words.txt"
    if answer is not None:
        site.put("words.txt", answer.get("raw", WORDS), **answer)
    with pytest.raises(ResourceError, match=message) as error:
        download(Source(url, **published), allowed / "downloads" / "deep" / "words.txt")
    assert "\n" not in str(error.value)
    assert "nothing was kept" in str(error.value)
    assert url in str(error.value)
    assert tree(allowed.parent) == state


def test_a_server_that_is_not_there(allowed: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    with pytest.raises(ResourceError, match=r"could not download .*refused"):
        download(Source(f"http://127.0.0.1:{port}/words.txt"), allowed / "words.txt")
    assert not allowed.exists()


def test_a_server_that_falls_silent(site: Site, allowed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TIMEOUT", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/words.txt"
        with pytest.raises(ResourceError, match=r"could not download .*timed out"):
            download(Source(url), allowed / "words.txt")
    assert not allowed.exists()


def test_without_permission_no_socket_is_touched(site: Site, allowed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("a socket was opened")

    url = site.put("words.txt", WORDS)
    monkeypatch.delenv("ROBUSTEXIT_ALLOW_NETWORK")
    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    with pytest.raises(ResourceError, match=r"downloads are not allowed .*--allow-network"):
        download(Source(url), allowed / "words.txt")
    with pytest.raises(ResourceError, match="downloads are not allowed"):
        module.read_text(url)
    for name in resources.finders:
        found = resources.find(name)
        if not found.usable:
            with pytest.raises(ResourceError, match=f"{name} is missing"):
                resources.require([name])
    assert not allowed.exists()


def test_a_cache_that_cannot_be_written(site: Site, allowed: Path) -> None:
    allowed.write_text("a file")
    with pytest.raises(ResourceError, match=r"cannot write RobustExit's cache .*set ROBUSTEXIT_CACHE"):
        download(Source(site.put("words.txt", WORDS)), allowed / "words.txt")
    assert allowed.read_text() == "a file"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits the size of files as Linux does")
def test_a_full_disk(site: Site, allowed: Path) -> None:
    """A limit on the size of files makes writing fail in the middle, as a full disk does."""
    program = (
        "import resource, sys\n"
        "from pathlib import Path\n"
        "from robustexit.attacks.resources.download import Source, download\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))\n"
        "try:\n"
        "    download(Source(sys.argv[1]), Path(sys.argv[2]))\n"
        "except Exception as error:\n"
        "    print(type(error).__name__, error)\n"
    )
    url = site.put("words.txt", WORDS)
    ran = subprocess.run(
        [sys.executable, "-c", program, url, str(allowed / "words.txt")],
        capture_output=True,
        text=True,
        env=dict(os.environ),
        cwd=allowed.parent,
    )
    assert ran.stdout.startswith("ResourceError cannot write RobustExit's cache"), ran.stderr
    assert "File too large" in ran.stdout
    assert not allowed.exists()


def test_what_a_killed_download_left_is_swept_away_later(site: Site, allowed: Path) -> None:
    """Killed, not interrupted: nothing of ours could run any more."""
    program = (
        "import sys\nfrom pathlib import Path\n"
        "from robustexit.attacks.resources.download import Source, download\n"
        "download(Source(sys.argv[1]), Path(sys.argv[2]))\n"
    )
    with socket.create_server(("127.0.0.1", 0)) as slow:
        url = f"http://127.0.0.1:{slow.getsockname()[1]}/words.txt"
        child = subprocess.Popen([sys.executable, "-c", program, url, str(allowed / "words.txt")], env=dict(os.environ))
        connection, _ = slow.accept()
        with connection:
            connection.sendall(b"HTTP/1.0 200 OK\r\nContent-Length: 1000000\r\n\r\n" + WORDS)
            while not list(allowed.glob(".new-*/received")):
                time.sleep(0.01)
            child.kill()
            child.wait()
    left = [path.name for path in allowed.iterdir()]
    assert len(left) == 1 and left[0].startswith(".new-")
    site.put("words.txt", WORDS)
    download(Source(f"{site.url}/words.txt"), allowed / "words.txt")
    assert (allowed / left[0]).exists()
    for path in (*(allowed / left[0]).rglob("*"), allowed / left[0]):
        os.utime(path, (0, 0))
    download(Source(f"{site.url}/words.txt"), allowed / "again.txt")
    assert not (allowed / left[0]).exists()


def test_many_may_download_the_same_at_once(site: Site, allowed: Path) -> None:
    source = Source(site.put("words.zip", zipped(words__a=WORDS, words__b=WORDS)))
    with ThreadPoolExecutor(8) as pool:
        done = list(pool.map(lambda _: download(source, allowed / "words", "words", folder=True), range(16)))
    assert set(done) == {allowed / "words"}
    assert sorted(path.name for path in allowed.iterdir()) == ["words", "words.source.json"]
    assert (allowed / "words" / "b").read_bytes() == WORDS


def test_a_change_of_what_nobody_publishes_a_hash_of_is_refused(site: Site, allowed: Path) -> None:
    source, target = Source(site.put("words.txt", WORDS)), allowed / "words.txt"
    download(source, target).unlink()
    site.put("words.txt", WORDS + b"four\n")
    state = tree(allowed)
    with pytest.raises(ResourceError, match=r"is not what it was when .*delete .*words\.txt\.source\.json to accept"):
        download(source, target)
    assert tree(allowed) == state
    record_of(target).unlink()
    assert download(source, target).read_bytes() == WORDS + b"four\n"


def test_amazon_s_tag_is_no_hash_of_what_was_sent_in_parts(site: Site, allowed: Path) -> None:
    headers = {"Server": "AmazonS3", "ETag": f'"{"0" * 32}-3"'}
    assert download(Source(site.put("words.txt", WORDS, headers=headers)), allowed / "words.txt").is_file()
    headers = {"Server": "AmazonS3", "ETag": f'"{hashlib.md5(WORDS).hexdigest()}"'}
    assert download(Source(site.put("again.txt", WORDS, headers=headers)), allowed / "again.txt").is_file()


class TestArchives:
    def test_is_unpacked(self, site: Site, allowed: Path) -> None:
        source = Source(site.put("a.zip", zipped(words__a=b"1", words__deep__b=b"2")))
        download(source, allowed / "words", "words", folder=True)
        assert tree(allowed / "words").keys() == {"a", "deep", "deep/b"}

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (zipped(other__a=b"1"), "expected 'words' in the archive"),
            (b"<html>no such thing</html>", "expected a zip archive"),
            (zipped(words__a=WORDS)[:-30], "expected a zip archive"),
            (zipped(words__a=WORDS).replace(b"two", b"tow", 1), "damaged zip archive .*words/a"),
        ],
        ids=["another", "no archive", "cut off", "damaged"],
    )
    def test_nothing_is_left_of_a_bad_one(self, site: Site, allowed: Path, content: bytes, message: str) -> None:
        with pytest.raises(ResourceError, match=message):
            download(Source(site.put("a.zip", content)), allowed / "words", "words", folder=True)
        assert not allowed.exists()

    def test_nothing_is_written_outside(self, site: Site, allowed: Path) -> None:
        archive = io.BytesIO()
        with zipfile.ZipFile(archive, "w") as opened:
            opened.writestr("words/a", "1")
            opened.writestr("../../escaped", "1")
        download(Source(site.put("a.zip", archive.getvalue())), allowed / "deep" / "words", "words", folder=True)
        assert not list(allowed.parent.rglob("escaped"))


@pytest.fixture
def nltk_site(site: Site, monkeypatch: pytest.MonkeyPatch) -> Site:
    """NLTK's index with stop words and a tagger of which only the MD5 is known."""
    packages = {
        "corpora/stopwords": zipped(stopwords__english=b"the\nof\n"),
        "corpora/wordnet": zipped(wordnet__data_noun=b"1").replace(b"data_noun", b"data.noun"),
        "taggers/averaged_perceptron_tagger_eng": zipped(averaged_perceptron_tagger_eng__x=b"{}"),
        "taggers/universal_tagset": zipped(universal_tagset__en=b"NN"),
    }
    lines = []
    for place, content in packages.items():
        folder, _, name = place.partition("/")
        sha = f'sha256_checksum="{hashlib.sha256(content).hexdigest()}"' if folder == "corpora" else ""
        lines.append(
            f'<package id="{name}" subdir="{folder}" url="{site.put(name + ".zip", content)}" size="{len(content)}" '
            f'checksum="{hashlib.md5(content).hexdigest()}" {sha} unzip="1" />'
        )
    index = f"<nltk_data><packages>{''.join(lines)}</packages></nltk_data>"
    monkeypatch.setattr(nltk_packages, "INDEX", site.put("index.xml", index.encode()))
    monkeypatch.setattr(resources.wordnet, "DEBIAN_WORDNET", Path("/nowhere"))
    monkeypatch.setattr(resources.places, "nltk_folders", lambda: [])
    return site


@pytest.mark.parametrize("name", ["stopwords", "wordnet", "pos-tagger"])
def test_nltk_s_packages_are_downloaded_when_they_are_required(nltk_site: Site, allowed: Path, name: str) -> None:
    assert not resources.find(name).found
    here = resources.require([name])[0]
    assert here.found
    assert here.substitute is None
    assert here.where == str(allowed / "downloads" / "nltk")
    asked = nltk_site.asked
    resources.require([name])
    assert nltk_site.asked == asked


@pytest.mark.parametrize("name", ["stopwords", "pos-tagger"])
def test_a_package_that_is_not_what_the_index_says_is_refused(
    nltk_site: Site, allowed: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    for path in list(nltk_site.pages):
        if path.endswith(".zip"):
            nltk_site.pages[path]["content"] += b"x"
    with pytest.raises(ResourceError, match=r"\.zip: expected \d+ bytes, got \d+; nothing was kept"):
        resources.fetch(name)
    assert not allowed.exists()
    if resources.find(name).usable:
        assert resources.require([name])[0].substitute == resources.find(name).substitute
        assert f"stands in for {name}" in caplog.text
    else:
        with pytest.raises(ResourceError, match="nothing was kept"):
            resources.require([name])


@pytest.mark.parametrize("index", [b"<html>", b"<nltk_data></nltk_data>", b"\xff"])
def test_an_index_that_is_none(nltk_site: Site, allowed: Path, index: bytes) -> None:
    nltk_site.put("index.xml", index)
    with pytest.raises(ResourceError, match=r"expected NLTK's index|expected a package corpora/stopwords"):
        resources.fetch("stopwords")
    assert not allowed.exists()


@pytest.mark.slow
def test_nltk_reads_what_was_downloaded(nltk_site: Site, allowed: Path, child_environment: Any) -> None:
    """In a process of its own, since NLTK keeps what it has read."""
    program = (
        "import sys\n"
        "from robustexit.attacks import effective_name, resources\n"
        "from robustexit.attacks.resources import nltk_packages\n"
        "nltk_packages.INDEX = sys.argv[1]\n"
        "from robustexit.attacks.textattack_api import StopwordModification\n"
        "print(sorted(StopwordModification().stopwords), effective_name('deepwordbug'))\n"
    )
    environment = child_environment(
        allowed.parent / "home", ROBUSTEXIT_CACHE=str(allowed), ROBUSTEXIT_ALLOW_NETWORK="1", no_proxy="127.0.0.1"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program, nltk_packages.INDEX],
        capture_output=True,
        text=True,
        env=environment,
        cwd=allowed.parent,
    )
    if resources.in_nltk("corpora/stopwords") is None:
        assert ran.stdout.splitlines()[-1] == "['of', 'the'] deepwordbug", ran.stderr


VECTORS = {f"paragramcf__{name}": b"1" for name in resources.vectors.VECTOR_FILES}


def test_textattack_s_folders_are_downloaded_and_found(
    site: Site, allowed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(textattack_files, "STORAGE", f"{site.url}/")
    site.put("word_embeddings/paragramcf", zipped(**VECTORS))
    here = resources.fetch("counter-fitted-vectors")
    assert here.found
    assert here.where == str(allowed / "downloads/textattack/word_embeddings/paragramcf")
    assert str(resources.stock_path("word_embeddings/paragramcf")) == here.where


def test_textattack_s_files_are_downloaded_as_they_are_or_from_an_archive(
    site: Site, allowed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(textattack_files, "STORAGE", f"{site.url}/")
    path = resources.hownet.HOWNET
    site.put(path, b"a pickle")
    assert resources.stock_path(path).read_bytes() == b"a pickle"
    assert resources.find("hownet").found
    site.put("some/file.pkl", zipped(**{"file.pkl": b"packed"}))
    assert resources.stock_path("some/file.pkl").read_bytes() == b"packed"


@pytest.fixture(scope="session")
def _textattack() -> None:
    """TextAttack is imported before a test allows the network."""
    importlib.import_module("robustexit.attacks.textattack_api")


def test_textattack_gets_our_checked_download(
    _textattack: None, site: Site, allowed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from textattack.shared import utils

    monkeypatch.setattr(textattack_files, "STORAGE", f"{site.url}/")
    site.put("some/file.txt", b"12345", cut=2)
    with pytest.raises(ResourceError, match="expected 5 bytes, got 2"):
        utils.download_from_s3("some/file.txt")
    assert not allowed.exists()
    site.put("some/file.txt", b"12345")
    assert Path(utils.download_from_s3("some/file.txt")).read_bytes() == b"12345"
    assert not (allowed.parent / "home" / ".cache").exists()


def test_a_configured_path_is_never_replaced_by_a_download(
    site: Site, allowed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(textattack_files, "STORAGE", f"{site.url}/")
    resources.configure({"learning-to-write-lm": allowed.parent / "nowhere"})
    with pytest.raises(ResourceError, match=r"the configured path .*nowhere does not exist"):
        resources.require(["learning-to-write-lm"])
    assert site.asked == 0


@pytest.mark.parametrize("name", ["homoglyphs", "homophones-chinese"])
def test_tables_of_characters(site: Site, allowed: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    source = resources.homoglyphs if name == "homoglyphs" else resources.homophones
    monkeypatch.setattr(source, "textattack_package", lambda: allowed)
    url = site.put("table.txt", b"0041 ; 0391 # A\n")
    monkeypatch.setattr(source, "HOMOGLYPHS_URL" if name == "homoglyphs" else "HOMOPHONES_URL", url)
    here = resources.require([name])[0]
    assert here.found
    assert Path(here.where).read_bytes() == b"0041 ; 0391 # A\n"
    if name == "homoglyphs":
        assert resources.homoglyph_table() == Path(here.where)


class TestTheHub:
    @pytest.fixture
    def hub(self, allowed: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
        """The Hub's library, writing what it would download into its cache; returns what it was asked for."""
        import huggingface_hub

        asked: list[str] = []

        def snapshot(model: str, *, cache_dir: Path, allow_patterns: list[str], **_: Any) -> None:
            asked.append(model)
            if model == "nobody/nothing":
                raise huggingface_hub.errors.LocalEntryNotFoundError("Cannot find it.\nSecond line")
            folder = cache_dir / f"models--{model.replace('/', '--')}" / "snapshots" / "abc"
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "config.json").touch()
            if "old" not in model or allow_patterns == ["pytorch_model.bin"]:
                (folder / ("pytorch_model.bin" if "old" in model else "model.safetensors")).touch()

        monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
        return asked

    def test_downloads_the_stock_model(self, hub: list[str], allowed: Path) -> None:
        here = resources.require(["causal-lm"])[0]
        assert (here.found, here.substitute) == (True, None)
        assert hub == ["openai-community/gpt2"]
        assert Path(here.where).is_relative_to(allowed.parent / "home/.cache/huggingface/hub")

    @pytest.mark.parametrize(("model", "times"), [("me/tiny", 1), ("me/old", 2)])
    def test_downloads_the_model_that_was_configured(self, hub: list[str], model: str, times: int) -> None:
        resources.configure({"causal-lm": model})
        assert not resources.find("causal-lm").usable
        here = resources.require(["causal-lm"])[0]
        assert (here.found, here.substitute) == (False, model.partition("/")[2])
        assert hub == [model] * times

    def test_says_in_one_line_what_failed(self, hub: list[str]) -> None:
        resources.configure({"causal-lm": "nobody/nothing"})
        with pytest.raises(ResourceError) as error:
            resources.require(["causal-lm"])
        assert str(error.value) == "could not download nobody/nothing from the Hub (Cannot find it.)"

    def test_is_not_asked_without_permission(self, hub: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("ROBUSTEXIT_ALLOW_NETWORK")
        with pytest.raises(ResourceError, match="downloads are not allowed"):
            resources.fetch("causal-lm")
        with pytest.raises(ResourceError, match=r"do this: download it .*--allow-network.* or run hf download gpt2"):
            resources.require(["causal-lm"])
        assert hub == []

    def test_downloads_flair_s_models_to_where_flair_looks(
        self, allowed: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        import huggingface_hub

        def download_one(model: str, file: str, *, cache_dir: Path) -> None:
            folder = cache_dir / f"models--{model.replace('/', '--')}" / "snapshots" / "abc"
            folder.mkdir(parents=True)
            (folder / file).touch()

        monkeypatch.setattr(huggingface_hub, "hf_hub_download", download_one)
        for name in ("ner-tagger", "ner-tagger-french", "ner-tagger-multi", "upos-tagger"):
            assert resources.fetch(name).found
        flair = allowed.parent / "home" / ".flair" / "models"
        assert {path.name for path in flair.iterdir()} == {
            "ner-english",
            "ner-french",
            "ner-multi-fast",
            "upos-english-fast",
        }


@pytest.mark.skipif(not resources.hownet._INSTALLED, reason="OpenHowNet is not installed")
def test_openhownet_s_data_goes_into_our_cache(site: Site, allowed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = dict.fromkeys(resources.hownet.CHINESE_HOWNET_FILES, b"1")
    monkeypatch.setattr(resources.hownet, "OPENHOWNET_URL", site.put("resources.zip", zipped(**files)))
    here = resources.fetch("hownet-chinese")
    assert here.found
    assert here.where == str(allowed / "downloads" / "openhownet" / "resources")
    assert not (allowed.parent / "home" / ".openhownet").exists()
