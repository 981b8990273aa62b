"""The embeddings that the draft sees. At image rows engines differ: vLLM feeds the embedding of the image pad token, SGLang the
projected visual embedding that the target itself reads there ("visual_embeds")."""

import hashlib
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from vlm_eagle.records import TargetFeatures


class DraftInputs:
    """Embeddings of tokens of a batch, by flat index b * T + i."""

    def __init__(self, features: TargetFeatures, embed_tokens: nn.Embedding, visual_samples: Tensor | None = None):
        """`visual_samples` (B,) bool names the samples whose image rows are merged; they need `features.visual`."""
        self.ids, self.embed_tokens = features.input_ids.flatten(), embed_tokens
        self.visual, self.rows = features.visual, None
        if visual_samples is not None and features.visual is not None and len(features.visual):
            at = features.visual_mask
            assert at is not None
            number = (at.flatten().cumsum(0) - 1).view_as(at)
            self.rows = number.masked_fill(~(at & visual_samples[:, None].to(at.device)), -1).flatten()

    def embedding(self, flat: Tensor) -> Tensor:
        """(n, D_target) for flat indices (n,)."""
        embedding = self.embed_tokens(self.ids[flat])
        if self.rows is None or self.visual is None:
            return embedding
        rows = self.rows[flat]
        return self.visual[rows.clamp_min(0)].to(embedding.dtype).where(rows[:, None] >= 0, embedding)


def visual_samples_of(how: Literal["token", "visual_embeds", "mixed"], ids: Sequence[str], turn: str) -> Tensor | None:
    """(B,) bool, the samples that read visual embeddings. With "mixed" a fair coin decides, thrown by a sample's id and the
    `turn` (seed and epoch), so that neither its batch nor the number of processes nor an interruption changes it."""
    if how == "token":
        return None
    return torch.tensor([how == "visual_embeds" or _coin(f"{turn} {name}") for name in ids])


def _coin(text: str) -> bool:
    return hashlib.blake2b(text.encode(), digest_size=1).digest()[0] & 1 == 1
