"""The TTT loss against a row-by-row reference that unrolls each row as decoding would, and the faults it must notice."""

from dataclasses import replace

import pytest
import torch
from conftest import make_draft
from torch.nn import functional as F

from vlm_eagle.data.collator import VisionCollator
from vlm_eagle.demo import mix
from vlm_eagle.training.anchors import shift_left, supervised_rows
from vlm_eagle.training.ttt import ttt_loss
from vlm_eagle.training.ttt_dense import dense_ttt_loss

STEPS, DECAY = 4, 0.8


def loss_of(draft, features, target, **options):
    return ttt_loss(draft, features, target.embed_tokens, target.logits, ttt_length=STEPS, decay=DECAY, **options)


class OwnRows:
    """Attention of one row alone: the step-0 keys up to it (given), and its own of later steps."""

    def __init__(self, keys, values):
        self.keys, self.values = keys, values

    def __call__(self, q, k, v):
        self.keys, self.values = torch.cat([self.keys, k], 2), torch.cat([self.values, v], 2)
        groups = q.shape[1] // k.shape[1]
        keys, values = self.keys.repeat_interleave(groups, 1), self.values.repeat_interleave(groups, 1)
        return (q @ keys.transpose(2, 3) / q.shape[-1] ** 0.5).softmax(-1) @ values


def plain_loss(draft, target, ids, supervised, aux, last_hidden):
    """One unpadded sample, (T,) ids: sums over rows and steps, written from the alignment drawing."""
    target_logits = {p: target.logits(last_hidden[n]) for n, p in enumerate(supervised.nonzero().flatten().tolist())}
    draft_ids, embed = draft.target_ids.tolist(), target.embed_tokens
    fused, empty = draft.fuse(aux), torch.zeros(1, draft.config.num_key_value_heads, 0, draft.config.head_dim)
    sums, correct, counts = [0.0] * STEPS, [0] * STEPS, [0] * STEPS
    keys, values = empty, empty
    for i in range(len(ids) - 1):
        attend = OwnRows(keys, values)
        hidden = draft.step(fused[None, None, i], embed(ids[i + 1])[None, None], torch.tensor([[i]]), attend)
        keys, values = attend.keys, attend.values  # what later rows see of this one: its step 0
        for k in range(STEPS):
            if i + 2 + k >= len(ids):
                break
            if k > 0:
                hidden = draft.step(hidden, embed(ids[i + 1 + k])[None, None], torch.tensor([[i + k]]), attend)
            if supervised[i + 1 + k]:
                counts[k] += 1
                answer = target_logits[i + 1 + k]
                if int(answer.argmax()) in draft_ids:
                    logits = draft.logits(hidden)[0, 0]
                    sums[k] = sums[k] + F.cross_entropy(logits, answer[draft_ids].softmax(-1))
                    correct[k] += int(draft_ids[int(logits.argmax())] == int(answer.argmax()))
    return sums, correct, counts


def plain_batch_loss(draft, target, batch):
    """Every sample read by the target alone and unpadded, then the sums of all samples divided by their rows."""
    parts = []
    for conversation in batch:
        sample = VisionCollator(target.processor)([conversation])
        features = target.features(sample)
        parts.append(
            plain_loss(draft, target, sample.input_ids[0], sample.loss_mask[0], features.aux_hidden[0], features.last_hidden)
        )
    loss, correct, counts = 0.0, [], []
    for k in range(STEPS):
        rows = sum(p[2][k] for p in parts)
        loss = loss + DECAY**k * sum(p[0][k] for p in parts) / rows
        correct.append(sum(p[1][k] for p in parts))
        counts.append(rows)
    return loss, correct, counts


@pytest.fixture
def draft(target):
    """Its vocabulary holds nearly all that the random target says: a row outside it carries no loss, and hides faults."""
    return make_draft(target, draft_vocab_size=1200, scale=2.0)


@pytest.fixture(scope="module")
def conversations():
    return [mix.sample("arithmetic", 3), mix.sample("describe", 1), mix.sample("multi-image", 3), mix.sample("vqa", 2, turns=2)]


@pytest.fixture(scope="module")
def features(target, conversations):
    return target.features(VisionCollator(target.processor)(conversations))


def gradients(draft, loss):
    return torch.autograd.grad(loss, list(draft.parameters()))


def disagreement(draft, ours, plain):
    """The largest relative difference of any parameter's gradient. Losses alone hide faults in where attention looks."""
    pairs = zip(gradients(draft, ours), gradients(draft, plain), strict=True)
    return max(float((a - b).norm() / b.norm()) for a, b in pairs)


EQUAL, WRONG = 1e-4, 1e-2  # what agrees is a hundred times closer than the mildest planted fault


@pytest.fixture
def plain(target, draft, conversations):
    return plain_batch_loss(draft, target, conversations)


@pytest.mark.parametrize("function", [ttt_loss, dense_ttt_loss])
def test_equals_row_by_row_reference(target, draft, features, plain, function):
    result = function(draft, features, target.embed_tokens, target.logits, ttt_length=STEPS, decay=DECAY)
    loss, correct, counts = plain
    torch.testing.assert_close(result.loss, loss, rtol=1e-5, atol=1e-5)
    assert result.correct.tolist() == correct
    assert result.rows.tolist() == counts
    assert disagreement(draft, result.loss, loss) < EQUAL


def test_batch_composition_does_not_matter(target, draft, conversations, features):
    """Each sample alone, normalised by the rows of all of them, adds up to the mixed padded batch: loss and gradients."""
    together = loss_of(draft, features, target)
    rows = supervised_rows(features.loss_mask, STEPS)
    alone = [VisionCollator(target.processor)([c]) for c in conversations]
    parts = [loss_of(draft, target.features(batch), target, rows=rows) for batch in alone]
    torch.testing.assert_close(sum(p.loss for p in parts), together.loss, rtol=1e-5, atol=1e-6)
    assert disagreement(draft, sum(p.loss for p in parts), together.loss) < EQUAL


@pytest.mark.slow
@pytest.mark.parametrize("by", [-1, 1])
def test_shifted_mask_is_noticed(target, draft, features, plain, by):
    shifted = replace(features, loss_mask=features.loss_mask.roll(by, dims=1))
    assert disagreement(draft, loss_of(draft, shifted, target).loss, plain[0]) > WRONG


@pytest.mark.slow
def test_positions_off_by_one_are_noticed(target, draft, features, plain, monkeypatch):
    """Rotary attention only sees differences, so the fault is planted between steps: step k at position i, not i + k."""
    step, calls = type(draft).step, []

    def late(self, hidden, embedding, positions, attend, queries=None):
        calls.append(positions)
        return step(self, hidden, embedding, positions - (len(calls) - 1), attend, queries)

    monkeypatch.setattr(type(draft), "step", late)
    assert disagreement(draft, loss_of(draft, features, target).loss, plain[0]) > WRONG


@pytest.mark.slow
def test_ignored_rope_theta_is_noticed(target, draft, features, plain):
    draft.midlayer.self_attn.theta = 10_000.0
    assert disagreement(draft, loss_of(draft, features, target).loss, plain[0]) > WRONG


@pytest.mark.slow
def test_absolute_d2t_is_noticed(target, draft, features, plain, monkeypatch):
    monkeypatch.setattr(type(draft), "target_ids", property(lambda self: self.d2t))
    assert disagreement(draft, loss_of(draft, features, target).loss, plain[0]) > WRONG


@pytest.mark.slow
def test_missed_deepstack_is_noticed(target, draft, conversations, features, plain, monkeypatch):
    monkeypatch.setattr(type(target.decoder), "_deepstack_process", lambda self, hidden, *_: hidden)
    without = target.features(VisionCollator(target.processor)(conversations))
    assert disagreement(draft, loss_of(draft, without, target).loss, plain[0]) > WRONG


def test_first_decoding_row_and_end_of_turn_are_supervised(target, draft, processor):
    """The row of the last prompt token learns the answer's second token, and no row learns the next user's header."""
    batch = VisionCollator(processor)([mix.sample("vqa", 4, turns=2)])
    features = target.features(batch)
    ids, supervised = batch.input_ids[0], batch.loss_mask[0]
    assistant = processor.tokenizer.encode("<|im_start|>assistant\n")
    starts = [i + 3 for i in range(len(ids) - 3) if ids[i : i + 3].tolist() == assistant]
    rows = {i for i in range(len(ids) - 2) if shift_left(features.loss_mask, 1)[0, i]}
    for start in starts:
        assert start - 1 in rows, "the row that decoding uses first"
        end = start + ids[start:].tolist().index(processor.tokenizer.convert_tokens_to_ids("<|im_end|>"))
        assert end - 2 in rows, "the row that predicts the end of the turn"
        assert end - 1 not in rows, "the row that would predict the newline after it"
    assert int(supervised.sum()) == len(rows)


def test_rows_outside_the_draft_vocabulary_carry_no_loss_but_count(target, features):
    draft = make_draft(target, draft_vocab_size=8)
    result = loss_of(draft, features, target)
    assert result.rows.tolist() == supervised_rows(features.loss_mask, STEPS).tolist()
    assert (result.correct < result.rows).all()
    assert torch.isfinite(result.loss)
