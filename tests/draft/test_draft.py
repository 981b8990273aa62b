"""The head against transformers' own Llama modules, its vocabulary maps, and its files."""

import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from copy import deepcopy

import pytest
import torch
from conftest import make_draft
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaDecoderLayer, LlamaRotaryEmbedding
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VLRotaryEmbedding
from transformers.models.qwen3_vl.modeling_qwen3_vl import Qwen3VLTextRotaryEmbedding
from variants import VARIANTS, make_variant
from waiting import LIMIT

from vlm_eagle.draft.config import Eagle3Config
from vlm_eagle.draft.files import expected_shapes
from vlm_eagle.draft.model import Eagle3Draft
from vlm_eagle.draft.norm import RMSNorm
from vlm_eagle.draft.rotary import mrope_coordinate, rotary_cos_sin
from vlm_eagle.draft.vocab import DraftVocab
from vlm_eagle.errors import UserError


def llama_config(config):
    return LlamaConfig(
        hidden_size=config.hidden_size, intermediate_size=config.intermediate_size, head_dim=config.head_dim,
        num_attention_heads=config.num_attention_heads, num_key_value_heads=config.num_key_value_heads,
        rms_norm_eps=config.rms_norm_eps, max_position_embeddings=config.max_position_embeddings,
        rope_parameters={"rope_type": "default", "rope_theta": config.rope_theta},
    )  # fmt: skip


def causal(q, k, v):
    return torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)


def test_layer_equals_llamas_around_its_wider_input(draft):
    """Llama's attention on [norm(embedding), norm(hidden)] and Llama's MLP, with the residual from the hidden state."""
    config = draft.config
    llama = LlamaDecoderLayer(llama_config(config), 0)
    for name in "qkv":
        width = getattr(llama.self_attn, f"{name}_proj").out_features
        setattr(llama.self_attn, f"{name}_proj", torch.nn.Linear(2 * config.hidden_size, width, bias=False))
    own = draft.midlayer.state_dict()
    llama.load_state_dict({k: v for k, v in own.items() if k != "hidden_norm.weight"})
    torch.manual_seed(0)
    hidden, embedding = torch.randn(2, 9, config.hidden_size), torch.randn(2, 9, config.hidden_size)
    positions = torch.arange(9).expand(2, -1)
    rotary = LlamaRotaryEmbedding(llama_config(config))(hidden, positions)
    a = torch.cat([llama.input_layernorm(embedding), draft.midlayer.hidden_norm(hidden)], dim=-1)
    mask = torch.full((9, 9), torch.finfo(torch.float32).min).triu(1)[None, None]
    x = hidden + llama.self_attn(a, position_embeddings=rotary, attention_mask=mask)[0]
    expected = x + llama.mlp(llama.post_attention_layernorm(x))
    torch.testing.assert_close(draft.step(hidden, embedding, positions, causal), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("theta", [10_000.0, 5_000_000.0])
def test_rotary_equals_transformers_far_out(draft, theta):
    """Also at positions where bfloat16 frequencies would be wrong by whole turns."""
    config = llama_config(draft.config)
    config.rope_parameters["rope_theta"] = theta
    positions = torch.tensor([[0, 1, 511, 2047, 30_000]])
    cos, sin = LlamaRotaryEmbedding(config)(torch.zeros(1), positions)
    ours = rotary_cos_sin(positions, config.head_dim, theta)
    torch.testing.assert_close(ours[0], cos, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(ours[1], sin, rtol=1e-4, atol=1e-4)
    assert ours[0].dtype == torch.float32


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_norm_is_that_of_torch(dtype):
    """Values, their dtype, and both gradients; `nn.RMSNorm` is asked in float64."""
    torch.manual_seed(0)
    x, grad = torch.randn(2, 5, 64).to(dtype), torch.randn(2, 5, 64).to(dtype)
    norms, results = (RMSNorm(64, eps=1e-3), nn.RMSNorm(64, eps=1e-3).double()), []
    for norm, kind in zip(norms, (dtype, torch.float64), strict=True):
        norm.weight.data.copy_(torch.linspace(0.5, 1.5, 64))
        given = x.to(kind).requires_grad_()
        made = norm(given)
        results.append((made, *torch.autograd.grad(made, (given, norm.weight), grad.to(kind))))
        assert made.dtype == kind
    for ours, plain in zip(*results, strict=True):
        rtol = 1e-5 if dtype == torch.float32 else 1e-2
        torch.testing.assert_close(ours.double(), plain, rtol=rtol, atol=rtol)
    with torch.no_grad():
        torch.testing.assert_close(norms[0](x), results[0][0])


def test_vocabulary_keeps_the_most_frequent_in_id_order():
    counts = torch.tensor([0, 5, 0, 9, 1, 5, 0])
    vocab = DraftVocab.from_counts(counts, 4)
    assert (vocab.d2t + torch.arange(4)).tolist() == [1, 3, 4, 5]
    assert vocab.t2d.tolist() == [False, True, False, True, True, True, False]
    assert (DraftVocab.from_counts(counts, 6).d2t + torch.arange(6)).tolist() == [0, 1, 2, 3, 4, 5]
    full = DraftVocab.full(7)
    assert torch.equal(full.d2t, torch.zeros(7, dtype=torch.long))


def test_a_vocabulary_of_full_size_costs_a_few_sorts():
    """Three, in milliseconds. One look at every token from Python costs dozens."""
    torch.manual_seed(0)
    counts = torch.randint(0, 1000, (151_936,))
    ratios = []
    for _ in range(9):
        times = [time.perf_counter()]
        for compute in (lambda: DraftVocab.from_counts(counts, 32_000), counts.sort):
            compute()
            times.append(time.perf_counter())
        ratios.append((times[1] - times[0]) / (times[2] - times[1]))
    assert statistics.median(ratios) < 10


def test_absolute_d2t_is_refused():
    vocab = DraftVocab.from_counts(torch.tensor([0, 5, 0, 9, 1, 5, 0]), 4)
    with pytest.raises(UserError, match="offsets, not absolute"):
        DraftVocab(vocab.d2t + torch.arange(4), vocab.t2d).check(4, 7)


def test_round_trip_is_exact_and_complete(draft, tmp_path):
    draft.save_pretrained(tmp_path)
    again = Eagle3Draft.from_pretrained(tmp_path)
    assert {f.name for f in tmp_path.iterdir()} == {"config.json", "model.safetensors"}
    tensors = load_file(tmp_path / "model.safetensors")
    assert set(tensors) == set(expected_shapes(draft.config))
    assert not any("embed" in name for name in tensors)
    for name, value in draft.state_dict().items():
        saved = value.to(torch.bfloat16) if value.is_floating_point() else value
        assert torch.equal(again.state_dict()[name], saved), name
    assert tensors["d2t"].dtype == torch.int64
    assert tensors["t2d"].dtype == torch.bool


def test_config_is_what_the_engines_read(draft, target, tmp_path):
    draft.save_pretrained(tmp_path)
    row = json.loads((tmp_path / "config.json").read_text())
    assert row["architectures"] == ["LlamaForCausalLMEagle3"]
    assert row["tie_word_embeddings"] is False
    assert row["rope_theta"] == target.config.rope_parameters["rope_theta"]
    assert row["eagle_aux_hidden_state_layer_ids"] == [3, 4, 5]
    assert row["eagle_config"] == {"use_aux_hidden_state": True, "eagle_aux_hidden_state_layer_ids": [2, 3, 4]}
    assert (row["vocab_size"], row["draft_vocab_size"], row["head_dim"]) == (1280, 400, 32)
    assert "bias" not in row
    assert row["rope_scaling"] is None
    assert Eagle3Config.from_json(row) == draft.config


def test_full_vocabulary_writes_no_maps(target, tmp_path):
    make_draft(target, draft_vocab_size=target.config.vocab_size).save_pretrained(tmp_path)
    assert not {"d2t", "t2d"} & set(load_file(tmp_path / "model.safetensors"))
    assert torch.equal(Eagle3Draft.from_pretrained(tmp_path).target_ids, torch.arange(target.config.vocab_size))


def break_weights(folder, change):
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors")


def test_broken_drafts_are_refused(draft, tmp_path):
    with pytest.raises(UserError, match=r"no config\.json"):
        Eagle3Draft.from_pretrained(tmp_path)
    (tmp_path / "file").touch()
    for name, wrong in (("file", "file is a file, not a folder"), ("nothing", "nothing does not exist")):
        with pytest.raises(UserError, match=wrong):
            Eagle3Draft.from_pretrained(tmp_path / name)
    draft.save_pretrained(tmp_path)
    break_weights(tmp_path, lambda t: t.update({"midlayer.self_attn.q_norm.weight": torch.ones(4)}))
    with pytest.raises(UserError, match=r"unknown \['midlayer.self_attn.q_norm.weight'\]"):
        Eagle3Draft.from_pretrained(tmp_path)
    break_weights(tmp_path, lambda t: [t.pop("midlayer.self_attn.q_norm.weight"), t.pop("norm.weight")])
    with pytest.raises(UserError, match=r"missing \['norm.weight'\]"):
        Eagle3Draft.from_pretrained(tmp_path)
    draft.save_pretrained(tmp_path)
    break_weights(tmp_path, lambda t: t.update({"d2t": t["d2t"] + torch.arange(len(t["d2t"]))}))
    with pytest.raises(UserError, match="offsets"):
        Eagle3Draft.from_pretrained(tmp_path)
    draft.save_pretrained(tmp_path)
    whole = (tmp_path / "model.safetensors").read_bytes()
    (tmp_path / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match="truncated"):
        Eagle3Draft.from_pretrained(tmp_path)


def test_a_save_that_is_killed_leaves_no_half_draft(draft, tmp_path, monkeypatch):
    """Weights go first: without config.json a folder is no draft."""

    def only_weights(source, goal, move=shutil.move):
        if goal.name == "config.json":
            raise KeyboardInterrupt
        move(source, goal)

    monkeypatch.setattr(shutil, "move", only_weights)
    with pytest.raises(KeyboardInterrupt):
        draft.save_pretrained(tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["model.safetensors"]


REFUSED = [
    ({"architectures": ["X"]}, "run vlm-eagle import"),
    ({"architectures": None}, "run vlm-eagle import"),
    ({"attention_bias": True}, "attention_bias"),
    ({"rope_scaling": {"rope_type": "yarn", "factor": 4.0}}, "scales RoPE"),
    ({"rope_scaling": {"mrope_section": [24, 20, 20]}}, "half of head_dim 32"),
    ({"rope_scaling": {"mrope_section": 3}}, "list of three"),
    ({"rope_scaling": [1]}, "rope_scaling must be an object"),
    ({"hidden_size": "64"}, "hidden_size must be a positive whole number, found '64'"),
    ({"hidden_size": True}, "hidden_size must be a positive whole number"),
    ({"rope_theta": -1.0}, "rope_theta must be a positive number"),
    ({"rope_theta": float("inf")}, "rope_theta must be a positive number"),
    ({"draft_vocab_size": 2000}, "2000 exceeds the target's vocabulary of 1280"),
    ({"num_key_value_heads": 3}, "heads cannot share 3 key-value heads"),
    ({"fc_norm": "no"}, "fc_norm must be true or false"),
    ({"torch_dtype": "load"}, "dtype must be one of"),
    ({"eagle_aux_hidden_state_layer_ids": 3}, "must be a list of numbers"),
    ({"eagle_aux_hidden_state_layer_ids": None, "eagle_config": [2]}, "eagle_config an object"),
    ({"eagle_aux_hidden_state_layer_ids": [1, 2]}, "three whole numbers"),
    ({"vocab_size": None}, "lacks vocab_size"),
]


@pytest.mark.parametrize(("change", "said"), REFUSED)
def test_configs_we_could_not_decode_are_refused(draft, change, said):
    with pytest.raises(UserError, match=said):
        Eagle3Config.from_json(draft.config.to_json() | change)


@pytest.mark.parametrize("name", VARIANTS)
def test_every_option_survives_a_round_trip(target, tmp_path, name):
    draft = make_variant(target, **VARIANTS[name])
    draft.save_pretrained(tmp_path)
    again = Eagle3Draft.from_pretrained(tmp_path)
    assert again.config == draft.config
    assert all(torch.equal(value, again.state_dict()[key]) for key, value in draft.state_dict().items())


MROPE = [
    (Qwen3VLTextRotaryEmbedding, (6, 5, 5), True),
    (Qwen3VLTextRotaryEmbedding, (24, 20, 20), True),
    (Qwen2_5_VLRotaryEmbedding, (16, 24, 24), False),
]


@pytest.mark.parametrize(("module", "section", "interleaved"), MROPE)
def test_mrope_equals_transformers(target, module, section, interleaved):
    head_dim, positions = 2 * sum(section), torch.randint(0, 5000, (3, 2, 7))
    config = deepcopy(target.config)
    config.head_dim, config.rope_parameters["mrope_section"] = head_dim, list(section)
    config.hidden_size = config.num_attention_heads * head_dim  # which Qwen2.5-VL divides
    theirs = module(config)(torch.zeros(1), positions)
    if theirs[0].ndim == 4:  # older versions put Qwen2.5-VL's three coordinates together later
        parts = [part.split([*section, *section], dim=-1) for part in theirs]
        theirs = tuple(torch.cat([p[i % 3] for i, p in enumerate(part)], dim=-1) for part in parts)
    ours = rotary_cos_sin(positions, head_dim, config.rope_parameters["rope_theta"], mrope_coordinate(section, interleaved))
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def test_another_layout_is_refused_with_the_way_in(draft, tmp_path):
    draft.save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").rename(tmp_path / "pytorch_model.bin")
    with pytest.raises(UserError, match="run vlm-eagle import"):
        Eagle3Draft.from_pretrained(tmp_path)
    (tmp_path / "config.json").write_text('{"speculators_model_type": "eagle3", "architectures": ["Eagle3Speculator"]}')
    (tmp_path / "pytorch_model.bin").rename(tmp_path / "model.safetensors")
    with pytest.raises(UserError, match="run vlm-eagle import"):
        Eagle3Draft.from_pretrained(tmp_path)


OFFLINE = """
import sys
from vlm_eagle.draft.model import Eagle3Draft
from vlm_eagle.errors import UserError
print(Eagle3Draft.from_pretrained("someone/draft").config.hidden_size)
print(Eagle3Draft.from_pretrained("someone/draft", revision="v2").config.hidden_size)
try:
    Eagle3Draft.from_pretrained("someone/else")
except UserError as error:
    print(error)
"""


@pytest.mark.slow
def test_hub_ids_come_from_the_cache_when_offline(draft, tmp_path):
    cached = tmp_path / "hub" / "models--someone--draft"
    for ref, commit in (("main", "a" * 40), ("v2", "b" * 40)):
        draft.save_pretrained(cached / "snapshots" / commit)
        (cached / "refs").mkdir(exist_ok=True)
        (cached / "refs" / ref).write_text(commit)
    environment = {**os.environ, "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        environment.pop(name, None)
    shown = subprocess.run([sys.executable, "-c", OFFLINE], capture_output=True, text=True, timeout=LIMIT, env=environment)
    width = str(draft.config.hidden_size)
    assert shown.stdout.split("\n")[:2] == [width, width], shown.stderr[-2000:]
    assert "No draft at 'someone/else'" in shown.stdout
    assert "HF_HUB_OFFLINE" in shown.stdout
