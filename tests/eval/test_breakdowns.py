"""Sums by kind of prompt and by place in the answer."""

from vlm_eagle.evaluation.result_schema import AnswerTokens, TurnResult
from vlm_eagle.evaluation.scores.sums import answer_lengths, breakdowns, by_answer_position, stretch_name, stretch_of


def row(id_, committed, **more):
    about = {"modality": "text", "language": "en", "turn": 0, "question": "", "images": [], **more}
    return TurnResult(id=id_, committed=committed, num_committed=sum(committed), num_forwards=len(committed), **about)


def test_forwards_count_where_they_begin():
    """Before the first forward stands the prefill's token: these begin after 1, 9, 15, 16, 31, 32, 63 and 64 tokens."""
    stretches = by_answer_position([[row("a", [8, 6, 1, 15, 1, 31, 1, 2])]])
    assert [(s.start, s.end, s.tokens, s.forwards) for s in stretches] == [
        (0, 16, 15, 3), (16, 32, 16, 2), (32, 64, 32, 2), (64, 128, 2, 1),
    ]  # fmt: skip
    assert stretches[1].acceptance_length == 8
    long = by_answer_position([[row("a", [20, 20, 60, 3])]])  # before them 1, 21, 41 and 101
    assert [(s.start, s.tokens) for s in long] == [(0, 20), (16, 20), (32, 60), (64, 3)]


def test_stretches_are_named_by_their_tokens():
    """A forward with n tokens before it begins at token n + 1."""
    for before in range(1, 200):
        first, last = map(int, stretch_name(stretch_of(before)).split("-"))
        assert first <= before + 1 <= last
    assert [stretch_name(i) for i in range(4)] == ["2-16", "17-32", "33-64", "65-128"]


def test_servers_say_nothing_about_places():
    served = row("a", [2, 2])
    served.committed = None
    assert by_answer_position([[served]]) == []


def test_stretches_count_prompts_once_and_have_intervals():
    """Two turns of a prompt are one unit, and prompts of two benchmarks with one id are two."""
    (stretch,) = by_answer_position([[row("a", [2, 2]), row("a", [1, 1], turn=1)], [row("a", [4])]])
    assert (stretch.prompts, stretch.tokens, stretch.forwards) == (2, 10, 5)
    low, high = stretch.interval
    assert low == 6 / 4
    assert high == 4


def test_kinds_are_summed_apart_and_prompts_counted():
    words = [row("a", [2, 2], language="zh"), row("a", [1], language="zh", turn=1), row("b", [4])]
    seen = [row("a", [3, 1, 1], modality="image")]
    found = breakdowns([words, seen])
    sums = lambda name: {k: (v.prompts, v.tokens, v.forwards) for k, v in getattr(found, name).items()}
    assert sums("modality") == {"image": (1, 5, 3), "text": (2, 9, 4)}
    assert sums("language") == {"en": (2, 9, 4), "zh": (1, 5, 3)}
    assert sums("turn") == {"0": (3, 13, 6), "1": (1, 1, 1)}
    assert found.modality["text"].acceptance_length == 9 / 4
    assert found.answer_tokens == AnswerTokens(mean=(5 + 2 + 5 + 6) / 4, median=5, max=6)
    assert answer_lengths([]) is None
