"""How the shipped demo target is made: a Qwen3-VL in every mechanism, 8 million parameters in size.

`build` makes the untrained model with its processor, `train` teaches it the demo tasks. `scripts/dev/make_demo_target.py` runs
both, and `vision_eval.py` measures on held-out scenes whether it sees; the result is in `vlm_eagle/demo/target/`.
"""

import json
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch.nn import functional as F
from torch.utils.data import DataLoader, IterableDataset, get_worker_info
from transformers import AutoProcessor, Qwen3VLConfig, Qwen3VLForConditionalGeneration, Qwen3VLProcessor

from vlm_eagle.data.collator import VisionCollator
from vlm_eagle.data.conversation import Conversation, ImagePart, TextPart
from vlm_eagle.demo import mix
from vlm_eagle.demo.tokenizer import build_processor, train_tokenizer
from vlm_eagle.devices import is_slow
from vlm_eagle.provenance import write_json
from vlm_eagle.records import Batch
from vlm_eagle.training.optim import build_optimizers, clip_gradients, lr_scale

TRAIN_SEEDS = range(10_000_000, 2_000_000_000)  # seeds below are for draft training and held-out prompts
VOCAB_SIZE = 1280
WEIGHTS = {"describe": 4, "vqa": 4, "multi-image": 2, "arithmetic": 3, "code": 1, "chinese": 1, "chinese-image": 2}


def build(seed: int) -> tuple[Qwen3VLForConditionalGeneration, Qwen3VLProcessor]:
    """The untrained model and its processor; the tokenizer is trained on the demo's own texts."""
    corpus = [_text(mix.sample(task, TRAIN_SEEDS.start + i)) for task in mix.TASKS for i in range(2000)]
    processor = build_processor(train_tokenizer(corpus, VOCAB_SIZE))
    torch.manual_seed(seed)
    return Qwen3VLForConditionalGeneration(demo_config(processor)), processor


def load(folder: str) -> tuple[Qwen3VLForConditionalGeneration, Qwen3VLProcessor]:
    """An earlier result, in float32, to go on from."""
    model = Qwen3VLForConditionalGeneration.from_pretrained(folder, dtype=torch.float32)
    return model, AutoProcessor.from_pretrained(folder)


def demo_config(processor: Qwen3VLProcessor) -> Qwen3VLConfig:
    """Two DeepStack levels and eight layers, so that the default aux layer ids are 3, 4, 5."""
    ids = processor.tokenizer.convert_tokens_to_ids
    return Qwen3VLConfig(
        text_config={
            "vocab_size": VOCAB_SIZE, "hidden_size": 256, "intermediate_size": 640, "num_hidden_layers": 8,
            "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 64, "max_position_embeddings": 4096,
            "rope_parameters": {
                "rope_type": "default", "rope_theta": 100_000.0, "mrope_section": [12, 10, 10], "mrope_interleaved": True
            },
            "tie_word_embeddings": True, "bos_token_id": None, "eos_token_id": ids("<|im_end|>"),
            "pad_token_id": ids("<|endoftext|>"),
        },
        vision_config={
            "depth": 4, "hidden_size": 128, "intermediate_size": 384, "num_heads": 4, "patch_size": 16,
            "out_hidden_size": 256, "num_position_embeddings": 64, "deepstack_visual_indexes": [1, 2],
        },
        image_token_id=ids("<|image_pad|>"), video_token_id=ids("<|video_pad|>"),
        vision_start_token_id=ids("<|vision_start|>"), vision_end_token_id=ids("<|vision_end|>"),
        tie_word_embeddings=True,
    )  # fmt: skip


class _Stream(IterableDataset):
    """Endless demo conversations in batches of similar length; one question and one image each for the first batches."""

    POOL = 8  # batches that are sorted by length together, so that little is padded

    def __init__(self, batch_size: int, seed: int, easy_batches: int):
        self.batch_size, self.seed, self.easy = batch_size, seed, easy_batches

    def __iter__(self) -> Iterator[list[Conversation]]:
        worker = get_worker_info()
        rng = random.Random(f"{self.seed}-{worker.id if worker else 0}")
        made = 0
        while True:
            pool = sorted((self._sample(rng, made < self.easy) for _ in range(self.POOL * self.batch_size)), key=_length)
            batches = [pool[i : i + self.batch_size] for i in range(0, len(pool), self.batch_size)]
            rng.shuffle(batches)
            yield from batches
            made += len(batches)

    def _sample(self, rng: random.Random, easy: bool) -> Conversation:
        if easy:
            return mix.sample(rng.choice(["describe", "vqa", "chinese-image", "code"]), rng.choice(TRAIN_SEEDS))
        task = rng.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]
        turns = 1 if task in mix.TEXT_TASKS else rng.randint(1, 3)  # text answers are long already
        return mix.sample(task, rng.choice(TRAIN_SEEDS), turns)


def _length(conversation: Conversation) -> int:
    images = sum(isinstance(p, ImagePart) for m in conversation.messages for p in m.content)
    return len(_text(conversation)) + 50 * images


def train(
    model: Qwen3VLForConditionalGeneration,
    processor: Qwen3VLProcessor,
    *,
    steps: int,
    batch_size: int,
    lr: float,
    seed: int,
    easy_batches: int,
    checkpoint: Path,
    console: Console,
) -> list[dict]:
    """Teaches the demo tasks, the simpler ones alone for the first `easy_batches`; returns the log (step, loss per answer
    token, seconds). Saves to `checkpoint` now and then."""
    batches = DataLoader(
        _Stream(batch_size, seed, easy_batches),
        batch_size=None, num_workers=1, prefetch_factor=4, collate_fn=VisionCollator(processor),
    )  # fmt: skip
    optimizers = build_optimizers(model, optimizer="muon", lr=lr, weight_decay=0.01)
    scale = lr_scale("cosine", warmup=100, total=steps)
    log, recent, started = [], [], time.time()
    model.train()
    for step, batch in zip(range(1, steps + 1), batches, strict=False):
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = lr * scale(step)
        with torch.autocast("cpu", torch.bfloat16, enabled=not is_slow(torch.bfloat16)):
            loss = answer_loss(model, batch)
        loss.backward()
        clip_gradients(model, 1.0)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        recent.append(loss.item())
        if step % 50 == 0 or step == steps:
            log.append({"step": step, "loss": round(sum(recent) / len(recent), 4), "seconds": round(time.time() - started)})
            console.print(log[-1])
            recent = []
        if step % 500 == 0:
            save(model, processor, checkpoint)
    return log


def answer_loss(model: Qwen3VLForConditionalGeneration, batch: Batch) -> torch.Tensor:
    """Mean cross-entropy per answer token, a 0-d tensor. Logits are made at supervised positions only."""
    output = model.model(input_ids=batch.input_ids, attention_mask=batch.attention_mask, **batch.vision_inputs)
    logits = model.lm_head(output.last_hidden_state[batch.loss_mask])
    return F.cross_entropy(logits.float(), batch.input_ids.roll(-1, dims=1)[batch.loss_mask])


def save(model: Qwen3VLForConditionalGeneration, processor: Qwen3VLProcessor, folder: Path) -> None:
    """Writes the model in bfloat16 (half the size; every later run starts from these weights) with its processor."""
    weights = {name: value.to(torch.bfloat16) for name, value in model.state_dict().items()}
    if model.config.tie_word_embeddings:
        weights.pop("lm_head.weight", None)
    copy: Any = Qwen3VLForConditionalGeneration(model.config)
    copy.to(torch.bfloat16)
    copy.load_state_dict(weights, strict=False)
    copy.generation_config.eos_token_id = processor.tokenizer.convert_tokens_to_ids("<|im_end|>")
    copy.generation_config.pad_token_id = processor.tokenizer.pad_token_id
    copy.save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text())
    config["vision_config"].pop("rope_parameters", None)  # the default, by a name that older versions warn of
    write_json(folder / "config.json", config)
    processor.save_pretrained(folder)


def _text(conversation: Conversation) -> str:
    return "\n".join(p.text for m in conversation.messages for p in m.content if isinstance(p, TextPart))
