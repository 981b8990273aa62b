"""A stop string is found wherever its tokens were committed."""

from types import SimpleNamespace

from vlm_eagle.decoding.stopping import Stopper

LETTERS = SimpleNamespace(decode=lambda ids: "".join(map(chr, ids)))


def test_a_stop_string_begun_in_earlier_pieces_is_found():
    stopper = Stopper(frozenset(), 20, ("z", "abcd"), LETTERS)
    for begun in range(4):
        answer, new = [ord(c) for c in "xx" + "abcd"[:begun]], [ord(c) for c in "abcd"[begun:] + "ef"]
        assert stopper.cut(answer, new) == (new[: 4 - begun], True)
    assert stopper.cut([ord("x")], [ord("y")]) == ([ord("y")], False)
