"""The command through servers that imitate real ones: what it asks of each."""

import base64
import io
import json
import threading

import pytest
from fake_chat import FakeChat, serving, usual
from own_chats import picture, read, spoken, turns, write
from PIL import Image
from server_runs import rows_of_every_kind, run
from waiting import LIMIT

from vlm_eagle.errors import UserError


@pytest.fixture
def data(tmp_path):
    return rows_of_every_kind(tmp_path / "data")


def test_no_more_requests_than_asked_for(tmp_path, data):
    """The first twelve are answered three at a time, which would never happen with fewer."""
    three = threading.Barrier(3)

    def answer(body):
        if len(fake.requests) <= 12:
            three.wait(LIMIT)
        return usual(body)

    fake = FakeChat(answer=answer)
    with serving(fake) as urls:
        run(tmp_path, data, urls, concurrency=3)
    assert fake.busiest == 3


def test_sampling_thinking_and_samples_are_said(tmp_path, data):
    fake = FakeChat()
    with serving(fake) as urls:
        options = {"temperature": 0.7, "top_p": 0.9, "top_k": 20, "min_p": 0.05, "samples": 3, "limit": 2, "thinking": "on"}
        _, out = run(tmp_path, data, urls, max_new_tokens=77, **options)
    body = fake.requests[0]
    assert [body[name] for name in ("temperature", "top_p", "top_k", "min_p", "max_tokens")] == [0.7, 0.9, 20, 0.05, 77]
    assert body["chat_template_kwargs"] == {"enable_thinking": True}
    assert (body["repetition_penalty"], body["return_token_ids"], body["model"]) == (1.0, True, "fake-target")
    rows = read(out / "train.jsonl")
    assert [row["id"] for row in rows] == [f"row-{i}#{sample}" for i in (0, 1) for sample in (1, 2, 3)]
    assert len({spoken(row)[1] for row in rows}) == 6  # the fake's answers depend on the seed
    assert len({body["seed"] for body in fake.requests}) == len(fake.requests) == 9
    assert rows[0]["regenerated"]["sampling"] == {"temperature": 0.7, "top_p": 0.9, "top_k": 20, "min_p": 0.05}
    assert rows[0]["regenerated"]["thinking"] == "on"
    assert len({row["regenerated"]["seed"] for row in rows}) == 6


@pytest.mark.parametrize(("thinking", "said"), [("off", {"enable_thinking": False}), ("auto", None)])
def test_greedy_and_the_templates_own_thinking(tmp_path, data, thinking, said):
    fake = FakeChat()
    with serving(fake) as urls:
        run(tmp_path, data, urls, limit=1, thinking=thinking)
    (body,) = fake.requests
    assert body.get("chat_template_kwargs") == said
    assert (body["temperature"], body["top_k"]) == (0.0, -1)
    assert "seed" not in body


def test_other_servers_get_openais_own_parameters_only(tmp_path, data, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "a-key")
    fake = FakeChat(owner="somebody")
    with serving(fake) as urls:
        run(tmp_path, data, urls, limit=1, temperature=0.5, top_p=0.9)
        with pytest.raises(UserError, match=r"'somebody'.*vLLM and SGLang"):
            run(tmp_path, data, urls, limit=1, top_k=5, out="other")
    assert fake.requests[0].keys() == {"model", "messages", "max_tokens", "temperature", "top_p", "seed"}
    assert fake.keys == ["Bearer a-key"]


def test_sglang_is_told_what_it_knows(tmp_path, data):
    fake = FakeChat(owner="sglang")
    with serving(fake) as urls:
        run(tmp_path, data, urls, limit=1, top_k=5, temperature=1.0)
    (body,) = fake.requests
    assert (body["top_k"], body["chat_template_kwargs"]) == (5, {"enable_thinking": False})
    assert "return_token_ids" not in body


def test_which_model(tmp_path, data):
    fake = FakeChat(models=["a", "b"])
    with serving(fake) as urls, pytest.raises(UserError, match="serves a, b"):
        run(tmp_path, data, urls)


def test_pictures_by_data_url_at_their_final_size(tmp_path):
    data = write(tmp_path / "d" / "d.jsonl", [{"id": "x", "messages": turns("what?", "a", "and?", image="big.png")}])
    Image.radial_gradient("L").resize((200, 90)).save(tmp_path / "d" / "big.png")
    fake = FakeChat()
    with serving(fake) as urls:
        run(tmp_path, data, urls, target="demo")
        run(tmp_path, data, urls, out="as-it-is")
    urls = [body["messages"][0]["content"][0]["image_url"]["url"] for body in fake.requests]
    sizes = [Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))).size for url in urls]
    assert sizes[0] == sizes[1] != (200, 90)
    assert sizes[0][0] % 32 == sizes[0][1] % 32 == 0
    assert sizes[2:] == [(200, 90)] * 2


def test_pictures_by_path(tmp_path):
    picture(tmp_path / "d" / "a b.png")
    rows = [{"id": str(i), "messages": turns("what?", image=name)} for i, name in enumerate(["a b.png", "gone.png"])]
    data, fake = write(tmp_path / "d" / "d.jsonl", rows), FakeChat()
    with serving(fake) as urls:
        _, out = run(tmp_path, data, urls, images="path")
    (body,) = fake.requests
    assert body["messages"][0]["content"][0]["image_url"]["url"] == f"file://{tmp_path}/d/a%20b.png"
    assert read(out / "failed.jsonl")[0]["reason"] == "image missing"


def test_long_answers_are_asked_for_and_noted(tmp_path, data):
    fake = FakeChat()
    with serving(fake) as urls:
        _, out = run(tmp_path, data, urls, long_answers=1.0)
    long = [row for row in read(out / "train.jsonl") if row["regenerated"].get("long_answer")]
    assert [row["id"] for row in long] == ["row-0", "row-3", "row-6", "row-9"]
    asked = {body["messages"][0]["content"][1]["text"] for body in fake.requests if "image_url" in json.dumps(body)}
    assert asked == {spoken(row)[0][1] for row in long}
    assert all(len(text) > 30 for text in asked)
