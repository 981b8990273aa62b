"""Exact and near duplicates among many conversations, in bounded memory.

Near: the Jaccard similarity of their sets of word 5-grams, estimated by MinHash (Broder 1997; `datasketch`). The library's own
index keeps several kilobytes of Python objects per text; here a text is 128 numbers of 16 bits, and candidates are found by
sorting one band of them at a time (locality-sensitive hashing with bands), so that a text costs 256 bytes and a little.
"""

import re
import zlib
from functools import lru_cache

import numpy as np

PERMUTATIONS = 128
BANDS = 16  # of 8 values: 95 of 100 pairs at similarity 0.8 become candidates, all but 1 of 5,000 at 0.9
WORDS = 5  # to a shingle
CHARACTERS = 20_000  # of a text, beyond which it is ignored
_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]|[^\W_]+")  # scripts without spaces: a character is a word
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)


def signature(text: str, salt: str = "") -> np.ndarray:
    """MinHash of a text: (128,) uint16. Texts with different salts are never similar.

    A pair's similarity is the share of equal numbers, with a standard error of 0.035 at 0.8.
    """
    hashes = _shingles(text[:CHARACTERS], zlib.crc32(salt.encode()))
    minhash = _empty().copy()
    minhash.update_batch(hashes.tolist())
    return minhash.hashvalues.astype(np.uint16)


def first_copies(digests: np.ndarray) -> np.ndarray:
    """For each of (N,) digests the index of its first occurrence: (N,) int64."""
    _, first, inverse = np.unique(digests, return_index=True, return_inverse=True)
    return first[inverse]


def near_copies(signatures: np.ndarray, similarity: float) -> np.ndarray:
    """For each of (N, 128) signatures the index of an earlier one it nearly repeats, or -1: (N,) int64.

    Two texts count as the same if their share of equal numbers is at least `similarity`. In order, a text is dropped if it is
    similar to one that is kept; so no two kept texts are (found to be) similar.
    """
    copy_of = np.full(len(signatures), -1, dtype=np.int64)
    earlier, later = _similar_pairs(signatures, similarity)
    for i, j in zip(earlier.tolist(), later.tolist(), strict=True):  # ordered by j, so i has been decided
        if copy_of[i] < 0 and copy_of[j] < 0:
            copy_of[j] = i
    return copy_of


def _similar_pairs(signatures: np.ndarray, similarity: float) -> tuple[np.ndarray, np.ndarray]:
    rows = PERMUTATIONS // BANDS
    found = [_band_pairs(_band_key(signatures[:, b * rows : (b + 1) * rows])) for b in range(BANDS)]
    pairs = np.unique(np.concatenate(found), axis=0) if found else np.empty((0, 2), dtype=np.int64)
    close = np.zeros(len(pairs), dtype=bool)
    for start in range(0, len(pairs), 65_536):  # a block at a time: 65,536 x 128 comparisons
        block = pairs[start : start + 65_536]
        close[start : start + len(block)] = (signatures[block[:, 0]] == signatures[block[:, 1]]).mean(1) >= similarity
    pairs = pairs[close]
    pairs = pairs[np.lexsort((pairs[:, 0], pairs[:, 1]))]
    return pairs[:, 0], pairs[:, 1]


def _band_key(band: np.ndarray) -> np.ndarray:
    key = np.zeros(len(band), dtype=np.uint64)
    for column in band.T:
        key = (key ^ column.astype(np.uint64)) * _MULTIPLIER
        key ^= key >> np.uint64(29)
    return key


def _band_pairs(key: np.ndarray, reach: int = 8) -> np.ndarray:
    """Pairs (earlier, later) of texts with equal keys: each with the first of its group and with the `reach` before it.

    All pairs of a group would be its size squared; its first member represents it.
    """
    order = np.argsort(key, kind="stable")
    ordered = key[order]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]]) if len(key) else np.empty(0, dtype=np.int64)
    first = np.repeat(starts, np.diff(np.r_[starts, len(key)]))
    places = np.arange(len(key))
    found = [(first, places)] + [(places[:-step], places[step:]) for step in range(1, reach + 1)]
    pairs = [np.stack([order[a], order[b]], 1)[(ordered[a] == ordered[b]) & (a != b)] for a, b in found if len(a)]
    return np.concatenate(pairs).astype(np.int64) if pairs else np.empty((0, 2), dtype=np.int64)


def _shingles(text: str, salt: int) -> np.ndarray:
    """32-bit hashes of the distinct runs of 5 words; a shorter text is one run."""
    words = [zlib.crc32(word.encode("utf-8", "replace")) for word in _WORD.findall(text.lower())]
    words = np.array(words or [0], dtype=np.uint64)
    count = max(len(words) - WORDS + 1, 1)
    total = np.full(count, salt, dtype=np.uint64)
    for step in range(min(WORDS, len(words))):
        total = (total ^ words[step : step + count]) * _MULTIPLIER
        total ^= total >> np.uint64(29)
    return np.unique((total >> np.uint64(32)).astype(np.uint32))


@lru_cache(maxsize=1)
def _empty():
    from datasketch import MinHash

    return MinHash(num_perm=PERMUTATIONS, seed=1, scheme="affine32", hashfunc=int)
