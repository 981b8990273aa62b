"""The public interface gives what the loop beneath it gives, from prompts in any form."""

import base64
import io
import subprocess
import sys
from pathlib import Path

import example_api
import pytest
import torch
from conftest import make_draft
from PIL import Image

import vlm_eagle
from vlm_eagle import UserError
from vlm_eagle.data import images, prompts
from vlm_eagle.data.collator import VisionCollator
from vlm_eagle.data.conversation import Conversation, user_message
from vlm_eagle.decoding.generate import generate as reference
from vlm_eagle.demo import mix

QUESTIONS = ["What is 38 + 47?", "What is 12 + 30?", "What is 5 + 6?"]
SHORT = vlm_eagle.Settings(max_new_tokens=12, shape=vlm_eagle.TreeShape(8, topk=3, num_steps=3))


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    """The demo target alone, and with a random draft."""
    alone = vlm_eagle.load_pair("demo")
    folder = tmp_path_factory.mktemp("pair") / "draft"
    make_draft(alone.target).save_pretrained(folder)
    return alone, vlm_eagle.load_pair("demo", folder)


@pytest.fixture(scope="module")
def picture():
    return mix.sample("describe", 1).messages[0].content[0].image


def asked(*content):
    return [{"role": "user", "content": list(content)}]


def test_importing_it_imports_nothing_heavy():
    code = (
        "import sys, vlm_eagle; vlm_eagle.Settings(shape=vlm_eagle.TreeShape(4), sampling=vlm_eagle.Sampling());"
        "vlm_eagle.TrainConfig; assert set(vlm_eagle.__all__) <= set(dir(vlm_eagle));"
        "print({'torch', 'transformers', 'accelerate'} & set(sys.modules))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "set()"


def test_the_example_runs(pairs, picture, tmp_path):
    picture.save(tmp_path / "picture.png")
    make_draft(pairs[0].target).save_pretrained(tmp_path / "draft")
    said, length = example_api.describe("demo", tmp_path / "draft", tmp_path / "picture.png")
    assert said
    assert length >= 1


def test_every_name_is_there():
    assert all(getattr(vlm_eagle, name) is getattr(vlm_eagle.api, name) for name in vlm_eagle.__all__)
    assert sorted(vlm_eagle.__all__) == sorted(vlm_eagle.api.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        vlm_eagle.nothing  # noqa: B018


@pytest.mark.slow
def test_answers_are_those_of_the_loop(pairs):
    alone = pairs[0]
    conversations = [Conversation(q, (user_message(q),)) for q in QUESTIONS]
    batch = VisionCollator(alone.processor, for_generation=True)(conversations)
    plain = reference(alone.target, batch, settings=SHORT)
    for pair in pairs:
        expected = reference(pair.target, batch, pair.draft, SHORT)
        assert [g.tokens for g in expected] == [g.tokens for g in plain]
        for form in (QUESTIONS, conversations, [asked({"type": "text", "text": q}) for q in QUESTIONS], batch):
            answers = vlm_eagle.generate(pair, form, SHORT, batch_size=2)
            assert [answer.generation for answer in answers] == expected
        assert answers[0].text == pair.target.tokenizer.decode(answers[0].tokens, skip_special_tokens=True)
        assert answers[0].stats == expected[0].stats
        assert "".join(vlm_eagle.stream(pair, QUESTIONS[0], SHORT)) == answers[0].text
    assert expected[0].stats.forwards


def test_seeds_do_not_depend_on_the_batch(pairs):
    sampled = vlm_eagle.Settings(max_new_tokens=6, sampling=vlm_eagle.Sampling(temperature=1.0), seed=5)
    one, all_ = ([a.tokens for a in vlm_eagle.generate(pairs[1], QUESTIONS, sampled, batch_size=n)] for n in (1, 3))
    assert one == all_


@pytest.mark.slow
def test_a_picture_in_any_form_gives_one_answer(pairs, picture, tmp_path):
    file = tmp_path / "picture.png"
    picture.save(file)
    data = file.read_bytes()
    url = "data:image/png;base64," + base64.b64encode(data).decode()
    parts = [{"type": "image", "image": form} for form in (str(file), file, picture, data, url)]
    parts += [{"type": "image_url", "image_url": {"url": url}}, {"type": "image_url", "image_url": url}]
    forms = [asked(part, {"type": "text", "text": "Describe this image."}) for part in parts]
    conversation = Conversation("a", (user_message("Describe this image.", (picture,)),))
    batch = VisionCollator(pairs[0].processor, for_generation=True)([conversation])
    for pair in pairs:
        (expected,) = reference(pair.target, batch, pair.draft, SHORT)
        assert [answer.generation.tokens for answer in vlm_eagle.generate(pair, forms, SHORT)] == [expected.tokens] * len(forms)
    frames = [file, picture]
    assert vlm_eagle.generate(pairs[0], asked({"type": "video", "video": frames}, {"type": "text", "text": "?"}), SHORT)


@pytest.mark.slow
def test_a_chat_remembers(pairs, picture):
    talk = vlm_eagle.chat(pairs[1], SHORT, system="Be brief.")
    first, second = talk.send("Describe this image.", [picture]), talk.send("What is 12 + 30?")
    assert [message.role for message in talk.conversation.messages] == ["system", "user", "assistant", "user", "assistant"]
    history = [
        {"role": "system", "content": "Be brief."},
        *asked({"type": "image", "image": picture}, {"type": "text", "text": "Describe this image."}),
        {"role": "assistant", "content": first.text},
        {"role": "user", "content": "What is 12 + 30?"},
    ]
    assert vlm_eagle.generate(pairs[1], history, SHORT)[0].text == second.text
    talk.forget()
    talk.send("What is 1 + 2?")
    assert [message.role for message in talk.conversation.messages] == ["system", "user", "assistant"]


@pytest.mark.parametrize(
    ("prompt", "said"),
    [
        ([], "is not a prompt. Give"),
        (7, "is not a prompt. Give"),
        (["fine", 7], "prompt 2: no prompt: expected a string"),
        ([{"role": "robot", "content": "?"}], "bad role"),
        ([{"role": "user", "content": "?"}, {"role": "assistant", "content": "!"}], "End with the user's"),
        ([{"role": "user", "content": "?"}, {"role": "user", "content": "?"}], "roles out of order"),
        (asked({"type": "audio", "audio": "a"}), "expected type text, image or video"),
        (asked({"type": "text", "text": 3}), "expected text"),
        (asked({"type": "image", "image": "https://example.com/a.png"}), "is not fetched. Download it"),
        (asked({"type": "image_url", "image_url": {"url": "file:///etc/passwd"}}), "is not fetched. Download it"),
        (asked({"type": "video", "video": "http://example.com/a.mp4"}), "is not fetched. Download it"),
        (asked({"type": "video", "video": []}), "expected a file or a list of frames"),
        (asked({"type": "video", "video": "a.mp4", "fps": 0}), "fps must be a positive number"),
        (asked({"type": "image", "image": "nowhere.png"}), "image missing: nowhere.png"),
        (asked({"type": "image", "image": b"no image"}), "image broken"),
        (asked({"type": "image", "image": "data:image/png;base64,%%"}), "bad data URL"),
        (asked({"type": "image", "image": "data:image/png,abc"}), "expected data:image"),
        (asked({"type": "image", "image": 3}), "expected a path, a PIL picture"),
        (asked({"type": "image", "image": "a\0b"}), "is not a file name"),
    ],
)
def test_bad_prompts_say_what_is_wrong(pairs, prompt, said):
    with pytest.raises(UserError, match=said):
        vlm_eagle.generate(pairs[0], prompt)


def test_pictures_have_limits(monkeypatch):
    file = io.BytesIO()
    Image.new("RGB", (40, 40)).save(file, "PNG")
    url = "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
    monkeypatch.setattr(images, "MAX_PIXELS", 1000)
    with pytest.raises(UserError, match="image too large: image has 40 x 40 pixels"):
        prompts.read_picture(url, "prompt")
    monkeypatch.setattr(images, "MAX_BYTES", 10)
    with pytest.raises(UserError, match="image too large: a data URL"):
        prompts.read_picture(url, "prompt")
    monkeypatch.setattr(images, "MAX_BYTES", 10)
    with pytest.raises(UserError, match="bytes, limit"):
        prompts.read_picture(file.getvalue(), "prompt")


def test_pairs_are_checked(pairs, text_target, tmp_path):
    make_draft(text_target).save_pretrained(tmp_path / "other")
    with pytest.raises(UserError, match="made for another target: target_hidden_size 64"):
        vlm_eagle.load_pair("demo", tmp_path / "other")
    with pytest.raises(UserError, match="no device"):
        vlm_eagle.load_pair("demo", device="abacus")
    assert pairs[1].processor is pairs[1].target.processor
    assert pairs[1].draft.fc.weight.dtype == pairs[1].target.embed_tokens.weight.dtype == torch.float32
    assert vlm_eagle.load_pair("demo", llm_only=True).target.model.model.visual is None


def test_batches_and_streams_say_what_they_take(pairs):
    with pytest.raises(UserError, match="batch_size must be"):
        vlm_eagle.generate(pairs[0], "?", batch_size=0)
    with pytest.raises(UserError, match="Use generate for several"):
        next(vlm_eagle.stream(pairs[0], ["a", "b"]))


@pytest.mark.slow
def test_train_trains(data, tmp_path):
    config = vlm_eagle.TrainConfig(
        target=str(data / "target"), out=str(tmp_path / "out"), max_steps=1, batch_size=2,
        data=vlm_eagle.DataConfig(train=[str(data / "train.jsonl")], eval=[str(data / "held_out.jsonl")], num_workers=0),
        draft=vlm_eagle.DraftConfig(ttt_length=2, vocab_size=400),
    )  # fmt: skip
    result = vlm_eagle.train(config, quiet=True)
    assert result.finished
    assert result.acceptance_length is None or result.acceptance_length >= 1
    assert (Path(result.out) / "run.json").is_file()
    assert vlm_eagle.load_pair(data / "target", result.draft).draft is not None
