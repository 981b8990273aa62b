"""Which device is taken, and that one without float64 is never asked for it."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from vlm_eagle import devices
from vlm_eagle.decoding import sampling
from vlm_eagle.decoding.generate import Settings, generate
from vlm_eagle.devices import default_device, has_float64, model_dtype, named_device, product_dtype
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


@pytest.mark.parametrize("fast", [True, False])
def test_a_gpu_multiplies_in_bfloat16_if_it_can(monkeypatch, fast):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: fast and not including_emulation)
    assert product_dtype(torch.device("cuda")) == (torch.bfloat16 if fast else torch.float32)
    assert product_dtype(torch.device("mps")) == product_dtype(torch.device("cpu")) == torch.float32


def test_auto_is_float32_on_a_cpu_alone(monkeypatch, caplog):
    monkeypatch.setattr(devices, "is_slow", lambda dtype: dtype == torch.bfloat16)
    places = ("cpu", torch.device("cpu"), "cuda", "balanced")
    assert [model_dtype("auto", place) for place in places] == ["float32", "float32", "auto", "auto"]
    assert [model_dtype(name, "cpu") for name in ("float32", "float16")] == ["float32", "float16"]
    assert not caplog.records
    assert model_dtype("bfloat16", "cpu") == "bfloat16"
    assert "many times slower in bfloat16" in caplog.text


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
    acceptance, (tokens,), _ = over_ranks(Alone(), many, (2**26 + 1,))
    assert (int(acceptance.correct), int(acceptance.rows), tokens) == (2**24 + 1, 2**25 + 3, 2**26 + 1)


@pytest.mark.slow
def test_decoding_needs_no_float64(monkeypatch, target, draft, mixed_batch):
    """Greedy decoding makes none; drawing makes them on the host, with the same result."""
    options = {"max_new_tokens": 6, "seed": 3}
    warm = options | {"sampling": sampling.Sampling(temperature=1.0, top_p=0.9)}
    before = [[answer.tokens for answer in generate(target, mixed_batch, draft, Settings(**o))] for o in (options, warm)]
    monkeypatch.setattr(sampling, "has_float64", lambda device: False)
    assert sampling.uniform_numbers([0], 2, 3, torch.device("cpu")).dtype == torch.float32
    with NoFloat64():
        assert [answer.tokens for answer in generate(target, mixed_batch, draft, Settings(**options))] == before[0]
    assert [answer.tokens for answer in generate(target, mixed_batch, draft, Settings(**warm))] == before[1]
