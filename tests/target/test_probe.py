"""Random models of many families: those that a tree can be verified on are accepted, the others refused with the reason."""

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    CohereConfig,
    Gemma2Config,
    GemmaConfig,
    GPT2Config,
    GraniteConfig,
    LlamaConfig,
    MistralConfig,
    MixtralConfig,
    Olmo2Config,
    Phi3Config,
    Qwen2Config,
    Qwen2MoeConfig,
    Qwen3Config,
)

from vlm_eagle.errors import UserError
from vlm_eagle.target import probe
from vlm_eagle.target import target as target_module
from vlm_eagle.target.target import Target

SIZES = {
    "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 6, "num_attention_heads": 4, "num_key_value_heads": 2,
    "vocab_size": 300, "max_position_embeddings": 512, "pad_token_id": 0,
}  # fmt: skip
EXPERTS = {"moe_intermediate_size": 64, "shared_expert_intermediate_size": 64, "num_experts": 4}
ACCEPTED = [
    (LlamaConfig, {}), (LlamaConfig, {"tie_word_embeddings": True}), (MistralConfig, {"sliding_window": None}),
    (Qwen2Config, {}), (Qwen2MoeConfig, EXPERTS), (MixtralConfig, {"num_local_experts": 4}),
    (GemmaConfig, {"head_dim": 16}), (Phi3Config, {}), (Olmo2Config, {}), (Qwen3Config, {"head_dim": 16}),
]  # fmt: skip
REFUSED = [
    (MistralConfig, {"sliding_window": 8}, "sliding_attention"),
    (Gemma2Config, {"head_dim": 16, "sliding_window": 600}, "sliding_attention"),
    (GraniteConfig, {"logits_scaling": 8.0}, "other logits"),
    (CohereConfig, {"logit_scale": 0.1}, "other logits"),
]


def made(kind: type, **options) -> torch.nn.Module:
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(kind(**{**SIZES, **options}), attn_implementation="sdpa").eval()


def check(kind: type, options: dict) -> Target:
    probe.check_config(kind(**{**SIZES, **options}), "it")
    model = made(kind, **options)
    probe.check_parts(model, "it")
    target = Target(model, None, (1, 2, 3))
    probe.check_decoding(target, "it")
    return target


@pytest.mark.parametrize(("kind", "options"), ACCEPTED, ids=lambda value: getattr(value, "model_type", ""))
def test_accepted(kind, options):
    check(kind, options)


@pytest.mark.parametrize(("kind", "options", "reason"), REFUSED, ids=lambda value: getattr(value, "model_type", ""))
def test_refused(kind, options, reason):
    with pytest.raises(UserError, match=reason):
        check(kind, options)


def test_other_layouts_are_refused_by_their_parts():
    with pytest.raises(UserError, match="GPT2LMHeadModel, which has no embed_tokens, layers, norm in the usual place"):
        probe.check_parts(AutoModelForCausalLM.from_config(GPT2Config(n_layer=2, n_embd=32, n_head=2, vocab_size=300)), "it")


@pytest.mark.parametrize("fault", ["mask", "positions", "head"])
def test_a_target_that_verifies_wrongly_is_noticed(monkeypatch, fault):
    target = Target(made(LlamaConfig), None, (1, 2, 3))
    if fault == "mask":  # siblings see each other
        monkeypatch.setattr(target_module, "additive", lambda seen, dtype: torch.zeros(seen.shape)[:, None])
    elif fault == "positions":  # every node one further
        decode = Target._decode
        monkeypatch.setattr(Target, "_decode", lambda self, e, m, positions, cache: decode(self, e, m, positions + 1, cache))
    else:  # a head that caps or scales what ours does not
        monkeypatch.setattr(Target, "logits", lambda self, hidden: 3 * self.model.lm_head(hidden).float())
    with pytest.raises(UserError, match="than its own forward gives"):
        probe.check_decoding(target, "it")
