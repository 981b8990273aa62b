"""Parity: an engine that does what we do agrees, and every kind of difference is seen and decides the exit code."""

import copy
import json

import pytest
from conftest import make_imitating_draft
from fake_engines import Canned, FakeSglang, FakeVllm, serving

from vlm_eagle.cli import run_cli
from vlm_eagle.commands.serve_check import Config, main
from vlm_eagle.data.collator import VisionCollator
from vlm_eagle.data.conversation_rows import read_conversations
from vlm_eagle.decoding.decode_loop import DecodeLoop
from vlm_eagle.decoding.generate import Generation, Settings, build_decoder, generate, stream_with
from vlm_eagle.decoding.stats import AcceptanceStats
from vlm_eagle.decoding.tree import TreeShape
from vlm_eagle.demo import mix
from vlm_eagle.interop.engines.engine import EngineAnswer, EngineShape
from vlm_eagle.interop.engines.parity import Parity, PromptParity, answer_here, compare


class Like:
    """What an engine drafts."""

    def __init__(self, kind, *shape):
        self.kind, self.shape = kind, EngineShape(*shape)


@pytest.fixture(scope="module")
def pair(target, data):
    """The folder with target and data, our draft saved in it, and what we answer to its prompts by number of draft tokens."""
    draft = make_imitating_draft(target)
    draft.save_pretrained(data / "draft")
    collator = VisionCollator(target.processor, for_generation=True)
    answers = {}
    for engine in (Like("vllm", 4, 1, 3), Like("vllm", 2, 1, 1), Like("sglang", 16, 4, 5)):
        for prompt in read_conversations(data / "held_out.jsonl"):
            batch = collator([prompt])
            ours = answer_here(target, draft, batch, engine, 12)
            answers[engine.shape.num_draft_tokens, prompt.messages[0].content[-1].text] = Canned(
                ours.tokens, target.tokenizer.decode(ours.tokens, skip_special_tokens=True), batch.input_ids[0].tolist(),
                ours.stats.forwards, ours.stats.accepted_at,
            )  # fmt: skip
    return data, answers


@pytest.mark.slow
@pytest.mark.parametrize("limit", [5, 6, 7, 8])
def test_accepted_tokens_are_counted_before_the_cut(target, limit):
    """As vLLM does: the same verifications in a longer answer, whose pieces are not cut there, accepted as many."""
    draft = make_imitating_draft(target)
    batch = VisionCollator(target.processor, for_generation=True)([mix.sample("describe", 1)])
    ours = answer_here(target, draft, batch, Like("vllm", 8, 1, 7), limit)
    (cut,) = generate(target, batch, draft, Settings(shape=TreeShape(8), max_new_tokens=limit))
    assert (ours.tokens, ours.stats.forwards) == (cut.tokens, cut.stats.forwards)
    settings = Settings(shape=TreeShape(8), max_new_tokens=60)
    decoder = build_decoder(target, draft, settings)
    pieces = [piece for (piece,) in stream_with(decoder, batch, settings)]
    accepted = [len(piece) - 1 for piece in pieces[1 : 1 + ours.stats.forwards]]
    assert ours.stats.accepted_at == [sum(n > i for n in accepted) for i in range(7)]
    assert answer_here(target, draft, batch, Like("sglang", 8, 1, 7), limit).stats.forwards > 0


def measured(pair, tmp_path, nodes, spoil=lambda canned, body: canned, kind=FakeVllm):
    """(exit code, results) of the script on a fake that answers as we do, unless spoiled."""
    data, answers = pair

    def answer(body):
        text = json.dumps(body, ensure_ascii=False)
        (said,) = [canned for (n, question), canned in answers.items() if n == nodes and question in text]
        return spoil(copy.deepcopy(said), body)

    fake = kind(answer, k=nodes - 1) if kind is FakeVllm else kind(answer)
    with serving(fake):
        out = tmp_path / "parity.json"
        config = Config(
            target=str(data / "target"), draft=str(data / "draft"), server=fake.url, json=str(out), max_new_tokens=12,
            benchmarks=[str(data / "held_out.jsonl")],
        )  # fmt: skip
        code = main(config)
    return code, {group["kind"]: group for group in json.loads(out.read_text())["results"][0]["groups"]}


def is_image(body):
    return "image" in json.dumps(body["messages"])


@pytest.mark.slow
@pytest.mark.parametrize(("nodes", "judged"), [(4, "not judged"), (2, "agrees")])
def test_an_engine_like_ours_agrees(pair, tmp_path, capsys, nodes, judged):
    code, groups = measured(pair, tmp_path, nodes)
    assert code == 0
    assert (groups["text"]["verdict"], groups["images"]["verdict"]) == ("agrees", judged)
    for group in groups.values():
        assert group["identical"] == group["prompts"] > 0
        assert group["drafts"] == group["forwards"] > 0
        assert group["theirs"]["by_position"] == group["ours"]["by_position"]
        assert all(prompt["same_prompt"] for prompt in group["by_prompt"])
    assert "Accepted at position" in capsys.readouterr().out


def test_sglang_trees(pair, tmp_path):
    code, groups = measured(pair, tmp_path, 16, kind=FakeSglang)
    assert (code, groups["text"]["verdict"], groups["images"]["verdict"]) == (0, "agrees", "not judged")


def other_token(canned, body):
    canned.tokens[5] += 1
    return canned


def one_draft_more(canned, body):
    canned.drafts += 1
    return canned


def other_prompt(canned, body):
    canned.prompt_tokens.append(0)
    canned.tokens[-1:] = [3, 4]
    return canned


@pytest.mark.parametrize("spoil", [other_token, one_draft_more, other_prompt])
def test_text_that_differs(pair, tmp_path, capsys, spoil):
    code, groups = measured(pair, tmp_path, 4, lambda canned, body: canned if is_image(body) else spoil(canned, body))
    assert (code, groups["text"]["verdict"]) == (1, "DIFFERS")
    said = " ".join(capsys.readouterr().out.split())
    assert ("read differently" in said) == (spoil is other_prompt)
    assert ("part after 5 tokens" in said) == (spoil is other_token)


@pytest.mark.parametrize(("nodes", "code"), [(2, 1), (4, 0)])
def test_images_are_judged_at_one_drafted_token(pair, tmp_path, nodes, code):
    assert measured(pair, tmp_path, nodes, lambda c, body: one_draft_more(c, body) if is_image(body) else c)[0] == code


@pytest.mark.parametrize(("kind", "reads"), [("vllm", "token"), ("sglang", "visual_embeds")])
def test_the_draft_reads_at_images_what_that_engine_feeds(target, monkeypatch, kind, reads):
    made = []
    monkeypatch.setattr(DecodeLoop, "on_commit", lambda self, _: made.append(self.image_inputs))
    batch = VisionCollator(target.processor, for_generation=True)([mix.sample("describe", 1)])
    answer_here(target, make_imitating_draft(target), batch, Like(kind, 2, 1, 1), 4)
    assert set(made) == {reads}


def test_what_counts_as_the_same_answer():
    def parting(ours, tokens, text="x y"):
        theirs = EngineAnswer(text, tokens, None, 1, AcceptanceStats())
        return compare("a", [1], Generation(tokens=ours), theirs, "x y ", {2}).parts_at

    assert parting([5, 6, 2], [5, 6]) is None  # engines differ in whether they return the end token
    assert parting([5, 6], [5, 6, 2]) is None
    assert parting([5, 6, 2], [5, 7, 2]) == 1
    assert parting([5, 6], [5, 6, 7]) == 2
    assert parting([5, 6], None) is None  # only text is known
    assert parting([5, 6], None, "x z") == 0


def test_text_is_judged_prompt_by_prompt():
    prompts = [PromptParity("a", True, None, 5, 4), PromptParity("b", True, None, 3, 4)]
    assert Parity("text", EngineShape.chain(3), prompts).verdict == "DIFFERS"
    assert Parity("images", EngineShape.chain(1), prompts).verdict == "agrees"


def test_one_percent():
    def group(drafts, shape):
        return Parity("images", shape, [PromptParity("a", True, None, drafts, 977)])

    assert group(986, EngineShape.chain(1)).verdict == "agrees"
    assert group(987, EngineShape.chain(1)).verdict == "DIFFERS"
    assert group(988, EngineShape.chain(3)).verdict == "not judged"


@pytest.mark.parametrize(
    "options", [[], ["--server", "http://x", "--vllm-python", "python"], ["--vllm-python", "p", "--k", "0"]]
)
def test_what_makes_no_sense_is_said(options, capsys):
    assert run_cli(main, Config, "", argv=options) == 2
    assert "error: " in capsys.readouterr().err
