"""A conversation being answered: what is asked next, and which answers are kept."""

import pytest

from data_recipes.regenerate.dialogue import Dialogue, DialogueResult, Reply, text_of, with_answers, with_thoughts
from vlm_eagle.data.conversation import Conversation, Message, TextPart

SYSTEM, Q1, A1, Q2, A2 = (
    Message(role, (TextPart(text),))
    for role, text in [("system", "brief"), ("user", "q1"), ("assistant", "a1"), ("user", "q2"), ("assistant", "a2")]
)
TWO_TURNS = Conversation("two", (SYSTEM, Q1, A1, Q2, A2), "file:1")


def said(conversation):
    return [(m.role, text_of(m)) for m in conversation.messages]


def dialogue(conversation=TWO_TURNS, **options):
    return Dialogue((3, 1), conversation, seed=5, **options)


def test_each_question_follows_the_new_answers():
    talk = dialogue()
    assert (talk.turn, talk.old_answer) == (0, "a1")
    assert said(talk.prompt()) == [("system", "brief"), ("user", "q1")]
    talk.take(Reply("new", 2))
    assert (talk.turn, talk.old_answer, talk.is_over) == (1, "a2", False)
    assert said(talk.prompt()) == [("system", "brief"), ("user", "q1"), ("assistant", "new"), ("user", "q2")]
    assert talk.prompt().source == "file:1"
    talk.take(Reply("newer", 3))
    assert talk.is_over
    assert talk.result == DialogueResult((3, 1), "two", [Reply("new", 2), Reply("newer", 3)], written=5)
    assert talk.result.is_kept


def test_every_turn_has_a_seed_of_31_bits():
    talk = Dialogue((0, 0), TWO_TURNS, seed=2**31 - 1)
    assert talk.turn_seed == 2**31 - 1
    talk.take(Reply("new", 2))
    assert talk.turn_seed == 0


def test_a_last_question_needs_no_old_answer():
    talk = dialogue(Conversation("open", (Q1,)))
    assert talk.old_answer == ""
    talk.take(Reply("new", 1))
    assert talk.is_over


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (Reply("", 1), "empty answer"),
        (Reply(" \n", 1), "empty answer"),
        (Reply("long", 9, cut=True), "answer cut"),
        (Reply("a \ud800", 2), "bad text"),
        (Reply("a", 2, special=True), "special token in answer"),
    ],
)
def test_what_cannot_be_kept_ends_the_conversation_before_it(reply, reason):
    first, second = dialogue(), dialogue()
    first.take(reply)
    second.take(Reply("new", 1))
    second.take(reply)
    assert first.is_over
    assert second.is_over
    assert (first.result.reason, second.result.reason) == (reason, reason)
    assert (first.result.is_kept, second.result.is_kept) == (False, True)
    assert second.result.replies == [Reply("new", 1)]
    assert "question 2" in second.result.detail
    assert second.result.written == 1 + reply.count


def test_cut_answers_are_kept_when_asked_to():
    talk = dialogue(keep_truncated=True)
    talk.take(Reply("long", 9, cut=True))
    assert not talk.is_over
    assert talk.result.replies[0].cut
    talk.take(Reply("<think>\nstill thin", 9, cut=True))
    assert (talk.result.reason, len(talk.result.replies)) == ("answer cut", 1)


def test_what_may_pass_keeps_nothing():
    talk = dialogue()
    talk.take(Reply("new", 1))
    talk.end("no answer from a server", "it broke", again=True)
    assert (talk.result.replies, talk.result.is_kept, talk.is_over) == ([], False, True)


def test_outcomes_survive_json():
    result = DialogueResult((1, 2), "id", [Reply("a", 3, True, [4, 5])], 7, "answer cut", "why", False)
    assert DialogueResult.from_json(result.to_json()) == result


def test_answers_take_their_places():
    assert said(with_answers(TWO_TURNS, ["x"], 1)) == [("system", "brief"), ("user", "q1"), ("assistant", "x")]
    assert said(with_answers(TWO_TURNS, ["x", "y"], 2))[3:] == [("user", "q2"), ("assistant", "y")]


@pytest.mark.parametrize(
    ("text", "thoughts", "whole"),
    [
        ("four", None, "four"),
        ("\n\nfour", "2 and 2\n", "<think>\n2 and 2\n</think>\n\nfour"),
        ("four", " \n", "four"),
        ("2 and 2\n</think>\n\nfour", None, "<think>\n2 and 2\n</think>\n\nfour"),
        ("<think>\n2\n</think>\n\nfour", None, "<think>\n2\n</think>\n\nfour"),
    ],
)
def test_thoughts_stand_in_front(text, thoughts, whole):
    assert with_thoughts(text, thoughts) == whole
