"""The meter of `scripts/dev/train_speed.py`: peaks, not sums; only what is new."""

import torch

from scripts.dev.peak_memory import peak_bytes


def test_counts_what_lives_together():
    old = torch.ones(1000)

    def work():
        a = torch.ones(1000) + old
        del a
        b = old.view(10, 100)
        return torch.ones(500), b

    assert peak_bytes(work, torch.device("cpu")) == 8000


def test_counts_what_autograd_keeps():
    x = torch.ones(1000, requires_grad=True)
    x.grad = torch.zeros(1000)
    assert peak_bytes(lambda: x.exp().exp().exp(), torch.device("cpu")) == 12000
    assert peak_bytes(lambda: x.detach().exp().exp().exp(), torch.device("cpu")) == 8000
