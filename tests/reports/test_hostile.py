from __future__ import annotations

import json
import re
import unicodedata
from html.parser import HTMLParser

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robustexit.reports import build_report, to_html, to_json, to_markdown
from robustexit.reports.diffs import word_diff
from robustexit.reports.formats import is_hidden, policy, visible
from robustexit.reports.markdown import escape

HOSTILE = (
    "<script>alert(1)</script> \u202eevil\u202c zero\u200bwidth \x00nul\x1b[31m red {{ 7*7 }} {% raw %} | `code` "
    "<img src=x onerror=alert(2)> \ud800 [link](http://example.com) &amp; \"quoted\" 'one' tag\U000e0041 *b* _i_ \u2028"
)


class Tags(HTMLParser):
    def __init__(self):
        super().__init__()
        self.seen = []

    def handle_starttag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))


@pytest.fixture
def report(pair, manifest):
    records = pair.assign(
        text=[{"text": f"plain {HOSTILE}"}] * len(pair),
        text_attacked=[{"text": f"changed {HOSTILE} \u0435nd"}] * len(pair),
    )
    records["example_id"] = records["example_id"] + "<b>|\u200b"
    manifest["campaign"]["name"] = HOSTILE
    manifest["datasets"]["reviews"]["labels"] = ["<i>neg</i>", "pos|`\u202e"]
    manifest["datasets"]["reviews"]["source"] = HOSTILE
    manifest["recipes"]["textfooler"]["citation"] = HOSTILE
    manifest["dropped_cells"][0]["reason"] = HOSTILE
    return build_report(records, manifest)


def unseen(text):
    return {c for c in text if is_hidden(c) and c != "\n"}


def test_html_runs_nothing_and_hides_nothing(report):
    page = to_html(report)
    page.encode("utf-8")
    assert unseen(page) == set()
    parser = Tags()
    parser.feed(page)
    tags = {tag for tag, _ in parser.seen}
    assert not tags & {"script", "img", "iframe", "object", "embed", "i\u200b", "base", "form"}
    assert not any(name.startswith("on") for _, attributes in parser.seen for name in attributes)
    assert "U+200B" in page and "U+202E" in page and "U+0000" in page and "U+D800" in page
    assert "{{ 7*7 }}" in page and "&lt;script&gt;" in page


def test_html_loads_nothing(report):
    parser = Tags()
    parser.feed(to_html(report))
    for tag, attributes in parser.seen:
        assert "src" not in attributes and "srcset" not in attributes, tag
        for name in ("href", "xlink:href"):
            assert attributes.get(name, "#").startswith(("#", "data:,")), (tag, attributes)
        assert "url(" not in (attributes.get("style") or "")
    assert not re.search(r"@import|url\((?!#)", to_html(report))


def test_markdown_is_only_text(report):
    text = to_markdown(report)
    text.encode("utf-8")
    assert unseen(text) == set()
    assert set(re.findall(r"<[^>]*>", text)) <= {"<del>", "</del>", "<ins>", "</ins>"}
    for line in text.splitlines():
        if line.startswith("|"):
            assert len(re.findall(r"(?<!\\)\|", line)) >= 2
    widths = [
        len(re.findall(r"(?<!\\)\|", line))
        for line in text.split("## Cells that were not run")[1].split("\n## ")[0].splitlines()
        if line[:1] == "|"
    ]
    assert set(widths) == {3}


def test_markdown_renders_to_the_text_it_stands_for():
    markdown = pytest.importorskip("markdown_it").MarkdownIt("commonmark").enable("table").enable("strikethrough")
    rendered = markdown.renderInline(escape(HOSTILE))
    parser = Tags()
    parser.feed(rendered)
    assert parser.seen == []


def test_json_is_ascii_and_safe_in_a_page(report):
    text = to_json(report)
    assert text.isascii() and "<" not in text
    document = json.loads(text)
    shown = json.dumps(document, ensure_ascii=False)
    assert unseen(shown) == set()


def test_no_raw_hidden_character_survives_in_a_diff():
    segments = word_diff(HOSTILE, HOSTILE + "\u200b more")
    assert all(not unseen(segment.text) for segment in segments)
    assert any(segment.hidden and segment.text == "U+200B" and segment.mark == "insert" for segment in segments)


def test_look_alikes_are_pointed_out():
    segments = word_diff("a great film", "a gr\u0435at film")
    (odd,) = [segment for segment in segments if segment.name]
    assert (odd.mark, odd.name) == ("insert", "U+0435 CYRILLIC SMALL LETTER IE")


def restored(segments, marks):
    return "".join(
        chr(int(segment.text[2:], 16)) if segment.hidden else segment.text
        for segment in segments
        if segment.mark in marks
    )


TEXTS = st.text(alphabet=st.sampled_from("ab \t\u200b\u0435\u202e<|\n"), max_size=30)


@settings(max_examples=60, deadline=None)
@given(TEXTS, TEXTS)
def test_diff_holds_both_texts(original, final):
    segments = word_diff(original, final)
    assert restored(segments, ("equal", "delete")) == original
    assert restored(segments, ("equal", "insert")) == final


def test_long_unchanged_stretches_say_what_they_leave_out():
    words = [f"w{i}" for i in range(400)]
    segments = word_diff(" ".join(words), " ".join([*words[:200], "new", *words[201:]]))
    gaps = [segment.text for segment in segments if segment.mark == "gap"]
    shown = sum(len(segment.text.split()) for segment in segments if segment.mark in ("equal", "delete"))
    hidden = sum(int(re.search(r"\d+", gap)[0]) for gap in gaps)
    assert len(gaps) == 2 and shown + hidden == 400


@given(st.text(max_size=40))
def test_visible_hides_nothing(text):
    assert not unseen(visible(text)) and "\n" not in visible(text)


@given(st.characters())
def test_hidden_covers_every_control_and_format_character(character):
    if unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp"):
        assert is_hidden(character)


@pytest.mark.parametrize(
    ("recorded", "shown"),
    [
        ("entropy(t=0.31)", "entropy, t = 0.31"),
        ("max_probability(t=0.8765432)", "max probability, t = 0.877"),
        (
            "calibrated-max-probability(t=.9, temperatures=[1.0, 2.0])",
            "calibrated max probability, t = .9, temperatures = [1.0, 2.0]",
        ),
        ("fixed(k=6)", "fixed, k = 6"),
        ("fixed(6)", "fixed, 6"),
        ("oracle()", "oracle"),
        ("something else", "something else"),
    ],
)
def test_policy_in_words(recorded, shown):
    assert policy(recorded) == shown
