"""Drafts as others make them, and what they compute by plain formulas.

Sources of the formulas: vLLM 0.32.0, models/llama_eagle3.py (norms, residual) and models/qwen3_eagle3.py with models/qwen3.py
(norms of queries and keys); transformers' Qwen3-VL (interleaved M-RoPE) and Qwen2.5-VL (M-RoPE in blocks).
"""

from dataclasses import replace

import torch
from plain_reference import PlainReference

from vlm_eagle.draft.config import Eagle3Config
from vlm_eagle.draft.model import Eagle3Draft
from vlm_eagle.draft.vocab import DraftVocab

VARIANTS = {
    "plain": {},
    "norm_before_residual": {"norm_before_residual": True},
    "norm_before_fc": {"norm_before_fc": True},
    "EAGLE-3.1": {"fc_norm": True, "norm_output": True},
    "all norms": {"norm_before_residual": True, "norm_before_fc": True, "fc_norm": True, "norm_output": True},
    "qk_norm": {"qk_norm": True},
    "own embeddings": {"has_own_embed_tokens": True},
    "full vocabulary": {"draft_vocab_size": 1280},
    "M-RoPE interleaved": {"mrope_section": (6, 5, 5), "mrope_interleaved": True},
    "M-RoPE in blocks": {"mrope_section": (6, 5, 5)},
    "M-RoPE, qk_norm": {"mrope_section": (4, 6, 6), "mrope_interleaved": True, "qk_norm": True, "has_own_embed_tokens": True},
}


def make_variant(target, seed=0, **options):
    """A random draft with these options whose every weight matters, norms included."""
    config = replace(Eagle3Config.for_target(target.config, target.layer_ids, 400), dtype="float32", **options)
    torch.manual_seed(seed)
    counts = torch.randint(1, 1000, (config.vocab_size,))
    draft = Eagle3Draft(config, DraftVocab.from_counts(counts, config.draft_vocab_size))
    with torch.no_grad():
        for parameter in draft.parameters():
            parameter.mul_(3.0) if parameter.ndim == 2 else parameter.uniform_(0.3, 1.7)
    return draft.eval()


class VariantReference(PlainReference):
    """The plain reference for all variants: cache-free, one row at a time. Reads directories, as its parent does."""

    def __init__(self, target_folder, draft_folder):
        super().__init__(target_folder, draft_folder)
        self.embedding = self.w.get("embed_tokens.weight", self.embedding)
        self.places = None  # (3, T), M-RoPE positions of the prompt

    def see(self, ids, vision_inputs):
        """Remembers where the target's prompt tokens stand."""
        if "image_grid_thw" in vision_inputs:
            grid, types = vision_inputs["image_grid_thw"], vision_inputs["mm_token_type_ids"]
            self.places, delta = self.model.model.get_rope_index(torch.tensor([ids]), types, image_grid_thw=grid)
            self.places, self.delta = self.places[:, 0], int(delta)
        else:
            self.places, self.delta = torch.arange(len(ids)).expand(3, -1), 0

    def rope(self, x, position):
        scaling = self.config.get("rope_scaling")
        if not scaling:
            return super().rope(x, position)
        t, h, w = self.places[:, position] if position < self.places.shape[1] else [position + self.delta] * 3
        section, half = scaling["mrope_section"], self.config["head_dim"] // 2
        where = torch.full((half,), float(t))
        if scaling["mrope_interleaved"]:
            where[1 : 3 * section[1] : 3] = float(h)
            where[2 : 3 * section[2] : 3] = float(w)
        else:
            where[section[0] : section[0] + section[1]] = float(h)
            where[section[0] + section[1] :] = float(w)
        angle = where * self.config["rope_theta"] ** (-torch.arange(half).float() / half)
        a, b = x[..., :half], x[..., half:]
        return torch.cat([a * angle.cos() - b * angle.sin(), b * angle.cos() + a * angle.sin()], dim=-1)

    def fuse(self, aux):
        if self.config["norm_before_fc"]:
            aux = self.norm(aux, "input_norm.weight")
        if self.config["fc_norm"]:
            aux = torch.cat([self.norm(a, f"fc_norm.{i}.weight") for i, a in enumerate(aux.chunk(3))])
        return self.w["fc.weight"] @ aux

    def draft_row(self, hidden, token, position, keys, values):
        c, w, k = self.config, self.w, self.config["head_dim"]
        normed = self.norm(hidden, "midlayer.hidden_norm.weight")
        a = torch.cat([self.norm(self.embedding[token], "midlayer.input_layernorm.weight"), normed])
        q, key, value = ((w[f"midlayer.self_attn.{n}_proj.weight"] @ a).view(-1, k) for n in "qkv")
        if c["architectures"] == ["Eagle3Qwen3ForCausalLM"]:
            q = self.norm(q, "midlayer.self_attn.q_norm.weight")
            key = self.norm(key, "midlayer.self_attn.k_norm.weight")
        keys.append(self.rope(key, position))
        values.append(value)
        groups = len(q) // len(key)
        all_keys, all_values = (torch.stack(rows, 1).repeat_interleave(groups, 0) for rows in (keys, values))
        scores = (all_keys @ self.rope(q, position)[..., None]).squeeze(-1) / k**0.5
        mixed = (scores.softmax(-1)[:, None] @ all_values).flatten()
        x = (normed if c["norm_before_residual"] else hidden) + w["midlayer.self_attn.o_proj.weight"] @ mixed
        n = self.norm(x, "midlayer.post_attention_layernorm.weight")
        gate, up = (w[f"midlayer.mlp.{name}_proj.weight"] @ n for name in ("gate", "up"))
        y = x + w["midlayer.mlp.down_proj.weight"] @ (gate * gate.sigmoid() * up)
        return self.norm(y, "norm.weight") if c["norm_output"] else y

    def logits(self, hidden):
        return self.w["lm_head.weight"] @ (hidden if self.config["norm_output"] else self.norm(hidden, "norm.weight"))

    @torch.no_grad()
    def propose(self, ids, aux, count):
        keys, values, hidden = [], [], None
        for i in range(len(ids) - 1):
            hidden = self.draft_row(self.fuse(aux[i]), ids[i + 1], i, keys, values)
        proposed = []
        for step in range(count):
            best = int(self.logits(hidden).argmax())
            proposed.append(best + int(self.w["d2t"][best]))
            if step < count - 1:
                hidden = self.draft_row(hidden, proposed[-1], len(ids) - 1 + step, keys, values)
        return proposed
