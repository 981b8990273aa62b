"""Others' layouts become ours without a changed weight, and the same file means the same draft."""

from dataclasses import replace

import foreign
import pytest
import torch
from variants import VARIANTS, make_variant

from vlm_eagle.draft import files
from vlm_eagle.draft.model import Eagle3Draft
from vlm_eagle.errors import UserError
from vlm_eagle.interop.layouts.read import read_draft
from vlm_eagle.interop.layouts.speculators import Verifier
from vlm_eagle.interop.layouts.write import write_draft

CASES = [
    (foreign.specforge, {}),
    (foreign.specforge, {"has_own_embed_tokens": True}),
    (foreign.specforge, {"draft_vocab_size": 1280}),
    (foreign.model_optimizer, {}),
    (foreign.angelslim, {"mrope_section": (6, 5, 5), "mrope_interleaved": True}),
    (foreign.angelslim_2_5, {"mrope_section": (6, 5, 5)}),
    (foreign.safeailab, {}),
    (foreign.qwen3_layer, {"qk_norm": True}),
]


def same(found, draft):
    """Config and every tensor, to the bit."""
    expected = foreign.tensors_of(draft)
    assert found.config == draft.config
    assert set(found.tensors) == set(expected)
    for name, tensor in expected.items():
        assert found.tensors[name].dtype == tensor.dtype, name
        assert torch.equal(found.tensors[name], tensor), name


def narrow(target, **options):
    """A draft whose heads fill its width, for layouts that do not write head_dim."""
    draft = make_variant(target, **options)
    config = replace(draft.config, head_dim=16)
    return Eagle3Draft(config, draft_vocab(draft))


def draft_vocab(draft):
    from vlm_eagle.draft.vocab import DraftVocab

    return DraftVocab(draft.d2t, draft.t2d)


@pytest.mark.parametrize(("layout", "options"), CASES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_every_layout_is_read_bit_by_bit(target, tmp_path, layout, options, dtype):
    draft = narrow(target) if layout is foreign.safeailab else make_variant(target, **options)
    if layout is foreign.safeailab:  # its files name no layers, so the engines' default for the target's depth holds
        draft.config = replace(draft.config, aux_layer_ids=(2, 4, 5))
    draft.config = replace(draft.config, dtype=str(dtype).removeprefix("torch."))
    found = read_draft(layout(draft.to(dtype), tmp_path / "theirs"), num_layers=8)
    same(found, draft)
    files.save(tmp_path / "ours", found.config, found.tensors)
    same(read_draft(tmp_path / "ours"), draft)
    again = Eagle3Draft.from_pretrained(tmp_path / "ours")
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in draft.state_dict().items())


@pytest.mark.parametrize("name", VARIANTS)
def test_round_trips_are_bit_exact(target, tmp_path, name):
    """native -> flat -> native for every variant, native -> speculators -> native where that package computes it."""
    draft = make_variant(target, **VARIANTS[name])
    tensors = foreign.tensors_of(draft)
    table = target.embed_tokens.weight.detach()
    for form in ("native", "vllm", "speculators"):
        (tmp_path / form).mkdir()
        refused = form == "speculators" and ("M-RoPE" in name or name == "all norms")
        if refused:
            with pytest.raises(UserError, match="cannot be exported for speculators"):
                write_draft(tmp_path / form, form, draft.config, tensors, Verifier("target", ["X"], table))
            continue
        write_draft(tmp_path / form, form, draft.config, tensors, Verifier("target", ["X"], table))
        same(read_draft(tmp_path / form).with_target_embeddings(table), draft)


@pytest.mark.parametrize(
    "flags",
    [{"norm_before_residual": a, "norm_before_fc": b, "fc_norm": c, "norm_output": d, "qk_norm": q}
     for a in (0, 1) for b in (0, 1) for c in (0, 1) for d in (0, 1) for q in (0, 1) if not (b and c)],
)  # fmt: skip
def test_every_norm_flag_survives_speculators(target, tmp_path, flags):
    draft = make_variant(target, **{name: bool(on) for name, on in flags.items()})
    table = target.embed_tokens.weight.detach()
    write_draft(tmp_path, "speculators", draft.config, foreign.tensors_of(draft), Verifier("target", ["X"], table))
    same(read_draft(tmp_path).with_target_embeddings(table), draft)


def test_rotary_frequencies_in_a_file_tell_the_base(target, tmp_path):
    notes = read_draft(foreign.safeailab(narrow(target), tmp_path), num_layers=8).notes
    assert any("rotary base is 10000" in note for note in notes)
    assert any("the engines' default for 8 layers, [2, 4, 5]" in note for note in notes)


def test_shards(target, tmp_path):
    draft = make_variant(target)
    foreign.shards(foreign.specforge(draft, tmp_path), {})
    same(read_draft(tmp_path), draft)


def test_absolute_unsorted_and_missing_maps(target, tmp_path):
    draft = make_variant(target)
    plain, row = foreign.tensors_of(draft), foreign.row_of(draft, "LlamaForCausalLMEagle3")
    ids = plain["d2t"] + torch.arange(400)
    for change, note in (
        ({"d2t": ids}, "absolute"),
        ({"d2t": ids.int()}, "absolute"),
        ({"t2d": None}, "t2d made from d2t"),
        ({"t2d": None, "d2t": ids}, "absolute"),
        ({"d2t": None}, "d2t made from t2d"),
        ({"d2t": ids.flip(0) - torch.arange(400), "lm_head.weight": plain["lm_head.weight"].flip(0)}, "sorted"),
    ):
        tensors = {name: t for name, t in (plain | change).items() if t is not None}
        found = read_draft(foreign.write(tmp_path, row, tensors))
        same(found, draft)
        assert any(note in line for line in found.notes), (note, found.notes)
    for change in ({"d2t": ids - 1}, {"d2t": None, "t2d": None}, {"t2d": plain["t2d"].roll(1)}, {"d2t": ids.float()}):
        tensors = {name: t for name, t in (plain | change).items() if t is not None}
        with pytest.raises(UserError, match="d2t"):
            read_draft(foreign.write(tmp_path, row, tensors))


def test_mixed_dtypes_lose_nothing(target, tmp_path):
    draft = make_variant(target).bfloat16()
    tensors = foreign.tensors_of(draft) | {"norm.weight": torch.rand(64)}
    found = read_draft(foreign.write(tmp_path, foreign.row_of(draft, "LlamaForCausalLMEagle3"), tensors))
    assert found.config.dtype == "float32"
    assert torch.equal(found.tensors["norm.weight"], tensors["norm.weight"])
    assert torch.equal(found.tensors["fc.weight"].bfloat16(), tensors["fc.weight"])


def test_what_is_assumed_is_said(target, tmp_path):
    draft = make_variant(target)
    row = foreign.row_of(draft, "LlamaForCausalLMEagle3", "rope_theta")
    row["eagle_config"]["eagle_aux_hidden_state_layer_ids"] = [3, 4, 5]
    notes = " ".join(read_draft(foreign.write(tmp_path, row, foreign.tensors_of(draft))).notes)
    assert "rope_theta is not given" in notes
    assert "vLLM reads [3, 4, 5], SGLang reads [4, 5, 6]" in notes


def test_embeddings_of_the_target_are_dropped_others_kept(target, tmp_path):
    table = target.embed_tokens.weight.detach()
    draft = make_variant(target, has_own_embed_tokens=True)
    kept = read_draft(foreign.specforge(draft, tmp_path)).with_target_embeddings(table)
    assert kept.config.has_own_embed_tokens
    with torch.no_grad():
        draft.embed_tokens.weight.copy_(table)
    dropped = read_draft(foreign.specforge(draft, tmp_path)).with_target_embeddings(table)
    assert not dropped.config.has_own_embed_tokens
    assert "embed_tokens.weight" not in dropped.tensors


REFUSED = [
    ({"architectures": ["Eagle3DeepseekV2ForCausalLM"]}, "can be read"),
    ({"num_hidden_layers": 2}, "num_hidden_layers = 2"),
    ({"attention_bias": True}, "biases"),
    ({"hidden_act": "gelu"}, "hidden_act"),
    ({"rope_scaling": {"rope_type": "llama3", "factor": 8.0}}, "scales RoPE"),
    ({"layer_types": ["sliding_attention"]}, "decodes only full_attention"),
    ({"eagle_config": {"use_aux_hidden_state": False}}, "EAGLE-1"),
    ({"eagle_config": None, "eagle_aux_hidden_state_layer_ids": None}, "Give the target"),
    ({"eagle_aux_hidden_state_layer_ids": [1, 2, 3, 4]}, "three whole numbers"),
    ({"speculators_model_type": "dflash"}, "only eagle3"),
    ({"hidden_size": 10**12}, "hidden_size must be a whole number"),
    ({"vocab_size": "many"}, "vocab_size must be a whole number"),
    ({"fc_norm": True}, "missing"),
]


@pytest.mark.parametrize(("change", "said"), REFUSED)
def test_what_we_could_not_decode_is_refused_with_the_reason(target, tmp_path, change, said):
    draft = make_variant(target)
    row = {**foreign.row_of(draft, "LlamaForCausalLMEagle3"), **change}
    with pytest.raises(UserError, match=said):
        read_draft(foreign.write(tmp_path, row, foreign.tensors_of(draft)))
