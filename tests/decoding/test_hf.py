"""`generate(custom_generate=...)` returns what `generate` returns."""

import pytest
import torch
from conftest import make_draft

from vlm_eagle.data.collator import VisionCollator
from vlm_eagle.decoding import hf
from vlm_eagle.decoding.hf import custom_generate
from vlm_eagle.decoding.sampling import Sampling
from vlm_eagle.decoding.tree import TreeShape
from vlm_eagle.demo import mix
from vlm_eagle.errors import UserError


def left_padded(target, tasks):
    """Prompts as transformers' users have them."""
    collate = VisionCollator(target.processor, for_generation=True)
    batch = collate([mix.sample(task, 2) for task in tasks])
    order = batch.attention_mask.argsort(dim=1, stable=True)
    vision_inputs = dict(batch.vision_inputs)
    if "mm_token_type_ids" in vision_inputs:
        vision_inputs["mm_token_type_ids"] = vision_inputs["mm_token_type_ids"].gather(1, order)
    return {
        "input_ids": batch.input_ids.gather(1, order),
        "attention_mask": batch.attention_mask.gather(1, order),
        **vision_inputs,
    }


@pytest.mark.parametrize("tasks", [("describe",), ("describe", "arithmetic", "multi-image")])
@pytest.mark.parametrize("shape", [None, TreeShape(8, 3, 3)], ids=str)
def test_vision_target(target, draft, tasks, shape):
    inputs = left_padded(target, tasks)
    plain = target.model.generate(**inputs, max_new_tokens=12, do_sample=False)
    ours = target.model.generate(**inputs, max_new_tokens=12, do_sample=False, custom_generate=custom_generate(draft, shape))
    assert torch.equal(ours, plain)


def test_text_target_end_tokens_and_dict(text_target):
    inputs = left_padded(text_target, ("arithmetic", "code"))
    ours = custom_generate(make_draft(text_target))
    options = {"max_new_tokens": 12, "do_sample": False, "return_dict_in_generate": True}
    first = text_target.model.generate(**inputs, **options).sequences
    options["eos_token_id"] = int(first[0, -6])
    plain = text_target.model.generate(**inputs, **options).sequences
    assert torch.equal(text_target.model.generate(**inputs, **options, custom_generate=ours).sequences, plain)
    assert plain.shape[1] < first.shape[1] or (plain != first).any()


def test_ended_rows_are_padded_as_generate_pads_them(text_target, monkeypatch):
    """With its first end token where the configuration names no padding."""
    inputs, ours = left_padded(text_target, ("arithmetic", "code")), custom_generate(make_draft(text_target))
    options = {"max_new_tokens": 12, "do_sample": False}
    end = int(text_target.model.generate(**inputs, **options)[0, -6])
    monkeypatch.setattr(text_target.model.generation_config, "pad_token_id", None)
    options["eos_token_id"] = [end, 3]
    plain = text_target.model.generate(**inputs, **options)
    assert plain[0, -1] == end, "no row was padded"
    assert torch.equal(text_target.model.generate(**inputs, **options, custom_generate=ours), plain)


def test_stop_strings(target, draft):
    inputs, tokenizer = left_padded(target, ("describe",)), target.tokenizer
    plain = target.model.generate(**inputs, max_new_tokens=12, do_sample=False)
    stop = tokenizer.decode(plain[0, -7:-5])
    options = {"max_new_tokens": 12, "do_sample": False}
    ours = custom_generate(draft, stop_strings=[stop], tokenizer=tokenizer)
    cut = target.model.generate(**inputs, **options, custom_generate=ours)
    options |= {"stop_strings": [stop], "tokenizer": tokenizer}
    assert torch.equal(cut, target.model.generate(**inputs, **options))
    assert cut.shape[1] < plain.shape[1]
    assert torch.equal(cut, plain[:, : cut.shape[1]])
    assert stop in tokenizer.decode(cut[0])


def test_sampling_follows_the_global_seed(text_target):
    inputs, ours = left_padded(text_target, ("arithmetic",)), custom_generate(make_draft(text_target), sampled_drafts=True)
    runs = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        runs.append(text_target.model.generate(**inputs, max_new_tokens=10, do_sample=True, top_k=20, custom_generate=ours))
    assert torch.equal(runs[0], runs[1])
    assert not torch.equal(runs[0], runs[2])


SAMPLED = [
    ({}, Sampling(temperature=1.0, top_k=50)),  # transformers' own defaults
    ({"temperature": 0.7, "top_k": 0}, Sampling(temperature=0.7)),
    ({"top_p": 0.9, "top_k": 20, "min_p": 0.05}, Sampling(temperature=1.0, top_p=0.9, top_k=20, min_p=0.05)),
]


@pytest.mark.parametrize(("options", "expected"), SAMPLED)
def test_sampling_parameters_are_those_of_generate(text_target, monkeypatch, options, expected):
    inputs, asked = left_padded(text_target, ("arithmetic",)), []
    monkeypatch.setattr(hf, "stream_with", lambda *given: asked.append(given[2]) or iter(()))
    drawn, ours = (custom_generate(make_draft(text_target), sampled_drafts=drawn) for drawn in (True, False))
    text_target.model.generate(**inputs, max_new_tokens=3, do_sample=True, custom_generate=drawn, **options)
    text_target.model.generate(**inputs, max_new_tokens=3, do_sample=False, custom_generate=ours)
    assert [settings.sampling for settings in asked] == [expected, Sampling()]
    assert asked[0].sampled_drafts


def test_streamer(text_target):
    inputs, put = left_padded(text_target, ("arithmetic",)), []

    class Streamer:
        def put(self, value):
            put.append(value.flatten().tolist())

        def end(self):
            put.append("end")

    ours = text_target.model.generate(
        **inputs,
        max_new_tokens=9,
        do_sample=False,
        custom_generate=custom_generate(make_draft(text_target), streamer=Streamer()),
    )
    assert put[-1] == "end"
    assert [token for piece in put[:-1] for token in piece] == ours[0].tolist()
    with pytest.raises(UserError, match="one prompt at a time"):
        text_target.model.generate(
            **left_padded(text_target, ("arithmetic", "code")),
            max_new_tokens=9,
            custom_generate=custom_generate(make_draft(text_target), streamer=Streamer()),
        )


REFUSED = [
    {"repetition_penalty": 1.2},
    {"num_beams": 2},
    {"num_return_sequences": 2, "do_sample": True},
    {"max_time": 1.0},
    {"output_scores": True, "return_dict_in_generate": True},
    {"output_hidden_states": True, "return_dict_in_generate": True},
]


@pytest.mark.parametrize("option", REFUSED, ids=lambda option: next(iter(option)))
def test_what_cannot_be_exact_is_refused(text_target, option):
    ours = custom_generate(make_draft(text_target))
    with pytest.raises(UserError, match="cannot give what"):
        text_target.model.generate(
            **left_padded(text_target, ("arithmetic",)),
            max_new_tokens=5,
            custom_generate=ours,
            **{"do_sample": False, **option},
        )


def test_the_users_model_is_left_as_it_was(target, draft):
    target.model.requires_grad_(True)
    try:
        target.model.generate(**left_padded(target, ("code",)), max_new_tokens=3, custom_generate=custom_generate(draft))
        assert all(p.requires_grad for p in target.model.parameters())
    finally:
        target.model.requires_grad_(False)
