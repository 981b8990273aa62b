"""What the draft reads at image tokens in decoding is what it read in training."""

import torch
from conftest import make_draft

from vlm_eagle.data.collator import VisionCollator
from vlm_eagle.decoding.generate import Settings, generate
from vlm_eagle.decoding.sampling import Sampler, Sampling
from vlm_eagle.decoding.speculative import SpeculativeDecoder
from vlm_eagle.decoding.tree import TreeShape
from vlm_eagle.demo import mix
from vlm_eagle.training.inputs import DraftInputs, visual_samples_of
from vlm_eagle.training.ttt_dense import TTTAttention


def first_hidden(target, draft, features, root, visual_samples):
    """The last prompt row's output, computed with the training's own parts."""
    embedding = DraftInputs(features, target.embed_tokens, visual_samples)
    length = features.input_ids.shape[1]
    flat = embedding.embedding(torch.arange(1, length))
    inputs = torch.cat([flat, target.embed_tokens(root)])[None]
    return draft.step(draft.fuse(features.aux_hidden), inputs, torch.arange(length)[None], TTTAttention())[:, -1:]


def test_decoding_reads_what_training_read(target):
    draft = make_draft(target)
    prompt = VisionCollator(target.processor, for_generation=True)([mix.sample("multi-image", 2)])
    features = target.features(prompt, visual=True)
    outputs = []
    for how in ("token", "visual_embeds"):
        decoder = SpeculativeDecoder(target, draft, TreeShape(4), Sampler(Sampling()), image_inputs=how)
        root = decoder.prefill(prompt, 8, [0])
        visual_samples = visual_samples_of(how, prompt.ids, "")
        expected = first_hidden(target, draft, features, root, visual_samples)
        torch.testing.assert_close(decoder.state.hidden, expected, rtol=1e-4, atol=1e-4)
        outputs.append(expected)
    assert not torch.allclose(*outputs, rtol=1e-2, atol=1e-2)


def test_answers_do_not_depend_on_it(target):
    draft = make_draft(target)
    prompts = VisionCollator(target.processor, for_generation=True)([mix.sample("describe", 2), mix.sample("arithmetic", 1)])
    answers = [
        [a.tokens for a in generate(target, prompts, draft, Settings(max_new_tokens=12, image_inputs=how))]
        for how in ("token", "visual_embeds")
    ]
    assert answers[0] == answers[1]


def test_mixed_is_a_fair_coin_of_sample_and_turn():
    names = [f"sample-{i}" for i in range(2000)]
    first, again, later = (visual_samples_of("mixed", names, turn) for turn in ("0 0", "0 0", "0 1"))
    assert torch.equal(first, again)
    assert abs(float(first.float().mean()) - 0.5) < 0.05
    assert abs(float((first == later).float().mean()) - 0.5) < 0.05
    assert visual_samples_of("token", names, "0 0") is None
    assert visual_samples_of("visual_embeds", names, "0 0").all()
