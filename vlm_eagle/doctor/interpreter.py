"""Runs a draft's tensors under any `Interpretation` and compares its guesses with the target's answers.

It shares no code with `draft/`, because it has to compute mistakes too. The alignment is that of `training/ttt.py`, unrolled
from rows of true target states: row i at step k reads the embedding of x_{i+1+k} and predicts x_{i+2+k}. As long as all earlier
guesses of a row are right, this is what decoding computes, so counting rows whose first k guesses are right gives acceptance
by position without decoding.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from vlm_eagle.doctor.acceptance import TEMPERATURES, GuessCounts
from vlm_eagle.doctor.cases import Case
from vlm_eagle.doctor.interpretation import Interpretation
from vlm_eagle.doctor.rotary import angles, rotate

_ATTENTION, _MLP = "midlayer.self_attn.", "midlayer.mlp."


class Interpreter:
    """The tensors of a draft with the target's tables."""

    def __init__(self, tensors: dict[str, Tensor], embedding: Tensor, head: Tensor, mrope_section: tuple[int, ...] | None):
        """`embedding` and `head` (V, D_target) are the target's."""
        device = embedding.device
        self.w = {n: t.to(device, torch.float32 if t.is_floating_point() else t.dtype) for n, t in tensors.items()}
        self.embedding, self.head, self.section = embedding, head, mrope_section

    def can(self, interpretation: Interpretation, case: Case) -> bool:
        """Whether the case holds the states that this interpretation takes."""
        return len(interpretation.layer_ids) == len(interpretation.aux_order) and all(
            i in case.states for i in interpretation.layer_ids
        )

    @torch.no_grad()
    def __call__(self, interpretation: Interpretation, case: Case, steps: int) -> GuessCounts:
        """How far the draft's guesses agree with the answer, from every row of it that decoding could draft from."""
        total = len(case.ids)
        rows = torch.arange(
            max(case.prompt + 1 - interpretation.ahead, 0), total - interpretation.ahead, device=case.ids.device
        )
        if not self.can(interpretation, case) or not len(rows):
            counts = [max(len(rows) - k, 0) for k in range(steps)]
            blind = torch.full((len(TEMPERATURES),), -sum(counts) * math.log(len(self.embedding)))
            return GuessCounts(counts, [0] * steps, log_likelihood=blind)
        run = _Run(self, interpretation, case, rows)
        targets = self.target_ids(interpretation)
        right = torch.ones_like(rows, dtype=torch.bool)
        result = GuessCounts()
        for k in range(steps):
            logits = run.step(k)
            there = rows + interpretation.ahead + k < total
            wanted = case.ids[(rows + interpretation.ahead + k).clamp_max(total - 1)]
            right = right & there & (targets[logits.argmax(-1)] == wanted)
            result.rows.append(int(there.sum()))
            result.right.append(int(right.sum()))
            result.log_likelihood += _log_likelihood(logits[there], targets, wanted[there], len(self.embedding))
            if k == 0:
                result.certainty = float(logits.softmax(-1).amax(-1).sum())
        return result

    def target_ids(self, interpretation: Interpretation) -> Tensor:
        """(W,) the target id of every draft id."""
        own = torch.arange(len(self.w["lm_head.weight"]), device=self.embedding.device)
        if interpretation.tied:
            return torch.arange(len(self.embedding), device=own.device)
        if interpretation.ids == "offset":
            return self.w["d2t"].long() + own
        if interpretation.ids == "absolute":
            return self.w["d2t"].long()
        return self.w["t2d"].bool().nonzero().flatten() if interpretation.ids == "t2d" else own


def _log_likelihood(logits: Tensor, targets: Tensor, wanted: Tensor, vocabulary: int) -> Tensor:
    """(temperatures,) summed over rows. A token outside the draft vocabulary counts as a blind guess."""
    if not len(logits):
        return torch.zeros(len(TEMPERATURES))
    hit = targets == wanted[:, None]
    own, in_vocabulary = hit.float().argmax(1, keepdim=True), hit.any(1)
    blind = -math.log(vocabulary)
    rows = []
    for temperature in TEMPERATURES:
        scaled = logits / temperature
        log_probs = (scaled.gather(1, own) - scaled.logsumexp(1, keepdim=True))[:, 0]
        rows.append(log_probs.where(in_vocabulary, log_probs.new_tensor(blind)).sum())
    return torch.stack(rows).cpu()


class _Run:
    """One case under one interpretation, unrolled step by step."""

    def __init__(self, interpreter: Interpreter, interpretation: Interpretation, case: Case, rows: Tensor):
        self.w, self.interpretation, self.case, self.rows, self.interpreter = (
            interpreter.w,
            interpretation,
            case,
            rows,
            interpreter,
        )
        self.keys: list[Tensor] = []
        self.values: list[Tensor] = []
        self.hidden = self._fuse()
        self.table = interpreter.w["embed_tokens.weight"] if interpretation.own_embedding else interpreter.embedding

    def step(self, k: int) -> Tensor:
        """(A, W), the logits of the asking rows. At step 0 every row gives keys and values."""
        everyone = torch.arange(int(self.rows[-1]) + 1, device=self.rows.device)
        rows = everyone if k == 0 else self.rows
        asking = self.rows if k == 0 else torch.arange(len(rows), device=rows.device)
        hidden, embedding = self.hidden[: len(rows)], self._embedding(rows + self.interpretation.shift + k)
        normed = self._norm(hidden, "midlayer.hidden_norm")
        a = [self._norm(embedding, "midlayer.input_layernorm"), normed]
        a = torch.cat(a if self.interpretation.embedding_first else a[::-1], -1)
        residual = normed if self.interpretation.norm_before_residual else hidden
        x = residual[asking] + self._attention(a, rows, asking, k)
        y = x + self._mlp(self._norm(x, "midlayer.post_attention_layernorm"))
        normed_output = self._norm(y, "norm")
        self.hidden = normed_output if self.interpretation.norm_output else y
        return normed_output @ (self.interpreter.head if self.interpretation.tied else self.w["lm_head.weight"]).T

    def _fuse(self) -> Tensor:
        """(T, D)"""
        interpretation, case = self.interpretation, self.case
        states = case.states | (case.before if interpretation.before_deepstack else {})
        aux = [states[interpretation.layer_ids[i]] for i in interpretation.aux_order]
        if interpretation.bfloat16_target:
            aux = [state.bfloat16().float() for state in aux]
        if interpretation.norm_before_fc:
            aux = self._norm(torch.cat(aux, -1), "input_norm").chunk(3, -1)
        if interpretation.fc_norm:
            aux = [self._norm(state, f"fc_norm.{i}") for i, state in enumerate(aux)]
        return self._linear(torch.cat(tuple(aux), -1), "fc")

    def _embedding(self, at: Tensor) -> Tensor:
        at = at.clamp_max(len(self.case.ids) - 1)
        embedding = self.table[self.case.ids[at]].float()
        if self.interpretation.image_inputs == "token":
            return embedding
        return self.case.inputs_embeds[at].where(self.case.visual[at, None], embedding)

    def _attention(self, a: Tensor, rows: Tensor, asking: Tensor, k: int) -> Tensor:
        """(A, D). A row sees the rows of step 0 up to itself, and its own of later steps."""
        interpretation = self.interpretation
        kv = [self._linear(a, f"{_ATTENTION}{name}_proj").unflatten(-1, (interpretation.kv_heads, -1)) for name in "kv"]
        q = self._linear(a[asking], f"{_ATTENTION}q_proj").unflatten(-1, (interpretation.heads, -1))
        key, value = self._head_norm(kv[0], "k_norm"), kv[1]
        turn = angles(interpretation, rows, self.case.mrope, k, q.shape[-1], self.interpreter.section)
        key, q = (
            rotate(key, turn, interpretation.rotary),
            rotate(self._head_norm(q, "q_norm"), turn[asking], interpretation.rotary),
        )
        groups = interpretation.heads // interpretation.kv_heads
        self.keys.append(key.repeat_interleave(groups, 1))
        self.values.append(value.repeat_interleave(groups, 1))
        first = torch.einsum("ahk,rhk->ahr", q, self.keys[0])
        hidden = torch.arange(len(self.keys[0]), device=rows.device) > self.rows[:, None]
        scores = [first.masked_fill(hidden[:, None], -torch.inf)]
        scores += [(q * own).sum(-1, keepdim=True) for own in self.keys[1:]]
        weights = (torch.cat(scores, -1) / q.shape[-1] ** 0.5).softmax(-1)
        mixed = torch.einsum("ahr,rhk->ahk", weights[..., : len(self.keys[0])], self.values[0])
        for i, own in enumerate(self.values[1:]):
            mixed = mixed + weights[..., len(self.keys[0]) + i, None] * own
        return self._linear(mixed.flatten(1), f"{_ATTENTION}o_proj")

    def _mlp(self, x: Tensor) -> Tensor:
        gate, up = (self._linear(x, f"{_MLP}{name}_proj") for name in ("gate", "up"))
        return self._linear(F.silu(gate) * up if self.interpretation.gate_first else gate * F.silu(up), f"{_MLP}down_proj")

    def _linear(self, x: Tensor, name: str) -> Tensor:
        return F.linear(x, self.w[f"{name}.weight"], self.w.get(f"{name}.bias"))

    def _norm(self, x: Tensor, name: str) -> Tensor:
        weight = self.w[f"{name}.weight"]
        return F.rms_norm(x, weight.shape, 1 + weight if self.interpretation.norm_offset else weight, self.interpretation.eps)

    def _head_norm(self, x: Tensor, name: str) -> Tensor:
        return self._norm(x, _ATTENTION + name) if f"{_ATTENTION}{name}.weight" in self.w else x
