"""Capture, prefill and verify against plain forwards of the same model."""

import pytest
import torch

from vlm_eagle.data.collator import VisionCollator
from vlm_eagle.decoding.tree import DraftTree
from vlm_eagle.demo import mix
from vlm_eagle.errors import UserError
from vlm_eagle.target.cache import keep_path
from vlm_eagle.target.layer_ids import check_layer_ids, default_layer_ids
from vlm_eagle.target.load import load_target


def prompt_of(target, task, seed=1):
    return VisionCollator(target.processor, for_generation=True)([mix.sample(task, seed)])


def plain_layer_inputs(target, batch):
    """The inputs of all layers, by running the decoder layer by layer with DeepStack's additions written out."""
    inner, decoder = target.model.model, target.decoder
    embeds = decoder.embed_tokens(batch.input_ids)
    visual = None
    if "pixel_values" in batch.pixels:
        output = inner.get_image_features(batch.pixels["pixel_values"], batch.pixels["image_grid_thw"], return_dict=True)
        visual = batch.input_ids == target.model.config.image_token_id
        embeds = embeds.clone()
        embeds[visual] = torch.cat(output.pooler_output)
    positions, _ = target.positions(batch)
    rotary = decoder.rotary_emb(embeds, positions)
    length = embeds.shape[1]
    mask = torch.full((length, length), torch.finfo(embeds.dtype).min).triu(1)[None, None]
    hidden, inputs = embeds, []
    for i, layer in enumerate(decoder.layers):
        inputs.append(hidden)
        hidden = layer(hidden, attention_mask=mask, position_embeddings=rotary)
        if visual is not None and i < len(output.deepstack_features):
            hidden = hidden.clone()
            hidden[visual] += torch.cat(list(output.deepstack_features[i])).view(-1, hidden.shape[-1])
    return inputs, decoder.norm(hidden)


@pytest.mark.parametrize("task", ["describe", "multi-image", "arithmetic"])
def test_captures_layer_inputs_with_deepstack(target, task):
    batch = VisionCollator(target.processor)([mix.sample(task, 1)])
    features = target.features(batch)
    with torch.no_grad():
        inputs, last = plain_layer_inputs(target, batch)
    expected = torch.cat([inputs[i] for i in target.layer_ids], dim=-1)
    torch.testing.assert_close(features.aux_hidden, expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(features.last_hidden, last[batch.supervised], rtol=1e-4, atol=1e-4)


def test_features_do_not_depend_on_the_batch(target, mixed_batch):
    """Right padding, mixed pictures: each row equals the sample read alone."""
    together = target.features(mixed_batch)
    tasks = [("arithmetic", 1), ("describe", 1), ("multi-image", 1), ("vqa", 2), ("chinese", 1)]
    for row, (task, turns) in enumerate(tasks):
        alone = target.features(VisionCollator(target.processor)([mix.sample(task, 7, turns)]))
        length = alone.input_ids.shape[1]
        torch.testing.assert_close(together.aux_hidden[row, :length], alone.aux_hidden[0], rtol=1e-4, atol=1e-4)


def test_no_full_vocabulary_logits_where_nobody_needs_them(target, mixed_batch):
    """The target's lm_head is not run by `features`, and only at the last position by `prefill`."""
    rows = []
    hook = target.model.lm_head.register_forward_hook(lambda _, args, out: rows.append(out.numel() // out.shape[-1]))
    target.features(mixed_batch)
    target.prefill(prompt_of(target, "describe"))
    hook.remove()
    assert rows == [1]


TREE = DraftTree.from_parents([5, 9, 11, 9, 14, 20, 21], [-1, 0, 0, 1, 1, 2, 4])


@pytest.mark.parametrize("kind", ["describe", "arithmetic", "text-only"])
def test_tree_verification_equals_decoding_each_branch(target, text_target, kind):
    """Logits and aux hidden states of every node are those of reading its branch token by token."""
    model = text_target if kind == "text-only" else target
    batch = prompt_of(model, "arithmetic" if kind == "text-only" else kind)
    state = model.prefill(batch)
    logits, aux = model.verify(state.cache, TREE.tokens, TREE.depths, TREE.ancestors, state.rope_delta)
    for node in range(len(TREE)):
        branch = TREE.ancestors[node].nonzero().flatten()
        plain = model.prefill(batch)
        for token in TREE.tokens[branch]:
            one = torch.ones(1, 1, dtype=torch.bool)
            step, step_aux = model.verify(plain.cache, token[None], torch.zeros(1).long(), one, plain.rope_delta)
        torch.testing.assert_close(logits[node], step[0], rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(aux[node], step_aux[0], rtol=1e-4, atol=1e-4)


def test_cache_keeps_an_arbitrary_path(target):
    """After cutting the cache to a branch, decoding goes on as if only that branch had been read."""
    batch, path = prompt_of(target, "describe"), torch.tensor([0, 1, 4, 6])
    state, plain = target.prefill(batch), target.prefill(batch)
    prefix = state.cache.get_seq_length()
    target.verify(state.cache, TREE.tokens, TREE.depths, TREE.ancestors, state.rope_delta)
    keep_path(state.cache, prefix, path)
    chain = DraftTree.from_parents(TREE.tokens[path].tolist(), [-1, 0, 1, 2])
    target.verify(plain.cache, chain.tokens, chain.depths, chain.ancestors, plain.rope_delta)
    assert state.cache.get_seq_length() == plain.cache.get_seq_length() == prefix + 4
    for kept, expected in zip(state.cache.layers, plain.cache.layers, strict=True):
        torch.testing.assert_close(kept.keys, expected.keys, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(kept.values, expected.values, rtol=1e-4, atol=1e-4)


def test_image_prompts_have_a_position_delta(target):
    """An image spans fewer positions than tokens; text has no delta."""
    assert target.prefill(prompt_of(target, "describe")).rope_delta < 0
    assert target.prefill(prompt_of(target, "arithmetic")).rope_delta == 0


@pytest.mark.parametrize(
    ("layers", "deepstack", "expected"),
    [(36, 3, (4, 18, 33)), (28, 3, (4, 14, 25)), (36, 0, (2, 18, 33)), (8, 2, (3, 4, 5)), (48, 3, (4, 24, 45))],
)
def test_default_layer_ids(layers, deepstack, expected):
    assert default_layer_ids(layers, deepstack) == expected


def test_bad_layer_ids_are_refused():
    with pytest.raises(UserError, match="8 layers and 3 DeepStack"):
        default_layer_ids(8, 3)
    for ids in ([1, 2], [3, 2, 5], [2, 2, 5], [2, 3, 8], [-1, 2, 3]):
        with pytest.raises(UserError, match="three ascending"):
            check_layer_ids(ids, 8)


def test_llm_only_never_has_a_vision_tower(processor, target, tmp_path):
    target.model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    blind = load_target(str(tmp_path), dtype=torch.float32, llm_only=True)
    assert blind.model.model.visual is None
    batch = VisionCollator(blind.processor, llm_only=True)([mix.sample("arithmetic", 1)])
    torch.testing.assert_close(blind.features(batch).aux_hidden, target.features(batch).aux_hidden)


def test_unknown_targets_are_refused(tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        load_target(str(tmp_path / "nowhere"))
    (tmp_path / "config.json").write_text('{"model_type": "gpt2"}')
    with pytest.raises(UserError, match="Supported targets: qwen3_vl"):
        load_target(str(tmp_path))
