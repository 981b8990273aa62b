"""MinHash against sets, and the search by bands against the comparison of all pairs."""

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_recipes.duplicates import BANDS, PERMUTATIONS, WORDS, _band_pairs, first_copies, near_copies, signature

RANDOM = random.Random(5)
VOCABULARY = [f"w{i}" for i in range(3000)]


def text(words=400):
    return " ".join(RANDOM.choices(VOCABULARY, k=words))


def edited(base, changes):
    words = base.split()
    for i in RANDOM.sample(range(len(words)), changes):
        words[i] = RANDOM.choice(VOCABULARY)
    return " ".join(words)


def jaccard(a, b):
    """The reference: word 5-grams as Python sets."""
    grams = lambda words: {tuple(words[i : i + WORDS]) for i in range(max(len(words) - WORDS + 1, 1))}
    left, right = grams(a.lower().split()), grams(b.lower().split())
    return len(left & right) / len(left | right)


@pytest.mark.parametrize("changes", [0, 2, 8, 20, 60, 200])
def test_signatures_estimate_the_jaccard_similarity(changes):
    """The mean over 20 pairs is within four standard errors of the true one."""
    pairs = [(base, edited(base, changes)) for base in (text() for _ in range(20))]
    true = np.mean([jaccard(a, b) for a, b in pairs])
    estimate = np.mean([(signature(a) == signature(b)).mean() for a, b in pairs])
    error = (true * (1 - true) / PERMUTATIONS / len(pairs)) ** 0.5
    assert abs(estimate - true) <= 4 * error + 1e-9


def similar(a, b, **salts):
    return (signature(a, salts.get("left", "")) == signature(b, salts.get("right", ""))).mean()


def test_what_a_signature_looks_at():
    base = text()
    assert similar(base, base.upper().replace(" ", ",\n")) == 1  # neither case nor punctuation
    assert similar(base, " ".join(reversed(base.split()))) < 0.1  # but the order of words
    assert similar(base, base, left="1.png", right="2.png") < 0.1  # and the pictures
    assert similar(base, base, left="1.png", right="1.png") == 1
    assert similar("yes", "yes") == 1
    assert similar("yes", "no") < 0.1
    assert similar("", "!") == 1  # no words: the same nothing


def test_characters_are_words_where_there_are_no_spaces():
    base = "".join(RANDOM.choices("天地玄黄宇宙洪荒日月盈昃辰宿列张寒来暑往秋收冬藏", k=300))
    assert similar(base, base[:150] + "闰" + base[151:]) > 0.9
    assert similar(base, base[::-1]) < 0.1


def test_signatures_are_the_same_in_every_process():
    """Python's own hash of strings is not; a changed value here would change what earlier runs kept."""
    assert signature("The quick brown fox jumps over the lazy dog").tolist()[:4] == [18065, 60954, 28736, 24886]


def slow_near_copies(signatures, similarity):
    """The reference: every text against every kept one before it."""
    kept, copy_of = [], []
    for j, row in enumerate(signatures):
        twins = [i for i in kept if (signatures[i] == row).mean() >= similarity]
        copy_of.append(twins[0] if twins else -1)
        if not twins:
            kept.append(j)
    return np.array(copy_of)


def test_the_search_finds_what_comparing_all_pairs_finds():
    """At similarity 0.9 and above, where bands miss one pair in thousands."""
    texts = []
    for _ in range(120):
        base = text(150)
        texts += [base, *(edited(base, 1) for _ in range(RANDOM.randrange(3)))]
    RANDOM.shuffle(texts)
    signatures = np.stack([signature(one) for one in texts])
    found, reference = near_copies(signatures, 0.9), slow_near_copies(signatures, 0.9)
    assert (reference >= 0).sum() > 50
    assert ((found >= 0) == (reference >= 0)).mean() > 0.99


@given(st.lists(st.integers(0, 6), max_size=60), st.integers(0, 2**32))
@settings(max_examples=60)
def test_no_two_kept_texts_are_similar_and_every_dropped_one_repeats_a_kept_one(groups, seed):
    """Texts of one group differ in a few numbers, those of others in almost all."""
    random_numbers = np.random.default_rng(seed)
    centres = random_numbers.integers(0, 65536, (7, PERMUTATIONS)).astype(np.uint16)
    rows = centres[groups].copy() if groups else np.empty((0, PERMUTATIONS), np.uint16)
    for row in rows:
        row[random_numbers.integers(0, PERMUTATIONS, 4)] = random_numbers.integers(0, 65536, 4)
    copy_of = near_copies(rows, 0.8)
    for j, i in enumerate(copy_of.tolist()):
        assert i < j
        assert i < 0 or (copy_of[i] < 0 and groups[i] == groups[j])
    kept = [group for group, copy in zip(groups, copy_of.tolist(), strict=True) if copy < 0]
    assert len(kept) == len(set(groups))


def test_a_dropped_text_does_not_drop_others():
    """b is like a, c is like b but not like a: b goes, c stays."""
    a = np.arange(PERMUTATIONS).astype(np.uint16)
    b, c = a.copy(), a.copy()
    b[64:74] += 1000  # 10 of 128 numbers, the first bands stay whole
    c[64:74] += 1000
    c[80:90] += 1000
    assert near_copies(np.stack([a, b, c]), 0.9).tolist() == [-1, 0, -1]
    assert near_copies(np.stack([b, a, c]), 0.9).tolist() == [-1, 0, 0]


def test_large_groups_cost_no_square():
    keys = np.zeros(20_000, dtype=np.uint64)
    assert len(_band_pairs(keys)) < 20_000 * 10


def test_nothing_at_all():
    assert near_copies(np.empty((0, PERMUTATIONS), np.uint16), 0.8).tolist() == []
    assert first_copies(np.array([], dtype=np.uint64)).tolist() == []


@given(st.lists(st.integers(0, 5)))
def test_first_copies(values):
    assert first_copies(np.array(values, dtype=np.uint64)).tolist() == [values.index(value) for value in values]


def test_the_bands_divide_the_signature():
    assert PERMUTATIONS % BANDS == 0
