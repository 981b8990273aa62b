"""The dry run's numbers: exact where they can be, else measured against what really happens."""

import weakref
from dataclasses import replace

import pytest
import torch
from conftest import make_draft
from model_configs import MODELS
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoConfig, Qwen3MoeConfig, Qwen3MoeForCausalLM

from vlm_eagle.draft.config import Eagle3Config
from vlm_eagle.target.load import load_target
from vlm_eagle.training.advice import Plan, advise, most_supervised
from vlm_eagle.training.arithmetic import decoder_flops, estimate_arithmetic
from vlm_eagle.training.estimate import estimate_memory, optimizer_bytes, store_bytes, weight_bytes
from vlm_eagle.training.feature_format import split
from vlm_eagle.training.feature_store import FeatureWriter
from vlm_eagle.training.optim import build_optimizers
from vlm_eagle.training.sizes import draft_sizes, target_sizes
from vlm_eagle.training.workload import Workload, total

WORK = Workload(
    batch_size=1, gradient_accumulation_steps=1, max_length=256, ttt_length=7, supervised_fraction=0.15, autocast=False
)


def config_of(name):
    row, published = MODELS[name]
    return AutoConfig.for_model(**row), published


def plan_for(name, draft_vocab_size=32_000, **work):
    config, _ = config_of(name)
    text = config.get_text_config()
    draft = draft_sizes(Eagle3Config.for_target(text, (4, text.num_hidden_layers // 2, 25), draft_vocab_size))
    return Plan(target=target_sizes(config), draft=draft, work=replace(WORK, autocast=True, **work))


@pytest.fixture(scope="module")
def demo():
    return load_target("demo", dtype="float32")


def count(module):
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize("name", MODELS)
def test_real_targets_have_their_published_sizes(name):
    config, published = config_of(name)
    assert target_sizes(config).parameters == published


def test_parameters_are_those_of_the_model(demo, text_target):
    for target in (demo, text_target):
        sizes = target_sizes(target.model.config, "float32")
        assert sizes.parameters == count(target.model)
        assert sizes.embedding == target.embed_tokens.weight.numel()
        assert (sizes.head, sizes.active) == (0, sizes.decoder)
        assert sizes.decoder == count(target.decoder) - sizes.embedding
        assert weight_bytes(sizes, WORK) == sum(p.numel() * p.element_size() for p in target.model.parameters())
        assert weight_bytes(sizes, replace(WORK, offline=True)) == target.embed_tokens.weight.nbytes
    vision = target_sizes(demo.model.config, "bfloat16")
    assert vision.vision.parameters == count(demo.model.model.visual)
    assert weight_bytes(vision, WORK) == 2 * count(demo.model)
    without = load_target("demo", dtype="bfloat16", llm_only=True)
    assert weight_bytes(vision, replace(WORK, llm_only=True)) == sum(p.nbytes for p in without.model.parameters())


def test_a_shared_target(demo):
    """Each of eight devices holds an eighth of the layers, and two whole ones while the target runs."""
    sizes, shared = target_sizes(demo.model.config, "float32"), replace(WORK, processes=8, target_sharded=True)
    layers, rest = count(demo.decoder.layers), count(demo.model) - count(demo.decoder.layers)
    assert weight_bytes(sizes, shared) == pytest.approx(4 * (rest + layers / 8), rel=1e-3)
    draft = draft_sizes(Eagle3Config.for_target(demo.config, demo.layer_ids, 100))
    whole, split = (dict(estimate_memory(sizes, draft, work).forward) for work in (replace(WORK, processes=8), shared))
    more = {name: size for name, size in split.items() if name not in whole}
    assert list(more.values()) == [pytest.approx(8 * count(demo.decoder.layers[0]), rel=1e-2)]


def test_active_parameters_of_experts():
    config = Qwen3MoeConfig(
        vocab_size=300, hidden_size=32, intermediate_size=64, moe_intermediate_size=16, num_hidden_layers=3, num_experts=8,
        num_experts_per_tok=2, num_attention_heads=4, num_key_value_heads=2, head_dim=8, tie_word_embeddings=False,
    )  # fmt: skip
    sizes, model = target_sizes(config), Qwen3MoeForCausalLM(config)
    experts = 3 * 8 * 3 * 32 * 16
    assert sizes.parameters == count(model)
    assert sizes.active == sizes.decoder - experts * 6 // 8
    norms = sum(p.numel() for p in model.model.parameters() if p.ndim == 1)
    assert sizes.active_matrices == sizes.active - norms


@pytest.mark.parametrize("optimizer", ["muon", "adamw"])
def test_draft_and_optimizer_are_exact(target, optimizer):
    draft = make_draft(target)
    sizes = draft_sizes(draft.config)
    assert sizes.parameters == count(draft)
    assert sizes.parts["lm_head"] == draft.lm_head.weight.numel()
    assert sizes.parts["attention"] == count(draft.midlayer.self_attn)
    optimizers = build_optimizers(draft, optimizer=optimizer, lr=1e-3, weight_decay=0.0)
    sum(p.square().sum() for p in draft.parameters()).backward()
    for o in optimizers:
        o.step()
    state = [t for o in optimizers for values in o.state.values() for t in values.values()]
    assert optimizer_bytes(sizes, optimizer) == sum(t.nbytes for t in state if t.ndim)  # step counters are on the host
    held = dict(estimate_memory(target_sizes(target.model.config), sizes, replace(WORK, optimizer=optimizer)).held)
    assert held["draft's weights, float32"] == sum(p.nbytes for p in draft.parameters())
    assert held["gradients, float32"] == sum(p.grad.nbytes for p in draft.parameters())
    assert held["optimizer's state"] == optimizer_bytes(sizes, optimizer)


def text_forward(target, length):
    ids = torch.randint(0, 1000, (1, length))
    positions = torch.arange(length).expand(3, 1, -1)
    with torch.no_grad():
        target.decoder(input_ids=ids, attention_mask=torch.ones_like(ids), position_ids=positions, use_cache=False)


@pytest.mark.parametrize("length", [128, 512])
def test_flops_of_the_target(demo, length):
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):  # torch 2.9 does not count the fused one
        text_forward(demo, length)
    sizes = target_sizes(demo.model.config)
    assert decoder_flops(sizes, replace(WORK, max_length=length)) == pytest.approx(counter.get_total_flops(), rel=0.05)


class LiveBytes(TorchDispatchMode):
    """The largest number of bytes alive at one time, of all tensors made inside."""

    def __init__(self, known):
        super().__init__()
        self.now = self.peak = 0
        self.sizes = {tensor.untyped_storage()._cdata: 0 for tensor in known}

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        made = function(*args, **(kwargs or {}))
        for storage in [t.untyped_storage() for t in tree_leaves(made) if isinstance(t, torch.Tensor)]:
            if storage._cdata not in self.sizes:
                self.sizes[storage._cdata] = storage.nbytes()
                self.now += storage.nbytes()
                self.peak = max(self.peak, self.now)
                weakref.finalize(storage, self._free, storage._cdata)
        return made

    def _free(self, key):
        self.now -= self.sizes.pop(key)


def test_activations_of_the_target(demo):
    length = 512
    with LiveBytes(demo.model.parameters()) as live:
        text_forward(demo, length)
    memory = estimate_memory(target_sizes(demo.model.config, "float32"), PLAN.draft, replace(WORK, max_length=length))
    activations = dict(memory.forward)["target's activations"]
    assert activations == pytest.approx(live.peak, rel=0.1)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float8"])
def test_disk_of_captured_features(target, mixed_batch, tmp_path, dtype):
    """The store also holds token ids and masks, which are not counted, and no row behind the last supervised one."""
    features = target.features(mixed_batch, visual=True)
    writer = FeatureWriter(tmp_path, 0, torch.float8_e4m3fn if dtype == "float8" else getattr(torch, dtype), visual=True)
    kept = [writer._tensors(sample) for sample in split(features)]
    stored = sum(t.nbytes for tensors in kept for name, t in tensors.items() if t.is_floating_point())
    tokens = sum(len(tensors["input_ids"]) for tensors in kept)
    supervised, visual = (sum(len(tensors[name]) for tensors in kept) / tokens for name in ("last_hidden", "visual"))
    assert store_bytes(target_sizes(target.model.config), tokens, supervised, visual, dtype) == stored


def test_features_and_pixels_on_the_device(target, mixed_batch):
    """One micro-batch of a step at a time is on a GPU; on a CPU the others wait in the same memory."""
    sizes, features = target_sizes(target.model.config, "float32"), target.features(mixed_batch, visual=True)
    (b, t), images = features.input_ids.shape, int(features.visual_mask.sum())
    work = replace(
        WORK, batch_size=b, max_length=t, supervised_fraction=len(features.last_hidden) / (b * t), visual=True,
        image_fraction=images / (b * t), gradient_accumulation_steps=4,
    )  # fmt: skip
    estimate = lambda **how: estimate_memory(sizes, draft_sizes(make_draft(target).config), replace(work, **how))
    pixels = mixed_batch.vision_inputs["pixel_values"].nbytes
    one = sum(x.nbytes for x in (features.aux_hidden, features.last_hidden, features.visual))
    for how, inputs in (({}, pixels), ({"offline": True}, one), ({"fill": True}, one)):
        gpu, cpu, alone = (
            estimate(**how, device="cuda"),
            estimate(**how, device="cpu"),
            estimate(**how, gradient_accumulation_steps=1),
        )
        assert total(cpu.held) - total(gpu.held) == 3 * inputs
        assert gpu.held == alone.held
        names = ("aux hidden states", "last hidden states where supervised", "visual embeddings")
        assert sum(dict(gpu.loss)[name] for name in names) == one
        assert dict(gpu.forward).get("pixels", 0) == (0 if "offline" in how else pixels)
    assert dict(estimate(fill=True).held)["target's weights"] == dict(estimate().held)["target's weights"]


PLAN = plan_for("Qwen/Qwen3-VL-2B-Instruct", batch_size=4, max_length=4096, image_fraction=0.5)


def test_advice_helps_and_is_in_order():
    large = replace(
        PLAN,
        target=replace(PLAN.target, value_bytes=4),
        work=replace(PLAN.work, optimizer="adamw", processes=4, gradient_accumulation_steps=2, supervised_fraction=0.3),
    )
    changes = advise(large)
    words = ["--gradient-accumulation-steps 8", "gradient-checkpointing", "bfloat16", "muon", "length 2048", "16000"]
    words += ["--shard-target", "vlm-eagle capture", "--shard "]
    assert all(word in advice.text for word, advice in zip(words, changes, strict=True))
    assert all(advice.alone.peak < large.peak for advice in changes)
    peaks = [large.peak, *(advice.so_far.peak for advice in changes)]
    assert peaks == sorted(peaks, reverse=True)


def test_only_advice_that_helps_is_given():
    small = replace(PLAN, work=replace(PLAN.work, batch_size=1, max_length=512, autocast=False))
    words = ["--draft.gradient-checkpointing:", "--draft.vocab-size", "vlm-eagle"]
    assert [a.text.split()[0] for a in advise(small)] == words
    offline = replace(small, work=replace(small.work, offline=True, gradient_checkpointing=True))
    assert [a.text.split()[0] for a in advise(offline)] == ["--draft.vocab-size"]


def test_most_supervised_is_the_last_that_fits():
    most = most_supervised(PLAN, 16 * 2**30)
    assert 0 < most < 1
    peaks = [replace(PLAN, work=replace(PLAN.work, supervised_fraction=most + more)).peak for more in (0, 0.01)]
    assert peaks[0] <= 16 * 2**30 < peaks[1]
    assert (most_supervised(PLAN, 2**30), most_supervised(PLAN, 2**40)) == (0, 1)


def test_offline_loads_and_runs_no_layers():
    offline = replace(PLAN.work, offline=True)
    memory = estimate_memory(PLAN.target, PLAN.draft, offline)
    assert memory.forward == ()
    assert estimate_arithmetic(PLAN.target, PLAN.draft, offline).floor == 0


def test_a_shared_draft_is_held_in_parts():
    alone, copies, shared = (
        dict(estimate_memory(PLAN.target, PLAN.draft, replace(PLAN.work, **how)).held)
        for how in ({}, {"processes": 4}, {"processes": 4, "sharded": True})
    )
    for name in ("draft's weights, float32", "gradients, float32", "optimizer's state"):
        assert shared[name] == alone[name] // 4 < copies[name] == alone[name]
    assert {*copies} - {*alone} == {"gradients on their way to other devices"}
    assert {*shared} == {*alone}


def test_accumulation_costs_arithmetic_alone():
    """Memory of a GPU does not depend on it."""
    once, often = PLAN, replace(PLAN, work=replace(PLAN.work, gradient_accumulation_steps=8))
    memories = [estimate_memory(p.target, p.draft, p.work) for p in (once, often)]
    assert memories[0] == memories[1]
    flops = [estimate_arithmetic(p.target, p.draft, p.work) for p in (once, often)]
    assert flops[1].step - flops[1].optimizer == 8 * (flops[0].step - flops[0].optimizer)
    assert flops[0].floor < flops[0].step < 2 * flops[0].floor
