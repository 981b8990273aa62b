"""Which device is taken, and that one without float64 is never asked for it."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from vlm_eagle import devices
from vlm_eagle.decoding import sampling
from vlm_eagle.decoding.generate import generate
from vlm_eagle.devices import default_device, has_float64, named_device
from vlm_eagle.errors import UserError
from vlm_eagle.training.metrics import StepAcceptance, over_ranks
from vlm_eagle.training.optim import build_optimizers
from vlm_eagle.training.ttt import ttt_loss


@pytest.mark.parametrize(
    ("found", "asked", "taken"),
    [(None, None, "cpu"), ("cuda", None, "cuda"), ("xpu", None, "xpu"), ("mps", None, "cpu"), ("mps", "meta", "meta"),
     ("cuda", "cpu", "cpu")],
)  # fmt: skip
def test_default_device(monkeypatch, found, asked, taken):
    monkeypatch.delenv("ACCELERATE_TORCH_DEVICE", raising=False)
    if asked:
        monkeypatch.setenv("ACCELERATE_TORCH_DEVICE", asked)
    device = torch.device(found) if found else None
    monkeypatch.setattr(devices.torch.accelerator, "current_accelerator", lambda check_available: device)
    assert default_device() == torch.device(taken)


def test_named_device(monkeypatch):
    monkeypatch.setattr(devices, "default_device", lambda: torch.device("meta"))
    assert named_device("auto") == torch.device("meta")
    assert named_device("cpu") == torch.device("cpu")
    for wrong in ("foo", "cuda:77"):
        with pytest.raises(UserError, match=f"no device '{wrong}'"):
            named_device(wrong)


class NoFloat64(TorchDispatchMode):
    """Refuses every operation that makes a float64 tensor, as Apple's GPUs do. Empty ones hold no numbers."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            assert not (isinstance(tensor, torch.Tensor) and tensor.dtype == torch.float64 and tensor.numel()), func
        return out


def test_training_needs_no_float64(target, draft, mixed_batch):
    assert not has_float64(torch.device("mps"))
    with NoFloat64():
        features = target.features(mixed_batch)
        ttt_loss(draft, features, target.embed_tokens, target.logits, ttt_length=3, decay=0.9).loss.backward()
        for optimizer in build_optimizers(draft, optimizer="muon", lr=0.0, weight_decay=0.0):
            optimizer.step()
            optimizer.zero_grad()


def test_sums_are_exact_and_stay_on_the_host_of_a_single_process():
    class Alone:
        num_processes = 1

    many = StepAcceptance(torch.tensor([2**24 + 1]), torch.tensor([2**25 + 3]))  # float32 would round them
    acceptance, tokens = over_ranks(Alone(), many, 2**26 + 1)
    assert (int(acceptance.correct), int(acceptance.rows), tokens) == (2**24 + 1, 2**25 + 3, 2**26 + 1)


def test_decoding_needs_no_float64(monkeypatch, target, draft, mixed_batch):
    """Greedy decoding makes none; drawing makes them on the host, with the same result."""
    options = {"max_new_tokens": 6, "seed": 3}
    warm = options | {"sampling": sampling.Sampling(temperature=1.0, top_p=0.9)}
    before = [[answer.tokens for answer in generate(target, mixed_batch, draft, **o)] for o in (options, warm)]
    monkeypatch.setattr(sampling, "has_float64", lambda device: False)
    assert sampling.Uniforms([0], 2, 3, torch.device("cpu")).blocks.dtype == torch.float32
    with NoFloat64():
        assert [answer.tokens for answer in generate(target, mixed_batch, draft, **options)] == before[0]
    assert [answer.tokens for answer in generate(target, mixed_batch, draft, **warm)] == before[1]
