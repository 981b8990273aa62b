"""The EAGLE-3 draft head: fuse the target's aux hidden states, run one layer, predict in the draft vocabulary."""

from pathlib import Path

import torch
from torch import Tensor, nn

from vlm_eagle.draft import files
from vlm_eagle.draft.config import Eagle3Config
from vlm_eagle.draft.layers import Attend, DraftLayer, Embedded, Rows
from vlm_eagle.draft.norm import RMSNorm
from vlm_eagle.draft.vocab import DraftVocab


class Eagle3Draft(nn.Module):
    """The head of https://arxiv.org/abs/2503.01840 in the layer that SGLang and vLLM implement.

    `step` takes embedded tokens: the target's embeddings, or the draft's own (`config.has_own_embed_tokens`, never ours).
    """

    d2t: Tensor
    t2d: Tensor

    def __init__(self, config: Eagle3Config, vocab: DraftVocab | None = None):
        """`vocab` None means the full vocabulary, and is an error for any other draft_vocab_size."""
        super().__init__()
        self.config = config
        vocab = vocab or DraftVocab.full(config.vocab_size)
        vocab.check(config.draft_vocab_size, config.vocab_size)
        if config.has_own_embed_tokens:
            self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        if config.norm_before_fc:
            self.input_norm = RMSNorm(3 * config.target_hidden_size, eps=config.rms_norm_eps)
        self.fc = nn.Linear(3 * config.target_hidden_size, config.hidden_size, bias=False)
        if config.fc_norm:
            self.fc_norm = nn.ModuleList(RMSNorm(config.target_hidden_size, eps=config.rms_norm_eps) for _ in range(3))
        self.midlayer = DraftLayer(config)
        self.norm = RMSNorm(config.hidden_size, eps=config.rms_norm_eps)
        self.lm_head = nn.Linear(config.hidden_size, config.draft_vocab_size, bias=False)
        self.register_buffer("d2t", vocab.d2t)
        self.register_buffer("t2d", vocab.t2d)

    @property
    def target_ids(self) -> Tensor:
        """(W,) int64, the target id of every draft id."""
        return self.d2t + torch.arange(len(self.d2t), device=self.d2t.device)

    def fuse(self, aux_hidden: Tensor) -> Tensor:
        """Fused hidden states (..., D) from aux hidden states (..., 3 * D_target)."""
        aux_hidden = aux_hidden.to(self.fc.weight.dtype)
        if self.config.norm_before_fc:
            aux_hidden = self.input_norm(aux_hidden)
        if self.config.fc_norm:
            thirds = aux_hidden.chunk(3, dim=-1)
            aux_hidden = torch.cat([norm(third) for norm, third in zip(self.fc_norm, thirds, strict=True)], dim=-1)
        return self.fc(aux_hidden)

    def embedded(self, embedding: Tensor, queries: Rows) -> Embedded:
        """Embeddings (B, R, D) for `step`, where several steps read the same tokens."""
        return self.midlayer.embedded(embedding.to(self.fc.weight.dtype), queries)

    def step(
        self, hidden: Tensor, embedding: Tensor | Embedded, positions: Tensor, attend: Attend, queries: Rows | None = None
    ) -> Tensor:
        """The next hidden state of R positions, (B, R, D), or of `queries` (Q,) among them, (B, Q, D): from the fused hidden
        states at step 0, from this function's own output afterwards."""
        output = self.midlayer(hidden, embedding, positions, attend, queries)
        return self.norm(output) if self.config.norm_output else output

    def normed(self, hidden: Tensor) -> Tensor:
        """What `lm_head` reads, (..., D), from a hidden state that `step` returned."""
        return hidden if self.config.norm_output else self.norm(hidden)

    def logits(self, hidden: Tensor) -> Tensor:
        """(..., W) float32 over the draft vocabulary from a hidden state (..., D)."""
        return self.lm_head(self.normed(hidden)).float()

    def save_pretrained(self, folder: str | Path) -> None:
        """Writes `config.json` and `model.safetensors`: the directory that SGLang and vLLM load unchanged."""
        files.save(Path(folder), self.config, self.state_dict())

    @classmethod
    def from_pretrained(cls, name: str | Path, *, revision: str | None = None) -> "Eagle3Draft":
        """Loads a draft in the native layout from a folder or a hub id, in the dtype it was saved in.

        Raises:
            UserError: missing files, another layout, or tensors that do not match the configuration exactly.
        """
        config, tensors = files.load(name, revision)
        vocab = DraftVocab(tensors.pop("d2t"), tensors.pop("t2d")) if "d2t" in tensors else None
        draft = cls(config, vocab).to(getattr(torch, config.dtype))
        draft.load_state_dict({**tensors, "d2t": draft.d2t, "t2d": draft.t2d})
        return draft
