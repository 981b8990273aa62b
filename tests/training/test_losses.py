"""Every loss against sums written out by hand, and what each is for."""

import math

import pytest
import torch

from vlm_eagle.training.losses import LK_DECAY, LOSSES, acceptance_probability


@pytest.fixture
def rows():
    generator = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(6, 9, generator=generator, dtype=torch.double)
    p = torch.randn(6, 9, generator=generator, dtype=torch.double).mul(2).softmax(-1)
    p[0] = torch.eye(9, dtype=torch.double)[3]  # a target that is certain
    return logits, p


def by_hand(logits, p):
    """Row by row and word by word: (cross-entropy, acceptance, KL divergence)."""
    for row, target in zip(logits.tolist(), p.tolist(), strict=True):
        total = sum(math.exp(x) for x in row)
        q = [math.exp(x) / total for x in row]
        cross = -sum(t * math.log(s) for t, s in zip(target, q, strict=True))
        entropy = -sum(t * math.log(t) for t in target if t > 0)
        yield cross, sum(min(t, s) for t, s in zip(target, q, strict=True)), cross - entropy


def test_values(rows):
    cross, acceptance, divergence = zip(*by_hand(*rows), strict=True)
    weights = [math.exp(-LK_DECAY * a) for a in acceptance]
    expected = {
        "soft_cross_entropy": cross,
        "lk_alpha": [-math.log(a) for a in acceptance],
        "lk_lambda": [w * d + (1 - w) * (1 - a) for w, d, a in zip(weights, divergence, acceptance, strict=True)],
    }
    assert acceptance_probability(*rows).tolist() == pytest.approx(acceptance)
    for name, values in expected.items():
        assert LOSSES[name](*rows).tolist() == pytest.approx(list(values)), name


def test_gradients(rows):
    """lk_lambda's weight is a constant: its gradient is the weighted sum of the two parts' gradients."""
    logits, p = rows

    def gradient(function):
        leaf = logits.clone().requires_grad_()
        return torch.autograd.grad(function(leaf, p).sum(), leaf)[0]

    q, weight = logits.softmax(-1), (-LK_DECAY * acceptance_probability(logits, p)).exp()[:, None]
    torch.testing.assert_close(gradient(LOSSES["soft_cross_entropy"]), q - p)
    accepted = gradient(acceptance_probability)
    torch.testing.assert_close(gradient(LOSSES["lk_alpha"]), -accepted / acceptance_probability(logits, p)[:, None])
    torch.testing.assert_close(gradient(LOSSES["lk_lambda"]), weight * (q - p) - (1 - weight) * accepted)


@pytest.mark.parametrize("name", LOSSES)
def test_the_target_itself_is_the_optimum(name, rows):
    p = rows[1][1:]
    best = LOSSES[name](p.log(), p)
    for row in range(20):
        other = p.log() + 0.1 * torch.randn(p.shape, generator=torch.Generator().manual_seed(row), dtype=torch.double)
        assert (LOSSES[name](other, p) > best).all()


@pytest.mark.parametrize("name", LOSSES)
def test_finite_where_the_draft_is_hopeless(name):
    logits = torch.tensor([[200.0, -200.0, 0.0]], requires_grad=True)
    loss = LOSSES[name](logits, torch.tensor([[0.0, 1.0, 0.0]])).sum()
    assert torch.isfinite(loss)
    assert torch.isfinite(torch.autograd.grad(loss, logits)[0]).all()


def test_lk_prefers_acceptance_where_divergence_does_not():
    """A draft that can put its mass on one of two peaks: LK is content with the larger one, KL spreads."""
    p = torch.tensor([[0.7, 0.28, 0.02]], dtype=torch.double)
    peak, spread = torch.tensor([[0.97, 0.015, 0.015]]).double().log(), torch.tensor([[0.4, 0.4, 0.2]]).double().log()
    losses = {name: [float(function(x, p)) for x in (peak, spread)] for name, function in LOSSES.items()}
    assert losses["soft_cross_entropy"][0] > losses["soft_cross_entropy"][1]
    assert float(acceptance_probability(peak, p)) > float(acceptance_probability(spread, p))
    assert losses["lk_alpha"][0] < losses["lk_alpha"][1]
