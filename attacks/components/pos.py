"""Part of speech without a trained tagger: WordNet's words and counts, closed classes, endings, and what stands before.

Tags are those of the universal tag set (Petrov et al. 2012) as NLTK writes them: NOUN, VERB, ADJ, ADV, PRON, DET, ADP,
NUM, CONJ, PRT, X. It agrees with NLTK's perceptron tagger on 88.0 % of the words of SST-2's validation sentences
(91.5 % where noun and verb count as one, as TextFooler lets them), and on 87.7 % (92.6 %) of 800 texts of AG News.
"""

from __future__ import annotations

import re
import zipfile
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from robustexit.attacks import resources
from robustexit.attacks.components.install import in_recipes, route
from robustexit.attacks.textattack_api import PartOfSpeech, add_nltk_folder
from robustexit.errors import ResourceError

NOUN, VERB, ADJ, ADV = "NOUN", "VERB", "ADJ", "ADV"
_OF_SENSE_KEY: Final = {"1": NOUN, "2": VERB, "3": ADJ, "4": ADV, "5": ADJ}
_EXCEPTIONS: Final = {"noun.exc": NOUN, "verb.exc": VERB, "adj.exc": ADJ, "adv.exc": ADV}

_CLOSED: Final = {
    "DET": "a an the this that these those each every either neither some any no all both half such what which whose "
    "another",
    "PRON": "i you he she it we they me him us them myself yourself himself herself itself ourselves yourselves "
    "themselves who whom whoever mine yours hers ours theirs my your his her its our their",
    "NOUN": "someone somebody something anyone anybody anything everyone everybody everything nobody nothing none",
    "ADP": "of in on at by for with from into onto upon about above across after against along amid among around as "
    "before behind below beneath beside between beyond despite down during except inside like near off outside over "
    "past per since than through throughout toward towards under underneath unlike until via within without if "
    "because while although though whether unless whereas",
    "CONJ": "and or but nor & plus",
    "PRT": "to up",
    "VERB": "am is are was were be been being have has had having do does did doing done can could may might must "
    "shall should will would cannot ca wo isn't aren't wasn't weren't hasn't haven't hadn't doesn't don't didn't can't "
    "couldn't won't wouldn't shouldn't mustn't s re ve ll d m 's 're 've 'll 'd 'm let's",
    "ADJ": "more most less least much enough",
    "ADV": "not n't never ever always often sometimes here there very too so just only even still yet also again now "
    "then soon already almost quite rather how when where why once twice away back instead perhaps maybe however ago "
    "out well",
    "NUM": "zero one two three four five six seven eight nine ten eleven twelve twenty thirty forty fifty hundred "
    "thousand million billion",
}
"""Function words, each under its usual part of speech."""
_MODALS: Final = frozenset(
    ("can", "could", "may", "might", "must", "shall", "should", "will", "would", "cannot", "ca", "wo", "ll", "'ll")
) | {"can't", "couldn't", "won't", "wouldn't", "shouldn't", "to"}
"""Words that a verb follows."""
_SUBJECTS: Final = frozenset(("i", "you", "he", "she", "it", "we", "they", "who"))
_PARTICLES: Final = frozenset(("off", "down", "over", "around", "along"))
_COMPARED: Final = frozenset(("more", "most", "less", "least", "much", "enough"))
_NOUN_PHRASE: Final = frozenset(("DET", "NUM", ADJ))
_DETACHED: Final = {
    NOUN: "ies:y ses:s xes:x zes:z ches:ch shes:sh men:man s: 's:",
    VERB: "ies:y ied:y es:e es: s: ed:e ed: ing:e ing:",
    ADJ: "ier:y iest:y er:e er: est:e est:",
    ADV: "",
}
"""WordNet's own rules from a form to its base (morphy), by part of speech: ``ending:instead``."""
_RULES: Final = {tag: tuple(rule.partition(":")[::2] for rule in rules.split()) for tag, rules in _DETACHED.items()}
_DOUBLED: Final = re.compile(r"(.*[^aeiou])?[aeiou]([bdgklmnprt])\2(ed|ing|er|est)")
_ENDINGS: Final = tuple(
    (ending, tag)
    for tag, endings in (
        (ADV, "ly"),
        (VERB, "ing ed ize ise ify"),
        (NOUN, "ness ment tion sion ity ism ist ship ance ence age"),
        (ADJ, "ous ful less able ible ish ive ic ical esque some"),
    )
    for ending in endings.split()
)
"""What the ending of an unknown word tells."""
_SMOOTHING: Final = 0.1
"""Added to WordNet's count of a sense that its texts do not hold."""


@dataclass(frozen=True)
class Lexicon:
    """How often words were of which part of speech in the texts that WordNet counted (SemCor).

    Attributes:
        counts: Base form -> part of speech -> count.
        exceptions: Part of speech -> irregular form -> base form.
    """

    counts: Mapping[str, Mapping[str, float]]
    exceptions: Mapping[str, Mapping[str, str]]

    @classmethod
    def read(cls, text_of: Callable[[str], str]) -> Lexicon:
        """Read WordNet's own files.

        Args:
            text_of: File name -> content.
        """
        counts: defaultdict[str, defaultdict[str, float]] = defaultdict(lambda: defaultdict(float))
        for line in text_of("index.sense").splitlines():
            key, _, _, count = line.split(" ")
            lemma, _, senses = key.partition("%")
            if "_" not in lemma:
                counts[lemma][_OF_SENSE_KEY[senses[0]]] += int(count) + _SMOOTHING
        exceptions = {}
        for name, tag in _EXCEPTIONS.items():
            pairs = [line.split(" ") for line in text_of(name).splitlines() if line.strip()]
            exceptions[tag] = {form: base[0] for form, *base in pairs if base}
        return cls(counts, exceptions)

    def tags(self, word: str) -> dict[str, float]:
        """Return the parts of speech that a lower-case word can be, with their counts; inflected forms included."""
        found: dict[str, float] = dict(self.counts.get(word, {}))
        for tag in (NOUN, VERB, ADJ, ADV):
            bases = [base for base in self._bases(word, tag) if tag in self.counts.get(base, {})]
            if bases and not (tag == ADJ and tag in found):
                found[tag] = found.get(tag, 0) + max(self.counts[base][tag] for base in bases)
        return found

    def _bases(self, word: str, tag: str) -> Iterator[str]:
        irregular = self.exceptions[tag].get(word)
        if irregular is not None and irregular != word:
            yield irregular
            return
        for ending, instead in _RULES[tag]:
            if word.endswith(ending) and len(word) > len(ending) + 1:
                yield word[: -len(ending)] + instead
        doubled = _DOUBLED.fullmatch(word) if tag != NOUN else None
        if doubled is not None:
            yield word[: -len(doubled[3]) - 1]


class LexiconTagger:
    """Tags words by a lexicon and by what stands before them.

    Args:
        lexicon: Words of the open classes.
    """

    def __init__(self, lexicon: Lexicon) -> None:
        self._lexicon = lexicon
        self._closed: dict[str, str] = {}
        for tag, words in _CLOSED.items():
            for word in words.split():
                self._closed.setdefault(word, tag)
        self._open = lru_cache(maxsize=2**16)(self._open_tags)

    def tag(self, words: Sequence[str]) -> list[str]:
        """Return one tag a word, from left to right."""
        lower = [word.lower() for word in words]
        tags: list[str] = []
        for i, word in enumerate(words):
            before, after = lower[i - 1] if i else "", lower[i + 1] if i + 1 < len(words) else ""
            tags.append(self._tag(word, before, tags[-1] if i else "", after))
        return tags

    def _tag(self, word: str, before: str, tag_before: str, after: str) -> str:
        lower = word.lower()
        if lower in self._closed:
            return self._of_closed(lower, tag_before, after)
        if any(c.isdigit() for c in word):
            return ADJ if "-" in word and any(c.isalpha() for c in word) else "NUM"
        if not any(c.isalpha() for c in word):
            return "X"
        if word[0].isupper() and before and lower not in self._lexicon.counts:
            return NOUN
        return self._in_context(self._open(lower), before, tag_before, after)

    def _of_closed(self, word: str, tag_before: str, after: str) -> str:
        """Return the tag of a function word; a few depend on their neighbours."""
        if word == "that" and self._closed.get(after) in {"DET", "PRON", VERB}:
            return "ADP"
        if word in _PARTICLES and tag_before == VERB and self._closed.get(after) not in {"DET", "PRON"}:
            return "PRT"
        if word in _COMPARED and after and set(self._open(after)) & {ADJ, ADV} and after not in self._closed:
            return ADV
        return self._closed[word]

    def _in_context(self, weights: Mapping[str, float], before: str, tag_before: str, after: str) -> str:
        """Choose among the parts of speech that a word can be."""
        if VERB in weights and (before in _MODALS or before in _SUBJECTS):
            return VERB
        if len(weights) > 1 and VERB in weights and (tag_before in _NOUN_PHRASE or tag_before == "PRON"):
            return _likeliest(weights, without=VERB)
        if VERB in weights and tag_before in {NOUN, ADV} and self._closed.get(after) in {"DET", "PRON"}:
            return VERB
        if NOUN in weights and tag_before == "DET" and (not after or after in self._closed):
            return NOUN
        return _likeliest(weights)

    def _open_tags(self, word: str) -> dict[str, float]:
        found = self._lexicon.tags(word)
        if not found and "-" in word:
            last = self._lexicon.tags(word.rpartition("-")[2])
            return {ADJ: 1.0} if NOUN not in last else {ADJ: 1.0, NOUN: 1.0}
        return found or next(({tag: 1.0} for ending, tag in _ENDINGS if word.endswith(ending)), {NOUN: 1.0})


def _likeliest(weights: Mapping[str, float], without: str = "") -> str:
    order = (NOUN, VERB, ADJ, ADV)
    return max((tag for tag in order if tag in weights and tag != without), key=lambda tag: weights[tag])


def wordnet_text(name: str) -> str:
    """Return one of WordNet's own files, from where the resource ``wordnet`` is: a folder, NLTK's folder or its zip.

    Raises:
        ResourceError: WordNet is missing, or lacks the file.
    """
    (here,) = resources.require(["wordnet"])
    place = Path(here.where)
    for file in (place / "corpora" / "wordnet" / name, place / name):
        if file.is_file():
            return file.read_text(encoding="utf-8")
    packed = place / "corpora" / "wordnet.zip"
    try:
        with zipfile.ZipFile(packed) as archive:
            return archive.read(f"wordnet/{name}").decode("utf-8")
    except (OSError, KeyError, zipfile.BadZipFile) as error:
        raise ResourceError(f"{place}: expected WordNet's file {name}, found none; get WordNet again") from error


@lru_cache(maxsize=1)
def _tagger(where: str) -> LexiconTagger:
    return LexiconTagger(Lexicon.read(wordnet_text))


def lexicon_tagger() -> LexiconTagger:
    """Return the tagger over this machine's WordNet, made once a process.

    Raises:
        ResourceError: WordNet is missing.
    """
    return _tagger(resources.require(["wordnet"])[0].where)


class LexiconPartOfSpeech(PartOfSpeech):  # type: ignore[misc]  # TextAttack is untyped
    """TextAttack's constraint on the part of speech with the lexicon-based tagger.

    It sees the four words before and the three after the changed one, as TextAttack's does; where that word occurs
    twice there, the tag is that of its own place.
    """

    def _get_pos(self, before_ctx: list[str], word: str, after_ctx: list[str]) -> str:
        words = (*before_ctx, word, *after_ctx)
        if words not in self._pos_tag_cache:
            self._pos_tag_cache[words] = lexicon_tagger().tag(words)
        tag: str = self._pos_tag_cache[words][len(before_ctx)]
        return tag


def _part_of_speech(tagger_type: str = "nltk", *rest: Any, **options: Any) -> Any:
    """Take the arguments of TextAttack's `PartOfSpeech`; other taggers than NLTK's stay as they are."""
    kind = LexiconPartOfSpeech if tagger_type == "nltk" else PartOfSpeech
    return kind(tagger_type, *rest, **options)


@route("pos-tagger")
@contextmanager
def pos_tagger() -> Iterator[None]:
    """NLTK's own tagger where it is found, its folder shown to NLTK; else the lexicon-based one."""
    here = resources.find("pos-tagger")
    if here.found:
        if Path(here.where).is_dir():
            add_nltk_folder(Path(here.where), first=resources.configured("pos-tagger") is not None)
        yield
        return
    with in_recipes(PartOfSpeech, _part_of_speech):
        yield
