"""CheckList's swaps of contractions and numbers, without TextAttack's defects."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any, Final

from robustexit.attacks.components.install import in_recipes
from robustexit.attacks.textattack_api import STR_NUM, WordSwapChangeNumber, WordSwapContract, num2words, w2n

_LINKS: Final = frozenset({"and", "point"})
_NUMBER_WORDS: Final = frozenset(STR_NUM) - _LINKS


class Contract(WordSwapContract):  # type: ignore[misc]  # TextAttack is untyped
    """TextAttack's contraction ("is not" to "isn't"), wherever it stands.

    TextAttack's own compares places in the list of open words with places in the text, and so contracts nothing behind
    a word that is not open: one already changed, or in a protected field.
    """

    def _get_transformations(self, current_text: Any, indices_to_modify: Collection[int]) -> list[Any]:
        open_words = frozenset(indices_to_modify)
        words = current_text.words
        texts = []
        for i in sorted(open_words):
            short = self.reverse_contraction_map.get(" ".join(words[i : i + 2])) if i + 1 in open_words else None
            if short is not None:
                texts.append(current_text.replace_words_at_indices([i, i + 1], [short, ""]))
        return texts


class ChangeNumber(WordSwapChangeNumber):  # type: ignore[misc]  # TextAttack is untyped
    """TextAttack's change of numbers, in digits and in words.

    TextAttack's own fails on digits that are no decimals ("²") and on numbers beyond 64 bits; takes words that hold a
    number for one ("standout" holds "and", "three-run" three) and deletes them; deletes words of the new number in the
    place of the old one's ("one hundred" to "one and five hundred"); and joins the words of a number in the order of a
    set.
    """

    def _get_transformations(self, current_text: Any, indices_to_modify: Collection[int]) -> list[Any]:
        words = current_text.words
        texts = []
        for group in _numbers(words, indices_to_modify):
            old = " ".join(words[i] for i in group)
            rest = [""] * (len(group) - 1)
            new = [str(number) for number in self._get_new_number(old)]
            texts += [current_text.replace_words_at_indices(group, [n, *rest]) for n in new if n != old]
        return texts

    def _alter_number(self, num: float) -> Any:
        return super()._alter_number(num) if abs(num) * (1 + self.max_change) + 1 < 2**63 else []


def _numbers(words: list[str], open_words: Collection[int]) -> Iterator[list[int]]:
    """Yield the places of each number: digits first, then runs of number words, as TextAttack orders them."""
    places = sorted(open_words)
    yield from ([i] for i in places if words[i].isdecimal())
    run: list[int] = []
    for i in places:
        if run and i != run[-1] + 1:
            yield from _whole(words, run)
            run = []
        if _counts(words[i]) or (run and words[i].lower() in _LINKS):
            run.append(i)
        else:
            yield from _whole(words, run)
            run = []
    yield from _whole(words, run)


def _whole(words: list[str], run: list[int]) -> Iterator[list[int]]:
    """Yield a run without the "and" or "point" at its end, if it reads as one number ("one two three" does not)."""
    while run and words[run[-1]].lower() in _LINKS:
        run = run[:-1]
    if run and _one_number(" ".join(words[i] for i in run)):
        yield run


def _counts(word: str) -> bool:
    return all(part in _NUMBER_WORDS for part in word.lower().split("-"))


def _one_number(text: str) -> bool:
    """Whether a number in words is read and written as itself, give or take hyphens, "and" and a leading "one"."""
    try:
        written = _bare(num2words(w2n.word_to_num(text)))
    except (ValueError, IndexError):
        return False
    return _bare(text) in (written, written.removeprefix("one "))


def _bare(text: str) -> str:
    words = text.lower().replace("-", " ").replace(",", " ").split()
    return " ".join(word for word in words if word != "and")


@contextmanager
def undamaged() -> Iterator[None]:
    """Let TextAttack's recipes find these swaps in the place of its own."""
    with in_recipes(WordSwapContract, Contract), in_recipes(WordSwapChangeNumber, ChangeNumber):
        yield
