"""An independent, cache-free EAGLE-3 decoder: the slow truth that the decoding loop is checked against.

It reads only the target and draft directories, shares no code with `vlm_eagle`, and computes every step from the formulas in
the documents: the draft is a handful of matrix products, the target is run again over the whole sequence each time.
"""

import json
from pathlib import Path

import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoModelForImageTextToText


class PlainReference:
    """Greedy chain decoding with a draft, counting verification forwards."""

    def __init__(self, target_folder, draft_folder):
        config = json.loads((Path(target_folder) / "config.json").read_text())
        auto = AutoModelForImageTextToText if "vision_config" in config else AutoModelForCausalLM
        self.model = auto.from_pretrained(target_folder, dtype=torch.float32).eval()
        decoder = getattr(self.model.model, "language_model", self.model.model)
        self.layers, self.embedding = decoder.layers, decoder.embed_tokens.weight
        eos = self.model.generation_config.eos_token_id
        self.eos = set(eos if isinstance(eos, list) else [eos])
        self.config = json.loads((Path(draft_folder) / "config.json").read_text())
        self.w = {name: t.float() for name, t in load_file(Path(draft_folder) / "model.safetensors").items()}
        self.w["d2t"] = self.w.get("d2t", torch.zeros(self.config["draft_vocab_size"])).long()  # none: the full vocabulary

    @torch.no_grad()
    def target_forward(self, ids, vision_inputs):
        """Logits (T, V) and aux hidden states (T, 3 D) of a whole sequence."""
        caught, hooks = {}, []
        for i in self.config["eagle_aux_hidden_state_layer_ids"]:
            hooks.append(self.layers[i].register_forward_pre_hook(lambda _, args, i=i: caught.__setitem__(i, args[0][0])))
        if vision_inputs:
            types = torch.zeros_like(vision_inputs["mm_token_type_ids"][0]).new_zeros(len(ids))
            cached_tokens = vision_inputs["mm_token_type_ids"][0]
            types[: len(cached_tokens)] = cached_tokens
            extra = {**vision_inputs, "mm_token_type_ids": types[None]}
        else:
            extra = {}
        self.model.model.rope_deltas = None
        logits = self.model(torch.tensor([ids]), use_cache=False, **extra).logits[0]
        for hook in hooks:
            hook.remove()
        return logits, torch.cat([caught[i] for i in sorted(caught)], dim=-1)

    def norm(self, x, name):
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.config["rms_norm_eps"]) * self.w[name]

    def rope(self, x, position):
        k = self.config["head_dim"]
        angle = position * self.config["rope_theta"] ** (-torch.arange(0, k, 2).float() / k)
        a, b = x[..., : k // 2], x[..., k // 2 :]
        return torch.cat([a * angle.cos() - b * angle.sin(), b * angle.cos() + a * angle.sin()], dim=-1)

    def draft_row(self, hidden, token, position, keys, values):
        """One row of the draft; appends its key and value. Returns the next hidden state (D,)."""
        k = self.config["head_dim"]
        a = torch.cat(
            [
                self.norm(self.embedding[token], "midlayer.input_layernorm.weight"),
                self.norm(hidden, "midlayer.hidden_norm.weight"),
            ]
        )
        q, key, value = ((self.w[f"midlayer.self_attn.{n}_proj.weight"] @ a).view(-1, k) for n in ("q", "k", "v"))
        keys.append(self.rope(key, position))
        values.append(value)
        groups = q.shape[0] // key.shape[0]
        all_keys = torch.stack(keys, 1).repeat_interleave(groups, 0)  # (H, rows, K)
        all_values = torch.stack(values, 1).repeat_interleave(groups, 0)
        scores = (all_keys @ self.rope(q, position)[..., None]).squeeze(-1) / k**0.5
        mixed = (scores.softmax(-1)[:, None] @ all_values).flatten()
        x = hidden + self.w["midlayer.self_attn.o_proj.weight"] @ mixed
        n = self.norm(x, "midlayer.post_attention_layernorm.weight")
        gate = self.w["midlayer.mlp.gate_proj.weight"] @ n
        up = self.w["midlayer.mlp.up_proj.weight"] @ n
        return x + self.w["midlayer.mlp.down_proj.weight"] @ (gate * gate.sigmoid() * up)

    @torch.no_grad()
    def propose(self, ids, aux, count):
        """`count` drafted tokens after ids (the last one is the root); aux are the states of ids[:-1]."""
        keys, values, hidden = [], [], None
        for i in range(len(ids) - 1):
            hidden = self.draft_row(self.w["fc.weight"] @ aux[i], ids[i + 1], i, keys, values)
        proposed = []
        for step in range(count):
            best = int((self.w["lm_head.weight"] @ self.norm(hidden, "norm.weight")).argmax())
            proposed.append(best + int(self.w["d2t"][best]))
            if step < count - 1:
                hidden = self.draft_row(hidden, proposed[-1], len(ids) - 1 + step, keys, values)
        return proposed

    @torch.no_grad()
    def generate(self, prompt, vision_inputs, num_draft_tokens, max_new_tokens):
        """(output ids, verification forwards)."""
        logits, aux = self.target_forward(prompt, vision_inputs)
        output, forwards = [int(logits[-1].argmax())], 0
        while output[-1] not in self.eos and len(output) < max_new_tokens:
            ids = prompt + output
            proposed = self.propose(ids, aux[: len(ids) - 1], num_draft_tokens - 1)
            logits, aux = self.target_forward(ids + proposed, vision_inputs)
            forwards += 1
            choice = logits[len(ids) - 1 :].argmax(-1).tolist()
            accepted = 0
            while accepted < len(proposed) and proposed[accepted] == choice[accepted]:
                accepted += 1
            for token in choice[: accepted + 1]:
                output.append(token)
                if token in self.eos or len(output) == max_new_tokens:
                    break
        return output, forwards
