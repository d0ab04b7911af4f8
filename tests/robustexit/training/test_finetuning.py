from __future__ import annotations

import pytest
from transformers import AutoTokenizer

from robustexit.training.encoding import EncodedTexts
from robustexit.training.finetuning import NumberedTexts, SecondBatches


@pytest.fixture
def texts(backbone, make_data) -> EncodedTexts:
    return EncodedTexts(make_data(22), AutoTokenizer.from_pretrained(backbone), 24)


def test_numbered_texts_are_some_rows_with_their_numbers(texts):
    some = NumberedTexts(texts, [3, 7, 1])
    assert len(some) == 3 and some.lengths == [texts.lengths[row] for row in (3, 7, 1)]
    assert some[1] == {**texts[7], "rows": 7}


def test_second_batches_are_a_function_of_the_step(texts):
    rows = list(range(0, 22, 2))
    stream = SecondBatches(NumberedTexts(texts, rows), 4, seed=3)
    # Two whole batches of four a pass, in another order in every pass.
    seen = [stream.at(step)["rows"].tolist() for step in range(6)]
    for start in (0, 2, 4):
        assert len({*seen[start], *seen[start + 1]}) == 8 and {*seen[start], *seen[start + 1]} <= set(rows)
    assert seen[:2] != seen[2:4]
    again = SecondBatches(NumberedTexts(texts, rows), 4, seed=3)
    assert [again.at(step)["rows"].tolist() for step in (5, 0, 3)] == [seen[5], seen[0], seen[3]]


def test_a_small_second_stream_gives_smaller_batches(texts):
    stream = SecondBatches(NumberedTexts(texts, [4, 5, 9]), 8, seed=0)
    assert [sorted(stream.at(step)["rows"].tolist()) for step in range(3)] == [[4, 5, 9]] * 3
