"""The anchor-sparse TTT against the dense reference: loss, counts and every gradient; and what it must not allocate."""

from dataclasses import replace

import pytest
import torch
from conftest import make_draft
from PIL import Image
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from vlm_eagle.data.collator import VisionCollator
from vlm_eagle.data.conversation import Conversation, Message, TextPart, VideoPart
from vlm_eagle.demo import mix
from vlm_eagle.draft.model import Eagle3Draft
from vlm_eagle.draft.vocab import DraftVocab
from vlm_eagle.training.anchors import Anchors, shift_left, supervised_rows
from vlm_eagle.training.chunks import ChunkSizes, using_chunk_sizes
from vlm_eagle.training.losses import LOSSES
from vlm_eagle.training.ttt import ttt_loss
from vlm_eagle.training.ttt_dense import dense_ttt_loss

SETTINGS = {"ttt_length": 7, "decay": 0.9}
TASKS = ("arithmetic", "describe", "multi-image", "vqa", "chinese", "code", "chinese-image", "arithmetic")


def video_sample(folder):
    frames = []
    for i in range(4):
        frames.append(folder / f"{i}.png")
        Image.new("RGB", (64, 64), (60 * i, 90, 30)).save(frames[-1])
    question = Message("user", (VideoPart(tuple(frames)), TextPart("What changes?")))
    return Conversation("video", (question, Message("assistant", (TextPart("It turns red."),))), source="test")


@pytest.fixture
def draft(target):
    """Covers most of what the random target says, so that every sample has a gradient."""
    return make_draft(target, draft_vocab_size=1200, scale=1.5)


@pytest.fixture(scope="module")
def batches(target, tmp_path_factory):
    samples = [mix.sample(task, i, turns=1 + (i == 3)) for i, task in enumerate(TASKS)]
    alone = {task: [sample] for task, sample in zip(TASKS[:4], samples, strict=False)}
    chosen = {**alone, "video": [video_sample(tmp_path_factory.mktemp("video"))], "batch of 8": samples}
    return {name: target.features(VisionCollator(target.processor)(rows), visual=True) for name, rows in chosen.items()}


def compare(draft: Eagle3Draft, features, target, **options) -> None:
    parameters, results = list(draft.parameters()), []
    gradient_checkpointing = options.pop("gradient_checkpointing", False)
    for function, extra in ((ttt_loss, {"gradient_checkpointing": gradient_checkpointing}), (dense_ttt_loss, {})):
        result = function(draft, features, target.embed_tokens, target.logits, **SETTINGS, **options, **extra)
        results.append((result, torch.autograd.grad(result.loss, parameters)))
    (ours, ours_grad), (dense, dense_grad) = results
    torch.testing.assert_close(ours.loss, dense.loss, rtol=1e-5, atol=0)
    assert ours.correct.tolist() == dense.correct.tolist()
    assert ours.rows.tolist() == dense.rows.tolist()
    for (name, _), a, b in zip(draft.named_parameters(), ours_grad, dense_grad, strict=True):
        assert float((a - b).norm()) <= 1e-5 * float(b.norm()), name
        assert float(b.norm()) > 0, name


@pytest.mark.parametrize("name", [*TASKS[:4], "video", "batch of 8"])
def test_equals_dense(target, draft, batches, name):
    compare(draft, batches[name], target)


@pytest.mark.parametrize("loss", LOSSES)
def test_every_loss_equals_dense(target, draft, batches, loss):
    compare(draft, batches["batch of 8"], target, loss=loss)


def test_recomputing_changes_nothing(target, draft, batches):
    compare(draft, batches["batch of 8"], target, gradient_checkpointing=True)


def test_merged_image_rows_equal_dense_and_matter(target, draft, batches):
    features = batches["batch of 8"]
    visual_samples = torch.arange(8) % 2 == 0
    compare(draft, features, target, visual_samples=visual_samples)
    losses = [float(ttt_loss(draft, features, target.embed_tokens, target.logits, **SETTINGS, visual_samples=m).loss.detach())
              for m in (None, visual_samples, torch.ones(8, dtype=torch.bool))]  # fmt: skip
    assert len(set(losses)) == 3


def test_a_batch_without_images_has_nothing_to_merge(target, draft, batches):
    features = batches["arithmetic"]
    assert len(features.visual) == 0, "the case of a text batch of a vision target"
    one = ttt_loss(
        draft, features, target.embed_tokens, target.logits, **SETTINGS, visual_samples=torch.ones(1, dtype=torch.bool)
    )
    other = ttt_loss(draft, features, target.embed_tokens, target.logits, **SETTINGS)
    assert torch.equal(one.loss, other.loss)


@pytest.mark.parametrize("options", [{"fc_norm": True}, {"norm_output": True}, {"fc_norm": True, "norm_output": True}])
def test_eagle_31_norms_equal_dense(target, draft, batches, options):
    compare(with_norms(draft, options), batches["batch of 8"], target)


def with_norms(draft, options):
    torch.manual_seed(1)
    other = Eagle3Draft(replace(draft.config, **options), DraftVocab(draft.d2t, draft.t2d))
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.mul_(3.0) if parameter.ndim == 2 else parameter.uniform_(0.5, 1.5)
    return other


@pytest.mark.parametrize("size", [1, 3, 1000])
def test_chunks_of_any_size_agree(target, draft, batches, size):
    with using_chunk_sizes(ChunkSizes(queries=size, logits=size * 4000, positions=64)):
        compare(draft, batches["batch of 8"], target)


def test_a_scaled_loss_scales_every_gradient(target, draft, batches):
    """As several processes scale it."""
    parameters, found = list(draft.parameters()), []
    for factor in (1, 3):
        result = ttt_loss(draft, batches["batch of 8"], target.embed_tokens, target.logits, **SETTINGS)
        found.append(torch.autograd.grad(factor * result.loss, parameters))
    for once, thrice in zip(*found, strict=True):
        torch.testing.assert_close(thrice, 3 * once)


def test_positions_without_coverage_carry_no_loss(target, batches):
    compare_draft = make_draft(target, draft_vocab_size=8)
    result = ttt_loss(compare_draft, batches["batch of 8"], target.embed_tokens, target.logits, **SETTINGS)
    assert (result.correct < result.rows).all()
    assert torch.isfinite(result.loss)


def test_batch_without_answers_reaches_every_parameter(target, draft, batches):
    features = batches["arithmetic"]
    empty = replace(features, loss_mask=torch.zeros_like(features.loss_mask), last_hidden=features.last_hidden[:0])
    result = ttt_loss(draft, empty, target.embed_tokens, target.logits, **SETTINGS)
    assert float(result.loss.detach()) == 0
    assert all(g is not None and not g.any() for g in torch.autograd.grad(result.loss, list(draft.parameters())))


def test_anchors_follow_the_drawing():
    """The example of `ttt.py`: three prompt tokens, three answer tokens, supervised positions 2 3 4."""
    supervised = torch.tensor([[False, False, True, True, True, False]])
    anchors = Anchors.of(supervised, 2)
    assert anchors.packed.tolist() == [0, 1, 2, 3]
    assert [step.position.tolist() for step in anchors.steps] == [[0, 1, 2, 3], [0, 1, 2]]
    says = [[int(p) + 2 + k for p in step.position[step.supervised]] for k, step in enumerate(anchors.steps)]
    assert says == [[3, 4, 5], [3, 4, 5]]
    assert [step.answer.tolist() for step in anchors.steps] == [[0, 1, 2], [0, 1, 2]]


def test_anchors_of_random_masks():
    generator = torch.Generator().manual_seed(0)
    for _ in range(50):
        supervised = torch.rand(3, 20, generator=generator) < 0.15
        anchors, order = Anchors.of(supervised, 4), supervised.nonzero().tolist()
        packed = anchors.packed.tolist()
        for k, step in enumerate(anchors.steps):
            flat = step.flat[step.supervised].tolist()
            assert int(supervised_rows(supervised, 4)[k]) == len(flat)
            assert flat == shift_left(supervised, 1 + k).flatten().nonzero().flatten().tolist()
            assert [order[a] for a in step.answer.tolist()] == [[f // 20, f % 20 + 1 + k] for f in flat]
            before = packed if k == 0 else anchors.steps[k - 1].flat.tolist()
            assert torch.tensor(before)[step.keep].tolist() == step.flat.tolist()
            assert anchors.packed[step.reads].tolist() == [f + k for f in step.flat.tolist()]
            assert anchors.steps[0].flat[step.asks].tolist() == [f + k for f in step.flat.tolist()]
            for first, last, start in step.spans:
                assert {f // 20 for f in step.flat[first:last].tolist()} == {packed[start] // 20}
                assert packed[start] % 20 == 0


class Largest(TorchDispatchMode):
    """Remembers the largest tensor made."""

    def __init__(self):
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        given = {t.untyped_storage().data_ptr() for t in tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)}
        for tensor in tree_leaves(out):
            if isinstance(tensor, torch.Tensor) and tensor.untyped_storage().data_ptr() not in given:
                self.elements = max(self.elements, tensor.numel())
        return out


@pytest.mark.slow
def test_nothing_grows_with_vocabulary_or_squared_length(target, draft, batches):
    """The largest tensor of a step stays below (rows, V) and (H, T, T), which the dense form does not."""
    features = batches["batch of 8"]
    sizes, chunks = [], ChunkSizes(queries=4, logits=20_000, positions=64)
    for function in (ttt_loss, dense_ttt_loss):
        with Largest() as largest, using_chunk_sizes(chunks):
            function(draft, features, target.embed_tokens, target.logits, **SETTINGS).loss.backward()
        sizes.append(largest.elements)
    anchors, width = Anchors.of(features.loss_mask, 7), target.config.hidden_size
    step_hidden = sum(len(step.answer) for step in anchors.steps)
    widest = max(len(anchors.packed) * 3 * width, step_hidden * width, draft.lm_head.weight.numel())
    length = features.input_ids.shape[1]
    assert sizes[0] <= 1.1 * widest
    assert sizes[1] > 2 * sizes[0]
    assert sizes[1] >= draft.config.num_attention_heads * length * length
