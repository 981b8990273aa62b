"""What the unrolled draft holds on a device while it trains (`ttt.py`, `attention.py`, `chunked_loss.py`), tensor by tensor.

Every row at step 0 and every anchor at every step leave tensors for the gradient; with `gradient_checkpointing` only each
step's input.
On top comes what lives for a moment. Four moments can be the worst: the last chunk of the loss; the gradient of the loss on its
way to the steps; a step's MLP, or its attention, while their gradients are made.

Where anchors are neighbours, as those of a conversation's only answer, what a step keeps of earlier steps' own keys and values
are views; else they are copies. The former is assumed of one conversation, the latter of several in a micro-batch.
"""

from dataclasses import dataclass

from vlm_eagle.training import attention, chunked_loss
from vlm_eagle.training.sizes import DraftSizes
from vlm_eagle.training.workload import Part, Workload, total

# bytes per logit of a chunk while its loss is made; under autocast 2 more
LOGIT_BYTES = {"soft_cross_entropy": 16, "lk_alpha": 26, "lk_lambda": 30}
LOGIT_BYTES_AFTER = 8  # logits and their gradient, when the loss of a chunk is made
SCORE_BYTES = {4: 8, 2: 12}  # per attention score of a chunk, in the backward pass, by `draft_bytes`


@dataclass(frozen=True)
class DraftActivations:
    """Bytes of one micro-batch on one device. Weights, their gradients in float32, optimizer state and the target's features
    are not among them; 16-bit copies of weights are, and gradients of weights that are still being summed."""

    draft: DraftSizes
    work: Workload

    def loss(self) -> tuple[Part, ...]:
        """While the loss is computed, with the gradient of its own inputs."""
        c, work, width = self.draft.config, self.work, self.work.draft_bytes
        states = self._said * (2 * width + 4)  # normed, by steps and together; their gradient
        last = work.anchors * width * (c.hidden_size + self._key_row) if work.gradient_checkpointing else 0
        head = c.draft_vocab_size * c.hidden_size
        product = width * head if work.autocast else 0
        return (
            *self._kept(work.ttt_length - 1),
            *self._copies(),
            ("hidden states of all steps, normed, their gradient", states + last),
            ("lm_head's gradient, float32", 4 * head),
            ("logits of a chunk", max(self._logits(), LOGIT_BYTES_AFTER * self._chunk_logits() + product)),
        )

    def gradient(self) -> tuple[Part, ...]:
        """While the loss's gradient goes back through the steps: at the worst moment."""
        steps = self.work.ttt_length
        return max([self._entering(), *(self._through(k) for k in range(steps))], key=total)

    def _entering(self) -> tuple[Part, ...]:
        """lm_head's gradient is scaled and added."""
        head = 4 * self.draft.config.draft_vocab_size * self.draft.config.hidden_size
        return (
            *self._kept(self.work.ttt_length - 1),
            *self._copies(),
            ("gradient of all steps' hidden states and of lm_head", self._said * self.work.draft_bytes + head),
        )

    def _through(self, k: int) -> tuple[Part, ...]:
        """Step k is differentiated: first its MLP, then attention, by when the MLP's values are gone."""
        c, work, width = self.draft.config, self.work, self.work.draft_bytes
        mlp = 3 * c.intermediate_size * width * work.anchors
        keys = work.tokens * self._key_row * (4 + width)
        own = work.anchors * width * (self._query + 2 * self._key_row * k)
        attend = keys + own + self._scores() - 4 * c.intermediate_size * width * work.anchors
        again = (("a step computed again", self._step(k)),) if work.gradient_checkpointing else ()
        kept = () if work.gradient_checkpointing and k == 0 else self._kept(k)  # step 0 computed again holds its input
        flowing = self._said * width + 8 * c.hidden_size * work.anchors
        layer = sum(size for part, size in self.draft.parts.items() if part in ("attention", "mlp"))
        return (
            *kept,
            *self._copies(),
            *again,
            ("gradients inside a step", flowing + max(mlp, attend)),
            ("weights' gradients, summed over steps", width * layer),
        )

    def _kept(self, k: int) -> tuple[Part, ...]:
        """For the gradient of steps 0 .. k."""
        if self.work.gradient_checkpointing:
            return (("inputs of the steps", sum(self._input(j) for j in range(k + 1))),)
        rows = self.work.tokens * self._row_bytes()
        anchors = sum(self._step(j) for j in range(k + 1)) - rows
        return (("draft at all rows: fc, keys, values", rows), ("draft at anchors, all steps", anchors))

    def _copies(self) -> tuple[Part, ...]:
        return (("16-bit copies of the draft's weights", 2 * self.draft.parameters),) if self.work.autocast else ()

    def _input(self, k: int) -> int:
        """Step 0 has the aux and fused hidden states and the embeddings, and its keys and values stay; later ones have the
        hidden states and own keys and values of the steps before."""
        c, width = self.draft.config, self.work.draft_bytes
        if k == 0:
            values = 3 * c.target_hidden_size + c.hidden_size + self._key_row
            return self.work.tokens * (width * values + self._fc_norm()) + self._embedded()
        return self.work.anchors * width * (c.hidden_size + self._key_row * self._own(k - 1))

    def _step(self, k: int) -> int:
        """Kept for step k's own gradient. Of an anchor: what two norms take and what the MLP is made of; q; what attention
        mixes, by groups and by rows; the MLP's four values; in float32 the logarithm of attention's sum and its weights of own
        rows, cosines and sines. Later steps also have what q, k, v are made of, and own keys and values; step 0 has these of
        all rows instead."""
        c, width = self.draft.config, self.work.draft_bytes
        anchor = width * (3 * c.hidden_size + 3 * self._query + 4 * c.intermediate_size)
        anchor += 4 * (c.num_attention_heads * (1 + k) + 3 * c.head_dim)
        if k == 0:
            return self.work.anchors * anchor + self.work.tokens * self._row_bytes() + self._embedded()
        return self.work.anchors * (anchor + width * (c.hidden_size + self._key_row * self._own(k)))

    def _row_bytes(self) -> int:
        """Of a row at step 0: its aux hidden state, the fused one as it comes and normed, keys and values; in float32 cosines
        and sines."""
        c, width = self.draft.config, self.work.draft_bytes
        values = 3 * c.target_hidden_size + 2 * c.hidden_size + self._key_row
        return width * values + 4 * 3 * c.head_dim + self._fc_norm()

    def _embedded(self) -> int:
        """Embeddings as they come, normed, and as queries of anchors and keys and values of rows take them."""
        c, width = self.draft.config, self.work.draft_bytes
        row = 4 * c.hidden_size + width * (c.hidden_size + self._key_row)
        return self.work.tokens * row + self.work.anchors * width * self._query

    def _own(self, k: int) -> int:
        """Of how many steps' own keys and values step k keeps tensors of its own, and not views."""
        return k if self.work.batch_size > 1 else min(k, 1)

    def _fc_norm(self) -> int:
        return 4 * 3 * self.draft.config.target_hidden_size if self.draft.config.fc_norm else 0

    def _logits(self) -> int:
        """Of a chunk: the target's logits, then the draft's."""
        own = LOGIT_BYTES[self.work.loss] + (2 if self.work.autocast else 0)
        return max(own * self._chunk_logits(), 6 * self._chunk_positions() * self.draft.config.vocab_size)

    def _chunk_positions(self) -> int:
        c = self.draft.config
        size = chunked_loss.chunk_positions(self.work.device, c.vocab_size, c.draft_vocab_size, self.work.ttt_length)
        return min(size, self.work.anchors)

    def _chunk_logits(self) -> int:
        return self._chunk_positions() * self.work.ttt_length * self.draft.config.draft_vocab_size

    def _scores(self) -> int:
        """A chunk's queries against all rows of a conversation."""
        queries, anchors = attention.CHUNK[self.work.device], self.work.anchors // self.work.batch_size
        scores = self.draft.config.num_attention_heads * min(queries, anchors) * self.work.max_length
        return scores * SCORE_BYTES[self.work.draft_bytes]

    @property
    def _said(self) -> int:
        """Values of the hidden states of all steps."""
        return self.work.anchors * self.work.ttt_length * self.draft.config.hidden_size

    @property
    def _query(self) -> int:
        return widths(self.draft)[0]

    @property
    def _key_row(self) -> int:
        """Values of a row's keys and values."""
        return 2 * widths(self.draft)[1]


def widths(draft: DraftSizes) -> tuple[int, int]:
    """Queries and keys of a draft row: (H * K, H_kv * K)."""
    c = draft.config
    return c.num_attention_heads * c.head_dim, c.num_key_value_heads * c.head_dim
