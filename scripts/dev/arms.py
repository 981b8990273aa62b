"""The two faults of the trainers in use, and how an arm of the ablation is captured, trained and scored."""

from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from rich.console import Console

from vlm_eagle.config import TrainConfig
from vlm_eagle.data.collator import VisionCollator
from vlm_eagle.decoding.generate import Settings, generate
from vlm_eagle.decoding.options import Sampling, TreeShape
from vlm_eagle.decoding.stats import AcceptanceStats
from vlm_eagle.demo.benchmarks import default_names, load_benchmark
from vlm_eagle.draft.model import Eagle3Draft
from vlm_eagle.records import Batch, TargetFeatures
from vlm_eagle.target.target import Target
from vlm_eagle.training.setup import OnlineData, build_setup
from vlm_eagle.training.trainer import Trainer

_WAYS: dict[str, dict[str, Any]] = {
    "T=0": {},
    "T=1": {"sampling": Sampling(temperature=1.0), "sampled_drafts": True},
}


class PeerTrainer(Trainer):
    """Divides by all tokens of the batch."""

    def normaliser(self, batch: Batch | TargetFeatures) -> torch.Tensor:
        """(S,) int64, B x T."""
        return torch.full((self.config.draft.ttt_length,), batch.input_ids.numel(), device=batch.input_ids.device)


class LateMask(VisionCollator):
    """Row i learns iff x_i is an answer token; exact would be x_{i+2}."""

    def encode(self, conversation):
        """One sample with its mask two positions late."""
        encoded = super().encode(conversation)
        mask = encoded["loss_mask"].roll(2, dims=1)
        mask[:, :2] = mask[:, -1] = False
        return {**encoded, "loss_mask": mask}


def train(run: TrainConfig, peers: bool, accelerator: Accelerator) -> None:
    """Captures what is not there yet and trains; `peers`: with the late mask and the division by all tokens."""
    _capture(run, peers, accelerator)
    kind = PeerTrainer if peers else Trainer
    kind(run, build_setup(run, accelerator), accelerator, Console(quiet=True)).train()


def _capture(run: TrainConfig, late: bool, accelerator: Accelerator) -> None:
    data = OnlineData(run, accelerator)
    if late:
        data.collator = LateMask(data.target.processor, max_length=run.data.max_length)
    for source in (data.capturing_source("train"), data.capturing_source("eval")):
        source.capture(range(len(source.dataset)), 8)


def score(target: Target, folder: Path, limit: int) -> dict[str, float]:
    """Acceptance lengths by kind of prompt and temperature."""
    draft = Eagle3Draft.from_pretrained(folder).to(target.device)
    collator = VisionCollator(target.processor, for_generation=True)
    sums: dict[str, AcceptanceStats] = {}
    for name in default_names(False):
        for number, prompt in enumerate(load_benchmark(name, limit).prompts):
            batch = collator([prompt.conversation]).to(target.device)
            kind = "images" if "image_grid_thw" in batch.vision_inputs else "text"
            for label, options in _WAYS.items():
                (answer,) = generate(
                    target, batch, draft, Settings(shape=TreeShape(8), max_new_tokens=160, seed=number, **options)
                )
                for key in (f"{label} {kind}", f"{label} all"):
                    stats = sums.setdefault(key, AcceptanceStats())
                    stats += answer.stats
    return {key: stats.acceptance_length for key, stats in sorted(sums.items())}
