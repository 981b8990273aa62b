"""Small training runs."""

import torch
from accelerate import Accelerator
from rich.console import Console

from vlm_eagle.config import DataConfig, DraftConfig, OptimConfig, TrainConfig
from vlm_eagle.training.setup import build_setup
from vlm_eagle.training.trainer import Trainer


def configure(data, out, **options):
    return TrainConfig(
        target=str(data / "target"), out=str(out), target_dtype="float32", batch_size=options.pop("batch_size", 4),
        data=DataConfig(train=[str(data / "train.jsonl")], eval=[str(data / "held_out.jsonl")], num_workers=0),
        draft=DraftConfig(vocab_size=300, ttt_length=3, dtype="float32"),
        optim=OptimConfig(lr=options.pop("lr", 3e-3), optimizer=options.pop("optimizer", "muon")),
        **{"max_steps": 4, "epochs": 10, "eval_steps": 2, "save_steps": 2, **options},
    )  # fmt: skip


def trainer_for(config):
    accelerator = Accelerator(cpu=True)
    return Trainer(config, build_setup(config, accelerator), accelerator, Console(quiet=True))


def weights(trainer):
    return torch.cat([p.detach().flatten() for p in trainer.setup.draft.parameters()])
