"""The two faults of the baseline recipe, and how an arm of the ablation is captured, trained and scored."""

from collections import defaultdict
from pathlib import Path

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

SAMPLINGS = {"T=0": Sampling(), "T=1": Sampling(temperature=1.0)}


class BaselineTrainer(Trainer):
    """Divides by all tokens of the batch."""

    def normaliser(self, batch: Batch | TargetFeatures) -> torch.Tensor:
        """(S,) int64, B x T."""
        return torch.full((self.config.draft.ttt_length,), batch.input_ids.numel(), device=batch.input_ids.device)


class LateMask(VisionCollator):
    """Position i learns iff x_i is an answer token; exact would be x_{i+2}."""

    def encode(self, conversation):
        """One sample with its mask two positions late."""
        encoded = super().encode(conversation)
        mask = encoded["loss_mask"].roll(2, dims=1)
        mask[:, :2] = mask[:, -1] = False
        return {**encoded, "loss_mask": mask}


def train(run: TrainConfig, is_baseline: bool, accelerator: Accelerator) -> None:
    """Captures what is not there yet and trains; the baseline with the late mask and the division by all tokens."""
    data = OnlineData(run, accelerator)
    if is_baseline:
        data.collator = LateMask(data.target.processor, max_length=run.data.max_length)
    for source in (data.capturing_source("train"), data.capturing_source("eval")):
        source.capture(range(len(source.dataset)), 8)
    kind = BaselineTrainer if is_baseline else Trainer
    kind(run, build_setup(run, accelerator), accelerator, Console(quiet=True)).train()


def score(target: Target, folder: Path, limit: int) -> dict[str, float]:
    """Acceptance lengths by kind of prompt and temperature."""
    draft = Eagle3Draft.from_pretrained(folder).to(target.device)
    collator = VisionCollator(target.processor, for_generation=True)
    sums: dict[str, AcceptanceStats] = defaultdict(AcceptanceStats)
    for name in default_names(False):
        for number, prompt in enumerate(load_benchmark(name, limit).prompts):
            batch = collator([prompt.conversation]).to(target.device)
            kind = "images" if prompt.conversation.has_media else "text"
            for label, sampling in SAMPLINGS.items():
                settings = Settings(
                    shape=TreeShape(8), sampling=sampling, sampled_drafts=sampling.temperature > 0, max_new_tokens=160,
                    seed=number,
                )  # fmt: skip
                (answer,) = generate(target, batch, draft, settings)
                for key in (f"{label} {kind}", f"{label} all"):
                    sums[key] += answer.stats
    return {key: stats.acceptance_length for key, stats in sorted(sums.items())}
