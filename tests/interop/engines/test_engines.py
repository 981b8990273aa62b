"""Clients of engines against fakes that answer as the real ones do: counts, requests, and everything that can go wrong."""

import base64
import io
import socket
import time
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime

import pytest
from fake_engines import Canned, FakeSglang, FakeVllm, serving
from PIL import Image
from waiting import LIMIT

from vlm_eagle.data.conversation import BadRow, Conversation, Message, TextPart, VideoPart, user_message
from vlm_eagle.decoding.sampling import Sampling
from vlm_eagle.errors import UserError
from vlm_eagle.interop.engines.connect import connect
from vlm_eagle.interop.engines.engine import Asked, EngineShape
from vlm_eagle.interop.engines.http import EngineHttp, Refused, Unanswered, retry_after
from vlm_eagle.interop.engines.messages import resizer
from vlm_eagle.interop.engines.vllm import Counters

PICTURE = Image.radial_gradient("L").convert("RGB").resize((48, 32))
TEXT = Conversation("t", (user_message("What is 2 + 2?"),))
IMAGE = Conversation("i", (Message("system", (TextPart("Be brief."),)), user_message("And this?", (PICTURE,))))


def asking(fake, conversation=TEXT, render=lambda conversation: "rendered", **options):
    engine = connect(fake.url, backoff=0.01, timeout=LIMIT, render=render)
    return engine.answer(conversation, Asked(**options))


def decoded(url):
    return Image.open(io.BytesIO(base64.b64decode(url.removeprefix("data:image/png;base64,"))))


def test_vllm_counts_one_request():
    with serving(FakeVllm()) as fake:
        engine = connect(fake.url + "/v1/")
        assert (engine.kind, engine.model, engine.version) == ("vllm", "fake-target", "0.0.fake")
        assert engine.shape == EngineShape(num_draft_tokens=4, topk=1, num_steps=3)
        answer = engine.answer(TEXT, Asked(max_new_tokens=12))
    assert (answer.drafts, answer.stats.forwards) == (4, 4)
    assert answer.stats.tokens == 9  # ten, the first of which came from the prefill
    assert answer.stats.acceptance_length == 9 / 4
    assert answer.stats.by_position == [3 / 4, 2 / 4, 0]
    assert (answer.text, answer.tokens[-1], answer.prompt_tokens) == ("an answer", 2, [1, 2, 3])


def test_vllm_forwards_without_a_draft_are_forwards():
    with serving(FakeVllm(lambda body: Canned([0] * 11, drafts=2, by_position=[1, 1, 1]))) as fake:
        answer = asking(fake)
    assert (answer.drafts, answer.stats.forwards, answer.stats.tokens) == (2, 7, 10)


def test_requests_say_all_that_matters():
    sampling = Sampling(0.6, top_p=0.95, top_k=20, min_p=0.1)
    with serving(FakeVllm()) as fake:
        asking(fake, max_new_tokens=12, stop_ids=(2, 0), seed=7, sampling=sampling, thinking=True)
        asking(fake)
    first, greedy = fake.requests
    assert first["messages"] == [{"role": "user", "content": "What is 2 + 2?"}]
    assert (first["max_tokens"], first["stop_token_ids"], first["seed"]) == (12, [0, 2], 7)
    assert [first[name] for name in ("temperature", "top_p", "top_k", "min_p")] == [0.6, 0.95, 20, 0.1]
    assert first["return_token_ids"]
    assert [body["chat_template_kwargs"] for body in fake.requests] == [{"enable_thinking": True}, {"enable_thinking": False}]
    assert (greedy["temperature"], greedy["top_k"], greedy["repetition_penalty"]) == (0.0, -1, 1.0)


def test_pictures_travel_without_loss():
    with serving(FakeVllm()) as fake:
        asking(fake, IMAGE)
        asking(fake, IMAGE, prepare=lambda picture: picture.resize((32, 32)))
    system, user = fake.requests[0]["messages"]
    assert system == {"role": "system", "content": "Be brief."}
    assert [part["type"] for part in user["content"]] == ["image_url", "text"]
    assert decoded(user["content"][0]["image_url"]["url"]).tobytes() == PICTURE.tobytes()
    assert decoded(fake.requests[1]["messages"][1]["content"][0]["image_url"]["url"]).size == (32, 32)


@pytest.mark.parametrize("size", [(300, 170), (33, 20), (2000, 1500)])
def test_a_prepared_picture_has_the_size_our_processor_gives_it(processor, size):
    """So an engine with the same processor has nothing left to resample."""
    ours, picture = processor.image_processor, Image.radial_gradient("L").convert("RGB").resize(size)
    prepared = resizer(ours)(picture)
    (grid,) = ours(images=[picture], return_tensors="pt")["image_grid_thw"].tolist()
    assert prepared.size == (grid[2] * ours.patch_size, grid[1] * ours.patch_size)


def test_videos_are_not_sent():
    clip = Conversation("v", (Message("user", (VideoPart((PICTURE, PICTURE)), TextPart("What happens?"))),))
    with serving(FakeVllm()) as fake, pytest.raises(BadRow, match="has video"):
        asking(fake, clip)


@pytest.mark.parametrize("histogram", ["spec_accept_histogram", "spec_correct_drafts_histogram"])
def test_sglang_meta_info(histogram):
    with serving(FakeSglang(histogram=histogram)) as fake:
        engine = connect(fake.url, render=lambda conversation: f"<{conversation.id}>")
        answer = engine.answer(IMAGE, Asked(max_new_tokens=12, seed=3))
    assert engine.shape == EngineShape(num_draft_tokens=16, topk=4, num_steps=5)
    (body,) = fake.requests
    assert body["text"] == "<i>"
    assert body["sampling_params"]["max_new_tokens"] == 12
    assert body["sampling_params"]["skip_special_tokens"]
    assert "sampling_seed" not in body["sampling_params"]  # of a greedy request
    assert decoded(body["image_data"][0]).tobytes() == PICTURE.tobytes()
    assert (answer.stats.forwards, answer.stats.tokens) == (4, 9)
    assert answer.stats.accepted_at == [3, 2, 0, 0, 0]
    assert answer.tokens[-1] == 2


def test_sglang_is_given_the_seed_of_a_drawn_answer():
    with serving(FakeSglang()) as fake:
        asking(fake, seed=0, sampling=Sampling(0.6))
        asking(fake, sampling=Sampling(0.6))
    assert [body["sampling_params"].get("sampling_seed") for body in fake.requests] == [0, None]


def test_older_sglang():
    """Its info has another path, and there is no histogram."""
    with serving(FakeSglang(histogram=None, hidden={"/server_info"})) as fake:
        answer = asking(fake)
    assert (answer.stats.acceptance_length, answer.stats.by_position) == (9 / 4, [])
    assert "image_data" not in fake.requests[0]


@pytest.mark.parametrize("kind", [FakeVllm, FakeSglang])
@pytest.mark.parametrize("fault", ["500", "429", "cut", "bare", "odd", "gone"])
def test_what_fails_once_is_asked_again(kind, fault):
    with serving(kind(faults=[fault])) as fake:
        answer = asking(fake)
    assert (len(fake.requests), answer.drafts, answer.stats.tokens) == (2, 4, 9)  # a failed attempt is not counted


@pytest.mark.parametrize("fault", ["500", "cut", "gone"])
def test_what_always_fails_is_given_up(fault):
    with serving(FakeVllm(faults=[fault] * 9)) as fake, pytest.raises(UserError, match="server's log"):
        asking(fake)
    assert len(fake.requests) == 4


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, 0), ("", 0), ("0", 0), ("7", 7), (" 12 ", 12), ("60", 60), ("3600", 60), ("9" * 400, 60), ("-5", 0),
        ("1.5", 0), ("²", 0), ("soon", 0), ("Wed, 21 Oct 2015 07:28:00 GMT", 0), ("Fri, 31 Dec 9999 23:59:59 GMT", 60),
        ("Fri, 31 Dec 9999 23:59:59 -0000", 60), ("Wed, 99 Oct 2015 07:28:00 GMT", 0),
        ("Wed, 21 Oct 2015 07:28:00 +9999999", 0),
    ],
)  # fmt: skip
def test_how_long_a_server_asks_to_wait(header, seconds):
    assert retry_after(header) == seconds


def test_dates_to_wait_for():
    date = format_datetime(datetime.now(timezone.utc) + timedelta(seconds=30), usegmt=True)
    assert 27 < retry_after(date) <= 30


def test_a_pause_that_is_asked_for_is_kept(monkeypatch):
    pauses = []
    monkeypatch.setattr(time, "sleep", pauses.append)
    http, errors = EngineHttp("http://localhost:1", tries=4, backoff=1.0), iter([9.0, 0.0, 2.0])

    def attempt():
        wait = next(errors, None)
        if wait is not None:
            raise Unanswered("later", wait)
        return "answer"

    assert http.retry(attempt) == "answer"
    assert pauses == [9.0, 2.0, 4.0]


def test_pauses_grow(monkeypatch):
    pauses = []
    monkeypatch.setattr(time, "sleep", pauses.append)
    with serving(FakeVllm(faults=["500"] * 3)) as fake:
        connect(fake.url, backoff=0.5, tries=4).answer(TEXT, Asked())
    assert pauses == [0.5, 1.0, 2.0]


def test_a_refusal_is_not_asked_again():
    with serving(FakeVllm(faults=["400"])) as fake, pytest.raises(Refused, match="made to fail with 400"):
        asking(fake, IMAGE)
    assert len(fake.requests) == 1


def test_nobody_there():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, not listening: connections are refused
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(UserError, match="No server answers at"):
            connect(url, backoff=0.01)
    with pytest.raises(UserError, match="not a server's address"):
        connect("localhost:8000")


@pytest.mark.parametrize(
    ("fake", "message"),
    [
        (FakeVllm(k=0), "counts no drafts"),
        (FakeVllm(log_stats=False), "disable-log-stats"),
        (FakeVllm(hidden={"/metrics"}), "disable-log-stats"),
        (FakeVllm(hidden={"/v1/models"}), "OpenAI-compatible"),
        (FakeSglang(info={"speculative_algorithm": None}), "does not draft"),
        (FakeSglang(info={"speculative_algorithm": "EAGLE3"}), "does not say what"),
        (FakeSglang(hidden={"/server_info", "/get_server_info"}), "Is this an SGLang server"),
    ],
)
def test_servers_that_cannot_be_measured(fake, message):
    with serving(fake), pytest.raises(UserError, match=message):
        connect(fake.url, render=str, backoff=0.01)


class BehindProxy(FakeVllm):
    """A vLLM whose list of models does not say so."""

    def get(self, path):
        return {"data": [{"id": "fake-target", "owned_by": "someone"}]} if path == "/v1/models" else super().get(path)


def test_an_engine_that_does_not_say_what_it_is():
    with serving(BehindProxy()) as fake:
        with pytest.raises(UserError, match="says it is 'someone'"):
            connect(fake.url)
        assert connect(fake.url, "vllm").kind == "vllm"


def test_sglang_without_counts():
    with serving(FakeSglang(counts=False, histogram=None)) as fake, pytest.raises(UserError, match="spec_verify_ct"):
        asking(fake)


def test_sglang_needs_the_template():
    with serving(FakeSglang()) as fake, pytest.raises(UserError, match="--target"):
        connect(fake.url)


def test_somebody_else_on_the_server_is_noticed():
    with serving(FakeVllm(faults=["crowd"])) as fake, pytest.raises(UserError, match="somebody else"):
        asking(fake)


def test_a_restarted_server_is_noticed():
    before, after = Counters(10, 5, [5], 4), Counters(2, 1, [1], 1)
    with pytest.raises(UserError, match="restarted"):
        after.since(before)
    with pytest.raises(UserError, match="restarted"):
        Counters(9, 5, [5]).since(Counters(10, 5, [5]))  # of a server that does not count requests


def test_counters_of_several_engines_are_summed():
    lines = [
        f'vllm:spec_decode_{name}{{engine="{engine}"{position}}} {value}'
        for engine in (0, 1)
        for name, position, value in [
            ("num_drafts_total", "", "1.2e+06"),
            ("num_accepted_tokens", "", 12.0),  # without the suffix, as get_metrics names it
            ("num_accepted_tokens_per_pos_total", ',position="1"', 4.0),
            ("num_accepted_tokens_per_pos_total", ',position="0"', 8.0),
        ]
    ]
    assert Counters.parse("\n".join(lines)) == Counters(2_400_000, 24, [16, 8], None)
