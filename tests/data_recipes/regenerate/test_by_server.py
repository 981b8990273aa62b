"""The command through servers that imitate real ones: what they are asked, what becomes of answers, and all failures."""

import base64
import io
import json

import pytest
from fake_chat import FakeChat, choice, free_address, said, serving, usual
from own_chats import mixed_rows, picture, read, spoken, turns, write
from PIL import Image
from server_runs import clock_of_pool, rows_of_every_kind, run

from data_recipes.regenerate import target_files
from vlm_eagle.data.conversation import Conversation
from vlm_eagle.data.conversation_rows import read_conversations
from vlm_eagle.errors import UserError


@pytest.fixture
def data(tmp_path):
    return rows_of_every_kind(tmp_path / "data")


def assert_answered(row, old, seed=None, first_seed=None):
    """Every answer is the one that the fake gives to what was said before it."""
    messages, answered = [], spoken(row)
    assert [role for role, _ in answered] == [m["role"] for m in with_last_answer(old)]
    for message, (role, text) in zip(with_last_answer(old), answered, strict=True):
        if role == "assistant":
            assert text == said(messages), row["id"]
            messages.append({"role": role, "content": text})
        else:
            messages.append(as_sent(message))


def with_last_answer(row):
    messages = row["messages"]
    return [*messages, {"role": "assistant"}] if messages[-1]["role"] == "user" else messages


def as_sent(message):
    """A message as the fake hashes it: the picture of `mixed_rows` by its data URL."""
    content = message["content"]
    if isinstance(content, str):
        return message
    file = io.BytesIO()
    PICTURES[content[0]["image"]].save(file, format="PNG")
    url = "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
    return {"role": message["role"], "content": [{"type": "image_url", "image_url": {"url": url}}, content[1]]}


PICTURES = {f"images/{i}.png": Image.new("RGB", (48, 32), ("red", "green", "blue")[i % 9 // 3]) for i in range(0, 300, 3)}


def test_every_turn_is_answered_anew(tmp_path, data):
    with serving(FakeChat()) as urls:
        code, out = run(tmp_path, data, urls)
    old, rows = read(data), read(out / "train.jsonl")
    assert code == 0
    assert [row["id"] for row in rows] == [row["id"] for row in old]
    for row, before in zip(rows, old, strict=True):
        assert_answered(row, before)
        assert row["regenerated"]["target"] == "fake-target"
        assert row["regenerated"]["sampling"]["temperature"] == 0.0
    assert read(out / "failed.jsonl") == []
    report = json.loads((out / "regenerate.json").read_text())
    assert report["counts"]["written"] == report["counts"]["asked"] == 12
    assert report["counts"]["turns"] == sum(len(row["messages"]) // 2 for row in rows) == 24
    parsed = list(read_conversations(out / "train.jsonl"))
    assert all(isinstance(row, Conversation) for row in parsed)
    images = [part.image for row in parsed for m in row.messages for part in m.content if hasattr(part, "image")]
    assert [Image.open(image).getpixel((0, 0)) for image in images] == [(255, 0, 0), (0, 128, 0), (0, 0, 255), (255, 0, 0)]


def test_all_failures_that_pass(tmp_path, data):
    faults = ["500", "reset", "garbage", "", "bare", "gone", "429", "abort", "slow", "503"] * 2
    fake, whole = FakeChat(faults=faults), FakeChat()
    with serving(fake, whole) as (url, whole_url):
        code, out = run(tmp_path, data, [url], timeout=1.0, tries=9)
        _, expected = run(tmp_path, data, [whole_url], out="whole")
    assert code == 0
    assert (out / "train.jsonl").read_bytes() == (expected / "train.jsonl").read_bytes()
    assert len(fake.requests) >= 24 + 18


def test_what_does_not_pass_is_asked_again_by_the_next_run(tmp_path, data):
    fake = FakeChat(answer=lambda body: 500 if "question 4.1" in json.dumps(body["messages"]) else usual(body))
    with serving(fake) as urls:
        code, out = run(tmp_path, data, urls, tries=2)
        (failed,) = read(out / "failed.jsonl")
        assert code == 1
        assert (failed["reason"], failed["id"], failed["source"]) == ("no answer from a server", "row-4", f"{data}:5")
        assert "status 500" in failed["detail"]
        assert len(read(out / "train.jsonl")) == 11
        assert sum("question 4.1" in json.dumps(body["messages"]) for body in fake.requests) == 2
        fake.answer, asked = usual, len(fake.requests)
        code, out = run(tmp_path, data, urls)
        assert len(fake.requests) - asked == 2  # both turns of that one
    assert code == 0
    assert len(read(out / "train.jsonl")) == 12
    assert read(out / "failed.jsonl") == []


def test_what_a_server_says_is_no_markup(tmp_path, data, capsys):
    fake = FakeChat(answer=lambda body: choice({"content": "x"}, "[/INST]"))
    with serving(fake) as urls:
        code, _ = run(tmp_path, data, urls, tries=3, limit=1, out="out [/b]")
    assert code == 1
    printed = capsys.readouterr().out.replace("\n", "")
    assert "ended with '[/INST]'" in printed
    assert "out [/b]/train.jsonl" in printed


FINE = choice({"content": "fine"})


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        ({}, "KeyError('choices')"),
        ({"choices": []}, "IndexError"),
        ({"choices": [None], "usage": FINE["usage"]}, "TypeError"),
        ({"choices": FINE["choices"]}, "KeyError('usage')"),
        ({**FINE, "usage": {"completion_tokens": None}}, "TypeError"),
        (choice({"content": [{"type": "text", "text": "x"}]}), "content is not text"),
        (choice({"content": "x", "reasoning": 3}), "content is not text"),
        ({**FINE, "choices": [{**FINE["choices"][0], "token_ids": 5}]}, "token_ids"),
        ({**FINE, "choices": [{**FINE["choices"][0], "token_ids": [[1]]}]}, "token_ids"),
    ],
)
def test_any_answer_costs_one_conversation_at_most(tmp_path, answer, says):
    rows = [{"id": q, "messages": turns(q)} for q in ("odd", "fine")]
    fake = FakeChat(answer=lambda body: answer if body["messages"][0]["content"] == "odd" else FINE)
    with serving(fake) as urls:
        code, out = run(tmp_path, write(tmp_path / "d.jsonl", rows), urls, tries=2)
    (failed,) = read(out / "failed.jsonl")
    assert (code, failed["id"], failed["reason"]) == (1, "odd", "no answer from a server")
    assert says in failed["detail"]


@pytest.mark.parametrize("finish", ["content_filter", "tool_calls"])
def test_an_answer_that_the_server_will_not_finish_is_not_asked_for_again(tmp_path, data, finish):
    fake = FakeChat(answer=lambda body: choice({"content": None}, finish))
    with serving(fake) as urls:
        code, out = run(tmp_path, data, urls)
    assert (code, len(fake.requests)) == (0, 12)
    assert {row["reason"] for row in read(out / "failed.jsonl")} == {"refused by the server"}


def test_a_refused_prompt_fails_for_good(tmp_path, data):
    def picky(body):
        return 404 if len(body["messages"]) > 2 else usual(body)  # which would fail for everybody, and stops the run

    fake = FakeChat(faults=["400"])
    with serving(fake) as urls:
        code, out = run(tmp_path, data, urls, concurrency=1)
        asked = len(fake.requests)
        failed = read(out / "failed.jsonl")
        assert (code, len(failed)) == (0, 1)
        assert (failed[0]["reason"], failed[0]["id"]) == ("refused by the server", "row-0")
        assert "made to fail with 400" in failed[0]["detail"]
        assert run(tmp_path, data, urls)[0] == 0
        assert len(fake.requests) == asked  # nothing was asked again
        run(tmp_path, data, urls, retry_failed=True)
        assert len(fake.requests) == asked + 1
        assert len(read(out / "train.jsonl")) == 12
        fake.answer = picky
        with pytest.raises(UserError, match=r"status 404.*OpenAI-compatible"):
            run(tmp_path, data, urls, out="other")


def test_turns_before_a_refused_one_stay(tmp_path):
    data = write(tmp_path / "d.jsonl", [{"id": "x", "messages": turns("q1", "a1", "q2", "a2", "q3")}])
    with serving(FakeChat(faults=["", "", "400"])) as urls:
        code, out = run(tmp_path, data, urls)
    (row,) = read(out / "train.jsonl")
    assert code == 0
    assert [role for role, _ in spoken(row)] == ["user", "assistant"] * 2
    assert row["regenerated"]["ended_early"] == "refused by the server"
    counts = json.loads((out / "regenerate.json").read_text())["counts"]
    assert (counts["ended_early"], counts["failed"]) == ({"refused by the server": 1}, {})


def test_a_server_that_dies_is_replaced(tmp_path, data):
    rows = mixed_rows(tmp_path / "data", 60)
    write(data, rows)
    dying, steady = FakeChat(), FakeChat()
    dying.faults = [""] * 5 + ["gone"] * 1000
    with serving(dying, steady) as urls:
        code, out = run(tmp_path, data, [*urls, free_address()], backoff=0.2)
    assert code == 0
    assert len(read(out / "train.jsonl")) == 60
    assert len(dying.requests) < 5 + 20
    assert len(steady.requests) > 90


def test_a_server_that_asks_for_a_pause_gets_it(tmp_path, data, monkeypatch):
    clock = clock_of_pool(monkeypatch)
    fake, started = FakeChat(faults=["", "429 10", "", "503 5"]), clock.now
    with serving(fake) as urls:
        code, out = run(tmp_path, data, urls, concurrency=1)
    assert (code, len(read(out / "train.jsonl"))) == (0, 12)
    assert 15 <= clock.now - started < 16
    assert len(fake.requests) == 24 + 2


def test_nobody_is_there(tmp_path, data):
    with pytest.raises(UserError, match="No server answers at"):
        run(tmp_path, data, [free_address()])
    assert not (tmp_path / "out" / "train.jsonl").exists()


@pytest.mark.parametrize("field", ["reasoning", "reasoning_content"])
def test_thoughts_are_kept(tmp_path, field):
    data = write(tmp_path / "d.jsonl", [{"id": "x", "messages": turns("2 + 2?")}])
    fake = FakeChat(answer=lambda body: choice({"content": "\n\nfour", field: "\ntwo and two\n"}))
    with serving(fake) as urls:
        _, out = run(tmp_path, data, urls, thinking="on")
    assert spoken(read(out / "train.jsonl")[0])[1] == ("assistant", "<think>\ntwo and two\n</think>\n\nfour")


@pytest.mark.parametrize(("mode", "written"), [("drop", 0), ("keep", 1)])
def test_cut_answers(tmp_path, mode, written):
    data = write(tmp_path / "d.jsonl", [{"id": "x", "messages": turns("q")}])
    with serving(FakeChat(answer=lambda body: choice({"content": "and so"}, "length", 9))) as urls:
        _, out = run(tmp_path, data, urls, truncated_answers=mode)
    rows = read(out / "train.jsonl")
    assert len(rows) == written
    assert [row["regenerated"]["truncated_answers"] for row in rows] == [[0]] * written
    assert [row["reason"] for row in read(out / "failed.jsonl")] == ["answer cut"] * (1 - written)


def test_token_ids_are_kept_without_the_end(tmp_path, target):
    end, start = (target.tokenizer.convert_tokens_to_ids(token) for token in ("<|im_end|>", "<|im_start|>"))
    answers = {"q0": [9, 10, end], "q1": [9, start, end]}

    def answer(body):
        reply = choice({"content": "fine"})
        reply["choices"][0]["token_ids"] = answers[body["messages"][0]["content"]]
        return reply

    data = write(tmp_path / "d.jsonl", [{"id": q, "messages": turns(q)} for q in answers])
    fake = FakeChat(answer=answer)
    with serving(fake) as urls:
        _, out = run(tmp_path, data, urls, target="demo")
    lines = {line["id"]: line for line in read(out / "journal.jsonl")[1:]}
    assert lines["q0"]["replies"][0]["tokens"] == [9, 10]
    assert lines["q1"]["reason"] == "special token in answer"
    assert fake.requests[0]["stop_token_ids"] == [end]
    header = read(out / "journal.jsonl")[0]["settings"]
    assert (header["target"], header["served_as"]) == ("demo", "fake-target")


@pytest.mark.parametrize(
    ("stated", "ids"), [(None, {9}), ({}, {9}), ({"eos_token_id": 5}, {5}), ({"eos_token_id": [5, 7]}, {5, 7})]
)
def test_which_tokens_end_an_answer(tmp_path, stated, ids):
    """Those of generation_config.json, of which Qwen's has two; the tokenizer's where there is none."""
    if stated is not None:
        (tmp_path / "generation_config.json").write_text(json.dumps(stated))
    assert target_files._end_ids(str(tmp_path), 9) == ids


def test_bad_rows_are_counted_with_the_rest(tmp_path):
    picture(tmp_path / "d" / "ok.png")
    (tmp_path / "d" / "broken.png").write_bytes(b"no picture")
    rows = ["{", {"messages": turns("q", image="broken.png")}, {"messages": turns("q", image="../out.png")}]
    rows += [{"messages": [{"role": "user", "content": [{"type": "video", "video": "v.mp4"}]}]}, {"messages": turns("q")}]
    data = write(tmp_path / "d" / "d.jsonl", rows)
    with serving(FakeChat()) as urls:
        code, out = run(tmp_path, data, urls)
    assert code == 0
    reasons = [row["reason"] for row in read(out / "failed.jsonl")]
    assert reasons == ["bad JSON", "image broken", "path leaves folder", "has video"]
    assert len(read(out / "train.jsonl")) == 1


def test_answers_of_one_run_are_not_mixed_with_anothers(tmp_path, data):
    fake = FakeChat()
    with serving(fake) as urls:
        run(tmp_path, data, urls, limit=3)
        with pytest.raises(UserError, match="max_new_tokens was 2048, now 9"):
            run(tmp_path, data, urls, max_new_tokens=9)
        fake.models = ["another"]
        with pytest.raises(UserError, match="target was fake-target, now another"):
            run(tmp_path, data, urls)
        fake.models = ["fake-target"]
        asked = len(fake.requests)
        _, out = run(tmp_path, data, urls, concurrency=1, limit=6)  # more of the same is fine
    assert len(fake.requests) - asked == sum(len(row["messages"]) // 2 for row in read(out / "train.jsonl")[3:])
    assert len(read(out / "train.jsonl")) == 6


def test_giving_up_keeps_what_is_there(tmp_path, data):
    def answer(body):
        if len(fake.requests) >= 9:
            fake.models = []  # from now on it is no server at all
        return usual(body)

    fake = FakeChat(answer=answer, faults=[""] * 9, fault="gone")
    with serving(fake) as urls:
        with pytest.raises(UserError):
            run(tmp_path, data, urls, server_timeout=0.5)
        assert not fake.models
        kept = len(read(tmp_path / "out" / "journal.jsonl")) - 1
        assert 0 < kept < 12
        fake.answer, fake.fault, fake.models = usual, "", ["fake-target"]
        asked = len(fake.requests)
        assert run(tmp_path, data, urls)[0] == 0
    rows = read(tmp_path / "out" / "train.jsonl")
    assert [row["id"] for row in rows] == [f"row-{i}" for i in range(12)]
    assert len(fake.requests) - asked < 24
