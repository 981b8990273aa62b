"""Which parameters each optimizer gets, how far they move, and the schedule over both."""

import pytest
import torch
from torch import nn

from vlm_eagle.devices import product_dtype
from vlm_eagle.training.muon import Muon, orthogonalise
from vlm_eagle.training.optim import build_optimizers, clip_gradients, lr_scale, split_parameters

LR, DECAY = 1e-2, 0.5


class Small(nn.Module):
    """A matrix, a vocabulary and a vector, with the names that the draft's have."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.fc, self.lm_head, self.norm = nn.Linear(16, 64, bias=False), nn.Linear(16, 50, bias=False), nn.RMSNorm(16)


def moved(optimizer, weight_decay, gradient):
    """Of every parameter, before and after one step."""
    model = Small()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimizers = build_optimizers(model, optimizer=optimizer, lr=LR, weight_decay=weight_decay)
    for p in model.parameters():
        p.grad = gradient(p)
    for each in optimizers:
        each.step()
    return {name: (before[name], p.detach()) for name, p in model.named_parameters()}


def test_muon_gets_matrices_but_no_vocabulary(draft):
    muon, adamw = split_parameters(draft.named_parameters())
    assert {id(p) for p in muon} == {id(p) for n, p in draft.named_parameters() if p.ndim == 2 and n != "lm_head.weight"}
    assert len(muon) + len(adamw) == len(list(draft.parameters()))
    kinds = [type(o).__name__ for o in build_optimizers(draft, optimizer="muon", lr=1e-3, weight_decay=0.1)]
    assert kinds == ["Muon", "AdamW"]


@pytest.mark.parametrize("optimizer", ["muon", "adamw"])
def test_matrices_decay_and_vectors_do_not(optimizer):
    for name, (before, after) in moved(optimizer, DECAY, torch.zeros_like).items():
        torch.testing.assert_close(after, before * (1 if name == "norm.weight" else 1 - LR * DECAY))


def test_muon_moves_a_matrix_about_as_far_as_adamw():
    """By 0.2 of the learning rate (root mean square), whatever the matrix's shape: so one learning rate serves both."""
    before, after = moved("muon", 0.0, torch.randn_like)["fc.weight"]
    assert float((after - before).square().mean().sqrt()) == pytest.approx(0.2 * LR, rel=0.2)


@pytest.mark.parametrize("shape", [(64, 16), (16, 64), (32, 32)])
def test_muon_takes_the_steps_of_torchs(shape):
    """Which orthogonalises in bfloat16; in float32 the same steps are taken but for that rounding."""
    torch.manual_seed(1)
    start, gradients = torch.randn(shape), [torch.randn(shape) for _ in range(4)]

    def after(build):
        weight = nn.Parameter(start.clone())
        optimizer = build([weight])
        for gradient in gradients:
            weight.grad = gradient.clone()
            optimizer.step()
        return weight.detach() - start

    options = {"lr": LR, "weight_decay": DECAY}
    torchs = after(lambda p: torch.optim.Muon(p, **options, adjust_lr_fn="match_rms_adamw"))
    torch.testing.assert_close(after(lambda p: Muon(p, **options, precision="bfloat16")), torchs, rtol=1e-5, atol=1e-7)
    ours = after(lambda p: Muon(p, **options, precision="float32"))
    assert 0 < (ours - torchs).norm() < 0.02 * torchs.norm()


def test_orthogonalising_moves_singular_values_alone():
    """By the quintic, applied five times to each of them: that is what the matrix products amount to."""
    torch.manual_seed(2)
    matrix = torch.randn(24, 40, dtype=torch.float64)
    u, values, v = torch.linalg.svd(matrix, full_matrices=False)
    values = values / values.norm()
    for _ in range(5):
        values = 3.4445 * values - 4.7750 * values**3 + 2.0315 * values**5
    torch.testing.assert_close(orthogonalise(matrix, torch.float64), u @ values.diag() @ v)
    torch.testing.assert_close(orthogonalise(matrix.T, torch.float64), (u @ values.diag() @ v).T)


def test_a_cpu_orthogonalises_in_float32(draft):
    """However well it does bfloat16: a run's numbers do not depend on that."""
    assert product_dtype(torch.device("cpu")) == torch.float32
    muon, _ = build_optimizers(draft, optimizer="muon", lr=1e-3, weight_decay=0.0)
    assert {group["precision"] for group in muon.param_groups} == {"float32"}


def test_clipping():
    model = Small()
    for p in model.parameters():
        p.grad = torch.randn_like(p)
    norm = lambda: float(torch.cat([p.grad.flatten() for p in model.parameters()]).norm())
    before = norm()
    assert float(clip_gradients(model, 2.0)) == pytest.approx(before)
    assert norm() == pytest.approx(2.0, rel=1e-4)
    assert float(clip_gradients(model, 3.0)) == pytest.approx(norm()) == pytest.approx(2.0, rel=1e-4)


def test_schedules():
    for name, middle, late, end in [("cosine", 0.55, 0.122, 0.1), ("constant", 1.0, 1.0, 1.0), ("wsd", 1.0, 0.5, 0.0)]:
        scale = lr_scale(name, 10, 110)
        assert scale(0) == pytest.approx(1 / 11)
        assert scale(9) == pytest.approx(10 / 11)
        assert scale(60) == pytest.approx(middle)
        assert scale(100) == pytest.approx(late, abs=1e-3)
        assert scale(110) == scale(150) == pytest.approx(end)
