"""Capture, prefill and verify against plain forwards of the same model."""

from copy import deepcopy
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import LlamaConfig, LlamaForCausalLM

from vlm_eagle.data.collator import VisionCollator
from vlm_eagle.decoding.tree import DraftTree
from vlm_eagle.demo import mix
from vlm_eagle.errors import UserError
from vlm_eagle.records import Batch
from vlm_eagle.target.kv_cache import SeqLens, TreeKVCache
from vlm_eagle.target.layer_ids import check_layer_ids, default_layer_ids
from vlm_eagle.target.load import DEMO_TARGET, load_target
from vlm_eagle.target.prefix import common_prefix, image_digests, image_spans
from vlm_eagle.target.target import fingerprint


def prompt_of(target, task, seed=1):
    return VisionCollator(target.processor, for_generation=True)([mix.sample(task, seed)])


def plain_layer_inputs(target, batch):
    """The inputs of all layers, by running the decoder layer by layer with DeepStack's additions written out."""
    inner, decoder = target.model.model, target.decoder
    embeds = decoder.embed_tokens(batch.input_ids)
    visual = None
    if "pixel_values" in batch.vision_inputs:
        output = inner.get_image_features(
            batch.vision_inputs["pixel_values"], batch.vision_inputs["image_grid_thw"], return_dict=True
        )
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
    torch.testing.assert_close(features.last_hidden, last[batch.loss_mask], rtol=1e-4, atol=1e-4)


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


TREE = DraftTree.from_parents(torch.tensor([[5, 9, 11, 9, 14, 20, 21]]), torch.tensor([[-1, 0, 0, 1, 1, 2, 4]]), 3)


def prefilled(model, batch, room=16):
    """A prompt in a cache with room for more."""
    return model.prefill(batch, TreeKVCache(model.config.num_hidden_layers, batch.input_ids.shape[1] + room))


def read_branch(model, state, tokens):
    """Reads tokens one by one; the last one's logits and aux hidden states."""
    one = torch.ones(1, 1, 1, dtype=torch.bool)
    for i, token in enumerate(tokens):
        seqs = SeqLens(state.lengths + i, state.rope_delta, int(state.lengths) + i)
        step = model.verify(state.cache, token.view(1, 1), torch.zeros(1, 1).long(), one, seqs)
    return step[0][0, 0], step[1][0, 0]


def verify_tree(model, state, tree):
    return model.verify(state.cache, tree.tokens, tree.depths, tree.ancestors, state.seq_lens)


@pytest.mark.parametrize("kind", ["describe", "arithmetic", "text-only"])
def test_tree_verification_equals_decoding_each_branch(target, text_target, kind):
    """Logits and aux hidden states of every node are those of reading its branch token by token."""
    model = text_target if kind == "text-only" else target
    batch = prompt_of(model, "arithmetic" if kind == "text-only" else kind)
    logits, aux = verify_tree(model, prefilled(model, batch), TREE)
    for node in range(len(TREE)):
        branch = TREE.ancestors[0, node].nonzero().flatten()
        step, step_aux = read_branch(model, prefilled(model, batch), TREE.tokens[0, branch])
        torch.testing.assert_close(logits[0, node], step, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(aux[0, node], step_aux, rtol=1e-4, atol=1e-4)


def test_ragged_batch_equals_each_prompt_alone(target):
    """Prompts of different length and kind, prefill and tree, whatever lies stale in the cache."""
    collate = VisionCollator(target.processor, for_generation=True)
    samples = [mix.sample(task, 2) for task in ("describe", "arithmetic", "multi-image")]
    batch = collate(samples)
    state = prefilled(target, batch)
    for layer in state.cache.layers:
        for b, length in enumerate(state.lengths.tolist()):
            layer.keys[b, :, length:], layer.values[b, :, length:] = 1e3, -1e3
    tree = DraftTree(*(t.expand(3, *t.shape[1:]) for t in (TREE.tokens, TREE.parents, TREE.depths, TREE.ancestors)), 3)
    logits, aux = verify_tree(target, state, tree)
    for b, sample in enumerate(samples):
        alone = prefilled(target, collate([sample]))
        torch.testing.assert_close(state.logits[b], alone.logits[0], rtol=1e-4, atol=1e-4)
        assert (int(state.lengths[b]), int(state.rope_delta[b])) == (int(alone.lengths), int(alone.rope_delta))
        expected = verify_tree(target, alone, TREE)
        torch.testing.assert_close(logits[b], expected[0][0], rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(aux[b], expected[1][0], rtol=1e-4, atol=1e-4)


def test_cache_keeps_an_arbitrary_path(target):
    """After keeping a branch, decoding goes on as if only that branch had been read."""
    batch, path = prompt_of(target, "describe"), torch.tensor([[0, 1, 4, 6]])
    state, plain = prefilled(target, batch), prefilled(target, batch)
    verify_tree(target, state, TREE)
    state.cache.compact(state.lengths, path)
    chain = DraftTree.from_parents(TREE.tokens[:, path[0]], torch.tensor([[-1, 0, 1, 2]]), 3)
    verify_tree(target, plain, chain)
    end = int(state.lengths) + 4
    for kept, expected in zip(state.cache.layers, plain.cache.layers, strict=True):
        torch.testing.assert_close(kept.keys[:, :, :end], expected.keys[:, :, :end], rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(kept.values[:, :, :end], expected.values[:, :, :end], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("task", ["multi-image", "arithmetic"])
def test_reading_on_equals_reading_at_once(target, task):
    """A prompt whose beginning lies in the cache: same logits and aux hidden states, at any cut outside an image."""
    batch = prompt_of(target, task)
    whole = prefilled(target, batch)
    spans = image_spans(batch, target.model.config)
    cuts = [3, batch.input_ids.shape[1] - 1] + [end + 1 for _, end in spans[:1]] + [first for first, _ in spans[1:]]
    for cut in cuts:
        state = target.prefill(batch, prefilled(target, batch).cache, cut)
        torch.testing.assert_close(state.logits, whole.logits, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(state.aux_hidden, whole.aux_hidden[:, cut:], rtol=1e-4, atol=1e-4)


def test_common_prefix_looks_at_pictures(target):
    """Two images of one size have equal tokens; only their pixels tell them apart."""
    config = target.model.config
    batch = prompt_of(target, "describe")
    ids, digests = batch.input_ids[0].tolist(), image_digests(batch)
    ((first, end),) = image_spans(batch, config)
    assert common_prefix(batch, config, ids, digests) == len(ids)
    assert common_prefix(batch, config, ids, ["another"]) == first
    assert common_prefix(batch, config, ids[: end - 1], digests) == first
    assert common_prefix(batch, config, [*ids[: end + 2], 0], digests) == end + 2
    assert common_prefix(batch, config, [0], digests) == 0


def test_a_video_is_read_again(target):
    """Its frames lie in several blocks; the tokens between them tell nothing of what is shown."""
    batch = prompt_of(target, "describe")
    video = replace(batch, vision_inputs={**batch.vision_inputs, "video_grid_thw": batch.vision_inputs["image_grid_thw"]})
    assert common_prefix(video, target.model.config, batch.input_ids[0].tolist(), image_digests(batch)) == 0


def test_images_and_video_frames_are_visual(target):
    config = target.model.config
    ids = torch.tensor([[500, config.image_token_id, 501, config.video_token_id]])
    batch = Batch(ids, torch.ones_like(ids), ids > 0, {"pixel_values": torch.zeros(1)})
    assert target.visual_mask(batch).tolist() == [[False, True, False, True]]
    assert target.visual_mask(replace(batch, vision_inputs={})) is None


def test_a_fingerprint_is_of_both_tables_and_the_sizes(text_target):
    config, table = text_target.config, text_target.embed_tokens.weight
    deeper = deepcopy(config)
    deeper.num_hidden_layers += 1
    others = [(config, table, table), (config, table + 1, table), (config, table, table + 1), (deeper, table, table)]
    assert len({fingerprint(*other) for other in others}) == 4
    assert text_target.fingerprint == fingerprint(*others[0])


def test_end_tokens_come_from_the_tokenizer_where_the_model_names_none(text_target, monkeypatch):
    monkeypatch.setattr(text_target.model.generation_config, "eos_token_id", None)
    assert text_target.eos_ids == {text_target.tokenizer.eos_token_id}
    monkeypatch.setattr(text_target.model.generation_config, "eos_token_id", [3, 4])
    assert text_target.eos_ids == {3, 4}


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
    (tmp_path / "config.json").write_text('{"model_type": "clip"}')
    with pytest.raises(UserError, match=r"is a 'clip' model. Supported: qwen3_vl, .*text models of the Llama layout"):
        load_target(str(tmp_path))
    (tmp_path / "config.json").write_text('{"model_type": "mistral", "sliding_window": 4096}')
    with pytest.raises(UserError, match="sliding_attention"):
        load_target(str(tmp_path))


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        ("missing", r"lacks the tensor model\.layers\.2\.mlp\.down_proj\.weight and 1 more"),
        ("truncated", "Cannot load the target's weights"),
        ("pointer", "Cannot load the target's weights"),
        ("shape", "Cannot load the target's weights"),
        ("no template", "has no chat template"),
    ],
)
def test_damaged_checkpoints_are_refused_before_anything_is_spent(tmp_path, damage, said):
    """transformers fills what is missing with random numbers, and a draft would be trained for them."""
    sizes = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 8, "num_attention_heads": 4, "vocab_size": 1280}
    LlamaForCausalLM(LlamaConfig(**sizes)).save_pretrained(tmp_path)
    for file in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        (tmp_path / file).write_bytes((DEMO_TARGET / file).read_bytes())
    assert load_target(str(tmp_path)).config.num_hidden_layers == 8
    weights = tmp_path / "model.safetensors"
    if damage in ("missing", "shape"):
        tensors = load_file(weights)
        for name in ("model.layers.2.mlp.down_proj.weight", "model.layers.3.mlp.down_proj.weight"):
            tensors[name] = torch.zeros(3, 3)
            if damage == "missing":
                del tensors[name]
        save_file(tensors, weights, metadata={"format": "pt"})
    elif damage == "truncated":
        weights.write_bytes(weights.read_bytes()[:-1000])
    elif damage == "pointer":
        weights.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    else:
        (tmp_path / "chat_template.jinja").unlink()
    with pytest.raises(UserError, match=said) as caught:
        VisionCollator(load_target(str(tmp_path)).processor)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 260 + len(str(tmp_path))
