"""Sums by kind of prompt and by place in the answer."""

from vlm_eagle.evaluation.scores.breakdowns import answer_lengths, breakdowns, by_answer_position, stretch_name, stretch_of


def row(id_, committed, **more):
    about = {"modality": "text", "language": "en", "turn": 0, **more}
    return {"id": id_, "committed": committed, "num_committed": sum(committed), "num_forwards": len(committed), **about}


def test_forwards_count_where_they_begin():
    """Before the first forward stands the prefill's token: these begin after 1, 9, 15, 16, 31, 32, 63 and 64 tokens."""
    stretches = by_answer_position([row("a", [8, 6, 1, 15, 1, 31, 1, 2])])
    assert [(s["from"], s["to"], s["tokens"], s["forwards"]) for s in stretches] == [
        (0, 16, 15, 3), (16, 32, 16, 2), (32, 64, 32, 2), (64, 128, 2, 1),
    ]  # fmt: skip
    assert stretches[1]["acceptance_length"] == 8
    long = by_answer_position([row("a", [20, 20, 60, 3])])  # before them 1, 21, 41 and 101
    assert [(s["from"], s["tokens"]) for s in long] == [(0, 20), (16, 20), (32, 60), (64, 3)]


def test_stretches_are_named_by_their_tokens():
    """A forward with n tokens before it begins at token n + 1."""
    for before in range(1, 200):
        first, last = map(int, stretch_name(stretch_of(before)).split("-"))
        assert first <= before + 1 <= last
    assert [stretch_name(i) for i in range(4)] == ["2-16", "17-32", "33-64", "65-128"]


def test_servers_say_nothing_about_places():
    assert by_answer_position([{"id": "a", "num_committed": 4, "num_forwards": 2}]) == []


def test_kinds_are_summed_apart_and_prompts_counted():
    words = [row("a", [2, 2], language="zh"), row("a", [1], language="zh", turn=1), row("b", [4])]
    seen = [row("a", [3, 1, 1], modality="image")]
    found = breakdowns([words, seen])
    sums = lambda name: {k: (v["prompts"], v["tokens"], v["forwards"]) for k, v in found[name].items()}
    assert sums("modality") == {"image": (1, 5, 3), "text": (2, 9, 4)}
    assert sums("language") == {"en": (2, 9, 4), "zh": (1, 5, 3)}
    assert sums("turn") == {"0": (3, 13, 6), "1": (1, 1, 1)}
    assert found["modality"]["text"]["acceptance_length"] == 9 / 4
    assert found["answer_tokens"] == {"mean": (5 + 2 + 5 + 6) / 4, "median": 5, "max": 6}
    assert answer_lengths([]) is None
