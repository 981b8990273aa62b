"""What configurations and files of others leave out, say twice or say oddly: taken as the engines take it, or refused."""

import foreign
import pytest
import torch
from variants import make_variant

from vlm_eagle.errors import UserError
from vlm_eagle.interop.layouts.flat import native_row
from vlm_eagle.interop.layouts.read import read_draft
from vlm_eagle.interop.layouts.speculators import Verifier, from_speculators
from vlm_eagle.interop.layouts.vocabulary import settle_vocabulary
from vlm_eagle.interop.layouts.write import write_draft


def native(target, *drop, **more):
    draft = make_variant(target)
    return native_row(foreign.row_of(draft, "LlamaForCausalLMEagle3", *drop, **more), foreign.tensors_of(draft), None, [])


def test_sizes(target):
    assert native(target, "max_position_embeddings")["max_position_embeddings"] == 2048
    assert native(target, "num_key_value_heads")["num_key_value_heads"] == 4
    assert native(target, "head_dim")["head_dim"] == 64 // 4
    assert native(target, "draft_vocab_size")["draft_vocab_size"] == 400
    assert native(target, "rms_norm_eps")["rms_norm_eps"] == 1e-6


@pytest.mark.parametrize("place", ["rope_parameters", "rope_scaling"])
def test_a_rotary_base_in_another_place(target, place):
    assert native(target, "rope_theta", **{place: {"rope_theta": 5000.0}})["rope_theta"] == 5000.0


def test_a_norm_that_only_the_nested_object_names(target):
    nested = {"norm_before_fc": True, "eagle_aux_hidden_state_layer_ids": [2, 3, 4]}
    assert native(target, eagle_config=nested, norm_before_fc=False)["norm_before_fc"]


def test_speculators_without_a_residual_norm():
    row, notes = {"speculators_model_type": "eagle3", "transformer_layer_config": {"hidden_size": 8}}, []
    assert from_speculators(row, notes)["norm_before_residual"] is True
    assert "taken as true, as vLLM does" in notes[0]
    assert from_speculators(row | {"norm_before_residual": False}, [])["norm_before_residual"] is False


def test_a_tied_head_is_written_out(target, tmp_path):
    draft = make_variant(target, draft_vocab_size=1280, has_own_embed_tokens=True)
    tensors = foreign.tensors_of(draft)
    del tensors["lm_head.weight"]
    row = foreign.row_of(draft, "LlamaForCausalLMEagle3", tie_word_embeddings=True)
    found = read_draft(foreign.write(tmp_path, row, tensors))
    assert torch.equal(found.tensors["lm_head.weight"], tensors["embed_tokens.weight"])


def test_two_names_for_one_tensor(target, tmp_path):
    draft = make_variant(target)
    tensors = foreign.tensors_of(draft) | {"model.norm.weight": torch.ones(64)}
    with pytest.raises(UserError, match=r"two tensors are called norm\.weight"):
        read_draft(foreign.write(tmp_path, foreign.row_of(draft, "LlamaForCausalLMEagle3"), tensors))


@pytest.mark.parametrize("d2t", [torch.zeros(6, dtype=torch.long), torch.arange(6)])
def test_maps_of_a_full_vocabulary_are_dropped(d2t):
    tensors = {"d2t": d2t}
    assert settle_vocabulary(tensors, 6, 6) == ["d2t and t2d dropped: the vocabulary is the full one"]
    assert tensors == {}


@pytest.mark.parametrize(
    ("maps", "sizes"),
    [
        ({"d2t": torch.arange(6).flip(0)}, (6, 6)),  # another order
        ({"d2t": torch.tensor([7, 7])}, (2, 6)),  # beyond the vocabulary
        ({"d2t": torch.tensor([5, 5])}, (2, 6)),  # one token twice
        ({"t2d": torch.tensor([1, 2, 0, 0, 0, 0])}, (2, 6)),  # neither yes nor no
        ({"t2d": torch.tensor([True] * 3 + [False] * 3)}, (2, 6)),  # three tokens for two
    ],
)
def test_maps_that_make_no_sense(maps, sizes):
    with pytest.raises(UserError, match=r"(t2d|d2t)"):
        settle_vocabulary(maps | {"lm_head.weight": torch.eye(2)}, *sizes)


def test_one_token_twice_as_offsets_is_two_as_ids():
    tensors = {"d2t": torch.tensor([1, 0]), "lm_head.weight": torch.eye(2)}
    assert "d2t held absolute ids, now offsets" in settle_vocabulary(tensors, 2, 6)
    assert tensors["d2t"].tolist() == [0, 0]
    assert torch.equal(tensors["lm_head.weight"], torch.eye(2).flip(0))


def test_weights_may_be_read_by_those_who_may_read_the_config(target, tmp_path):
    draft = make_variant(target)
    for form in ("native", "speculators"):
        folder = tmp_path / form
        folder.mkdir()
        verifier = Verifier("target", ["X"], target.embed_tokens.weight.detach())
        write_draft(folder, form, draft.config, foreign.tensors_of(draft), verifier)
        assert (folder / "model.safetensors").stat().st_mode == (folder / "config.json").stat().st_mode
