"""A ragged batch, several turns, stop strings: each is what decoding the prompt alone and anew gives."""

import pytest
import torch
from conftest import make_draft
from torch.fx.experimental.proxy_tensor import make_fx

from vlm_eagle.data.collator import VisionCollator
from vlm_eagle.decoding.generate import Generation, Settings, build_decoder, generate, stream_with
from vlm_eagle.decoding.graphs import RecordedCycles
from vlm_eagle.decoding.sampling import Sampler, Sampling
from vlm_eagle.decoding.speculative import SpeculativeDecoder
from vlm_eagle.decoding.tree import TreeShape
from vlm_eagle.demo import mix

TASKS = ("describe", "arithmetic", "multi-image", "code")
SHAPES = [TreeShape(1), TreeShape(5), TreeShape(8, 3, 3), TreeShape.fixed([(0,), (1,), (0, 0), (0, 0, 0), (1, 0)])]


@pytest.fixture(scope="module")
def prompts(target):
    collate = VisionCollator(target.processor, for_generation=True)
    samples = [mix.sample(task, 3) for task in TASKS]
    return collate(samples), [collate([sample]) for sample in samples]


@pytest.mark.slow
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_batch_equals_each_prompt_alone(target, draft, prompts, shape):
    together, alone = prompts
    answers = generate(target, together, draft, Settings(shape=shape, max_new_tokens=14))
    for answer, prompt in zip(answers, alone, strict=True):
        (expected,) = generate(target, prompt, draft, Settings(shape=shape, max_new_tokens=14))
        assert answer == expected
        assert answer.tokens == generate(target, prompt, settings=Settings(max_new_tokens=14))[0].tokens


def test_a_ragged_batch_without_a_draft_is_what_transformers_writes(target, prompts):
    together, alone = prompts
    answers = generate(target, together, settings=Settings(max_new_tokens=14))
    for answer, prompt in zip(answers, alone, strict=True):
        inputs = {"input_ids": prompt.input_ids, "attention_mask": prompt.attention_mask, **prompt.vision_inputs}
        whole = target.model.generate(**inputs, max_new_tokens=14, do_sample=False)[0].tolist()
        assert answer.tokens == whole[prompt.input_ids.shape[1] :]


@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, {"sampled_drafts": True}], ids=["argmax drafts", "drawn drafts"])
def test_sampling_does_not_depend_on_the_batch(target, draft, prompts, options):
    together, alone = prompts
    options |= {"sampling": Sampling(temperature=0.9, top_p=0.9), "max_new_tokens": 10}
    answers = generate(target, together, draft, Settings(seed=5, **options))
    for row, (answer, prompt) in enumerate(zip(answers, alone, strict=True)):
        assert answer.tokens == generate(target, prompt, draft, Settings(seed=5 + row, **options))[0].tokens


@pytest.mark.slow
def test_rows_that_end_early_stay_as_they_are(target, draft, prompts):
    together, alone = prompts
    plain = [generate(target, prompt, settings=Settings(max_new_tokens=20))[0].tokens for prompt in alone]
    end = plain[1][3]
    target.model.generation_config.eos_token_id = [end]
    try:
        answers = generate(target, together, draft, Settings(shape=TreeShape(8, 3, 3), max_new_tokens=20))
    finally:
        target.model.generation_config.eos_token_id = target.config.eos_token_id
    expected = [tokens[: tokens.index(end) + 1] if end in tokens else tokens for tokens in plain]
    assert [answer.tokens for answer in answers] == expected
    assert len({len(tokens) for tokens in expected}) > 1


def test_drafted_tokens_are_marked(target, draft, prompts):
    (answer,) = generate(target, prompts[1][0], draft, Settings(shape=TreeShape(5), max_new_tokens=20))
    assert len(answer.drafted) == len(answer.tokens)
    assert sum(answer.drafted) == sum(answer.stats.accepted_at)
    assert not answer.drafted[0]


def test_stop_strings_end_at_the_completing_token(target, draft, prompts):
    prompt = prompts[1][0]
    plain = generate(target, prompt, settings=Settings(max_new_tokens=20))[0].tokens
    pieces = [target.tokenizer.decode(plain[: i + 1]) for i in range(20)]
    stop = pieces[9][-4:]  # reaches over token borders
    first = next(i for i, text in enumerate(pieces) if stop in text)
    for shape in (TreeShape(2), TreeShape(8, 3, 3)):
        (answer,) = generate(target, prompt, draft, Settings(shape=shape, max_new_tokens=20, stop_strings=["never", stop]))
        assert answer.tokens == plain[: first + 1]


@pytest.mark.slow
@pytest.mark.parametrize("shape", [None, TreeShape(4), TreeShape(8, 3, 3)], ids=str)
@pytest.mark.parametrize("task", ["multi-image", "arithmetic"])
def test_turns_share_caches_and_change_nothing(target, task, shape):
    """Three turns with one decoder equal three fresh decodings; images are read once. (A random target's answer is no text that
    tokenises back to the same ids, so the answer itself may be read again.)"""
    draft = make_draft(target) if shape else None
    decoder = build_decoder(target, draft, Settings(shape=shape or TreeShape(1)))
    collate = VisionCollator(target.processor, for_generation=True)
    settings = Settings(shape=decoder.shape, max_new_tokens=9)
    looked = []
    hook = target.model.model.visual.register_forward_pre_hook(lambda *_: looked.append(1))
    read = []  # tokens of every forward
    embed = target.decoder.rotary_emb.register_forward_pre_hook(lambda _, args: read.append(args[0].shape[1]))
    try:
        conversation, earlier = mix.sample(task, 4).prompt(), 0
        for turn in range(3):
            prompt = collate([conversation])
            out = [Generation()]
            read.clear()
            for _ in stream_with(decoder, prompt, settings, out):
                pass
            first_read, seen = read[0], len(looked)
            (expected,) = generate(target, prompt, draft, Settings(shape=settings.shape, max_new_tokens=9))
            del looked[seen:]
            assert out[0].tokens == expected.tokens
            if turn:
                assert first_read <= prompt.input_ids.shape[1] - earlier + 1, "the last turn's prompt was read again"
            earlier = prompt.input_ids.shape[1]
            text = target.tokenizer.decode(out[0].tokens, skip_special_tokens=True)
            conversation = conversation.answered(text).asked(f"And number {turn}?")
        assert len(looked) == (task == "multi-image"), "an image was read again"
    finally:
        hook.remove()
        embed.remove()


def test_caches_are_allocated_once(target, draft, prompts):
    """No tensor of the caches is replaced while an answer grows."""
    decoder = SpeculativeDecoder(target, draft, TreeShape(8, 3, 3), Sampler(Sampling()))
    steps = stream_with(decoder, prompts[1][0], Settings(shape=decoder.shape, max_new_tokens=40))
    next(steps)
    before = [layer.keys.data_ptr() for layer in decoder.cache.layers] + [decoder.drafter.cache.layers[0].keys.data_ptr()]
    for _ in steps:
        pass
    after = [layer.keys.data_ptr() for layer in decoder.cache.layers] + [decoder.drafter.cache.layers[0].keys.data_ptr()]
    assert before == after


def test_one_host_read_per_cycle(target, draft, prompts):
    """Between two reads of the result nothing on the device is looked at by the host."""
    from torch.utils._python_dispatch import TorchDispatchMode

    class CountReads(TorchDispatchMode):
        reads = 0

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            name = func.overloadpacket.__name__
            self.reads += name in ("_local_scalar_dense", "nonzero", "masked_select", "equal")
            return func(*args, **(kwargs or {}))

    for shape in SHAPES[1:]:
        decoder = SpeculativeDecoder(target, draft, shape, Sampler(Sampling()))
        decoder.prefill(prompts[0], 20, [0] * 4)
        with CountReads() as counter:
            for _ in range(3):
                result = decoder.cycle(torch.ones(4, dtype=torch.bool))
                decoder.on_commit([[0] * (shape.num_steps + 1)] * 4)  # as if the host had read the most there can be
        assert counter.reads == 0, shape
        assert result.counts.shape == (4,)


def fx_recording(action, reset):
    """Stands in for a CUDA graph: the operations of one cycle as a list without Python around it, bound to the same tensors."""
    traced = make_fx(lambda: (action(), torch.zeros(()))[1])()
    reset()
    return lambda: traced()


@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, {"sampled_drafts": True}], ids=["argmax drafts", "drawn drafts"])
@pytest.mark.parametrize("shape", SHAPES[1:], ids=str)
def test_a_recorded_cycle_can_be_replayed(target, draft, prompts, shape, options):
    """Whatever a cycle does it does to the same tensors and without Python values that change between cycles, over several
    prompts and buckets. (Recording as a CUDA graph demands the same.)"""
    if options and not shape.is_chain:
        pytest.skip("drawn drafts are for chains")
    sampling = Sampling(temperature=0.8) if options else Sampling()
    settings = Settings(shape=shape, sampling=sampling, max_new_tokens=12, seed=3, **options)
    plain, replayed = (SpeculativeDecoder(target, draft, shape, Sampler(sampling), **options) for _ in range(2))
    replayed.recorded = RecordedCycles(fx_recording)
    short = [prompts[0], VisionCollator(target.processor, for_generation=True)([mix.sample("code", i) for i in range(4)])]
    for prompt in (*short, short[0]):
        answers = []
        for decoder in (plain, replayed):
            out = [Generation() for _ in range(4)]
            for _ in stream_with(decoder, prompt, settings, out):
                pass
            answers.append(out)
        assert answers[0] == answers[1]
        for name in ("tokens", "parents", "scores"):  # for those who measure
            ours, theirs = (getattr(decoder.tree, name) for decoder in (plain, replayed))
            torch.testing.assert_close(ours, theirs)
        assert torch.equal(plain.state.path, replayed.state.path)
    assert replayed.recorded.usable
    assert replayed.recorded.recordings


def test_a_failed_recording_is_said_and_survived(target, draft, prompts, caplog):
    def fail(action, reset):
        action()
        raise RuntimeError("operation not permitted")

    decoder = SpeculativeDecoder(target, draft, TreeShape(5), Sampler(Sampling()))
    decoder.recorded, out = RecordedCycles(fail), [Generation()]
    for _ in stream_with(decoder, prompts[1][0], Settings(shape=TreeShape(5), max_new_tokens=12), out):
        pass
    assert [r.getMessage() for r in caplog.records] == [
        "Cycles are not recorded as graphs and run slower: operation not permitted"
    ]
    assert out == generate(target, prompts[1][0], draft, Settings(shape=TreeShape(5), max_new_tokens=12))
