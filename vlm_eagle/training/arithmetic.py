"""The arithmetic of an optimizer step, from numbers alone, and the floor below which no trainer can go."""

from dataclasses import dataclass

from vlm_eagle.training.activations import widths
from vlm_eagle.training.sizes import DraftSizes, TargetSizes
from vlm_eagle.training.workload import Workload

MUON_ITERATIONS = 5


@dataclass(frozen=True, kw_only=True)
class Arithmetic:
    """Floating-point operations of one optimizer step on one device, by part. A multiplication with an addition is two;
    the target's attention is counted whole, as FLOP counters do, though causal kernels skip about half of it.

    `floor` is what no trainer can do without: the target's own forward (0 when its features were captured before).
    """

    target: int
    vision: int
    target_head: int
    draft_all_rows: int
    draft_anchors: int
    optimizer: int

    @property
    def floor(self) -> int:
        """The target's forward alone, vision tower included."""
        return self.target + self.vision

    @property
    def step(self) -> int:
        """Everything."""
        return self.floor + self.target_head + self.draft_all_rows + self.draft_anchors + self.optimizer


def estimate_arithmetic(target: TargetSizes, draft: DraftSizes, work: Workload) -> Arithmetic:
    """Floating-point operations of one optimizer step on one device."""
    sizes, anchors, steps = draft.config, work.anchors, work.ttt_length
    query, key = widths(draft)
    fc = 3 * sizes.target_hidden_size * sizes.hidden_size
    keys = sizes.hidden_size * 2 * key  # of hidden states; embeddings are projected by as many weights, but once for all steps
    layer = 2 * sizes.hidden_size * query + draft.parts["mlp"]
    passes = 4 if work.gradient_checkpointing else 3  # forward, gradient of inputs, gradient of weights
    seen = work.max_length * (1 - work.supervised_fraction / 2)  # an answer lies behind its prompt
    attention = sum(4 * query * (seen + k) for k in range(steps)) * (passes + 0.5)  # scores are made again for the gradient
    own = 2 * keys * (steps - 1)  # an anchor's own keys and values at later steps
    embedded = 3 * 2 * sizes.hidden_size * query
    anchor = passes * (2 * layer * steps + own) + embedded + attention + 3 * 2 * draft.parts["lm_head"] * steps
    forward, vision = (0, 0) if work.offline else (decoder_flops(target, work), _vision_flops(target, work))
    runs = work.gradient_accumulation_steps
    return Arithmetic(
        target=runs * forward,
        vision=runs * vision,
        target_head=runs * 2 * anchors * target.hidden * target.vocab,
        draft_all_rows=runs * work.tokens * (2 * 2 * fc + (passes + 3) * 2 * keys),  # nothing before fc needs a gradient
        draft_anchors=runs * round(anchors * anchor),
        optimizer=_muon_flops(draft) if work.optimizer == "muon" else 0,
    )


def decoder_flops(target: TargetSizes, work: Workload) -> int:
    """Operations of the decoder layers for one micro-batch: its matrices, and queries against keys against values."""
    attention = 4 * work.max_length * target.query_width * target.layers
    return work.tokens * (2 * target.active_matrices + attention)


def _vision_flops(target: TargetSizes, work: Workload) -> int:
    vision = target.vision
    if vision is None or not work.image_tokens:
        return 0
    patches = work.image_tokens * vision.patches_per_token
    attention = 4 * (patches // work.batch_size) * vision.hidden * vision.depth
    return patches * (2 * vision.patch_matrices + attention) + work.image_tokens * 2 * vision.token_matrices


def _muon_flops(draft: DraftSizes) -> int:
    """Newton-Schulz: X X^T, its square, and the product with X, for X with fewer rows than columns."""
    shapes = [sorted(shape) for shape in draft.muon]
    return sum(MUON_ITERATIONS * 2 * (2 * m * m * n + m**3) for m, n in shapes)
