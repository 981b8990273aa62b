"""The training loop, on accelerate, safe to interrupt."""

import json
import logging
import math
import signal
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from rich.console import Console
from torch import Tensor, nn
from torch.utils.data import DataLoader

from vlm_eagle.config import DraftConfig, TrainConfig, default_out
from vlm_eagle.data.dataset import ignore_interrupts
from vlm_eagle.draft import files
from vlm_eagle.errors import UserError
from vlm_eagle.provenance import describe_run, sha256, write_json
from vlm_eagle.records import Batch, TargetFeatures
from vlm_eagle.training import checkpoint, sharding
from vlm_eagle.training.anchors import supervised_rows
from vlm_eagle.training.curve import draw
from vlm_eagle.training.inputs import visual_samples_of
from vlm_eagle.training.metrics import StepAcceptance, over_ranks, sum_dtype
from vlm_eagle.training.optim import build_optimizers, clip_gradients, lr_scale
from vlm_eagle.training.order import MicroBatches, Order
from vlm_eagle.training.progress import TrainProgress, evaluation_line
from vlm_eagle.training.setup import TrainingSetup
from vlm_eagle.training.sources import Item, Source
from vlm_eagle.training.stopwatch import Stopwatch
from vlm_eagle.training.ttt import ttt_loss

logger = logging.getLogger(__name__)
MAX_SKIPPED_UPDATES = 10  # updates in a row; one is a bad sample, so many are a bad run
ModuleOutput = tuple[Tensor, Tensor, Tensor]  # loss, correct, rows of a TTTResult: FSDP2 looks for tensors in tuples only


class TTTModule(nn.Module):
    """The draft with its loss in `forward`, where DistributedDataParallel can see it. The target is not part of it."""

    def __init__(self, setup: TrainingSetup, config: DraftConfig):
        super().__init__()
        self.draft, self.config = setup.draft, config
        self._target = (setup.target.embed_tokens, setup.target.logits)  # a tuple, so that it is no submodule

    def forward(self, features: TargetFeatures | None, rows: Tensor, visual_samples: Tensor | None = None) -> ModuleOutput:
        """One micro-batch; None (everything in it was skipped) gives a zero loss that still reaches every parameter."""
        if features is None:
            zero = torch.stack([p.sum() * 0.0 for p in self.draft.parameters()]).sum()
            return zero, torch.zeros_like(rows), torch.zeros_like(rows)
        result = ttt_loss(
            self.draft, features, *self._target, ttt_length=self.config.ttt_length, decay=self.config.decay, rows=rows,
            loss=self.config.loss, visual_samples=visual_samples, gradient_checkpointing=self.config.gradient_checkpointing,
        )  # fmt: skip
        return result.loss, result.correct, result.rows


class Trainer:
    """Trains `setup.draft`. `out/draft` always holds the best draft so far by held-out simulated acceptance length."""

    def __init__(self, config: TrainConfig, setup: TrainingSetup, accelerator: Accelerator, console: Console):
        self.config, self.setup, self.accelerator, self.console = config, setup, accelerator, console
        self.out = Path(config.out or default_out(config.target))
        self.module = sharding.prepare(accelerator, TTTModule(setup, config.draft), config.shard)
        optim = config.optim
        self.optimizers = build_optimizers(setup.draft, optimizer=optim.optimizer, lr=optim.lr, weight_decay=optim.weight_decay)
        self.order = Order(
            len(setup.train.dataset), batch_size=config.batch_size, seed=config.seed, ranks=accelerator.num_processes,
            gradient_accumulation_steps=config.gradient_accumulation_steps, max_tokens=config.max_tokens, lengths=setup.lengths,
        )  # fmt: skip
        self.all_steps = self.order.steps(config.epochs)
        self.steps = self.all_steps if config.max_steps is None else min(self.all_steps, config.max_steps)
        self.scale = lr_scale(optim.schedule, round(optim.warmup_ratio * self.steps), self.steps)
        self.step, self.best = 0, 0.0
        self.skipped_updates = 0  # updates in a row whose gradient was not finite
        self.stop_requested, self.stop_agreed = False, False  # Ctrl-C on this rank; what all ranks agreed on
        self.skipped = Counter(setup.dropped) if accelerator.is_main_process else Counter()  # this rank's
        self.stopwatch = Stopwatch(accelerator.device)

    def train(self) -> bool:
        """Trains to the end, or to an interruption (then False). Continues from the last checkpoint in `out`."""
        self._resume()
        if self.step >= self.steps:
            logger.info(f"Nothing to do: {self.out} is trained to step {self.step}. Use another --out to start anew.")
            self._describe(finished=True, best_simulated_acceptance_length=self.best or None)
            return True
        self._describe()
        previous = signal.signal(signal.SIGINT, self._interrupt)
        try:
            with TrainProgress(self.console, self.steps, self.step, self.out / "log.jsonl", self.accelerator) as progress:
                for source, window in self._windows():
                    started = time.perf_counter()
                    line = self._optimizer_step(source, window)
                    progress.step(self.step, line, seconds=time.perf_counter() - started)
                    self.stop_agreed |= self.stop_requested and self.accelerator.num_processes == 1
                    self._after_step(source, progress)
                    if self.stop_agreed:
                        break
        finally:
            signal.signal(signal.SIGINT, previous)
        finished = self.step >= self.steps
        if self.accelerator.is_main_process:
            draw(self.out / "log.jsonl", self.out / "curve.png")
        self._describe(finished=finished, best_simulated_acceptance_length=self.best or None)
        if not finished:
            logger.info(f"Interrupted at step {self.step}. Run the same command to continue.")
        return finished

    def _optimizer_step(self, source: Source, window: list[Item]) -> dict[str, Any]:
        """One update from the micro-batches of a window, normalised over all of them and all ranks. The host waits for the
        device once, when everything has been computed that decides about the update and is logged."""
        ttt_length, device = self.config.draft.ttt_length, self.accelerator.device
        used = [item for item in window if item is not None]
        for item in used:
            self.skipped.update(item.skipped)
        own = sum((self.normaliser(item) for item in used if len(item)), torch.zeros(ttt_length, dtype=torch.long))
        stop_requested = own.new_tensor([self.stop_requested])  # rides along, so that all ranks stop after the same step
        total = torch.as_tensor(self.accelerator.reduce(torch.cat([own, stop_requested]).to(device), "sum"))
        rows, stop = total[:-1], total[-1:]
        acceptance, loss = StepAcceptance.zeros(ttt_length, device), torch.zeros((), dtype=sum_dtype(device), device=device)
        for i, item in enumerate(window):
            part, correct, counted = self._gradients(source, item, rows, last=i == len(window) - 1)
            acceptance.add(correct, counted)
            loss += part
        norm = sharding.whole(clip_gradients(self.setup.draft, self.config.optim.max_grad_norm))
        tokens = sum(int(item.attention_mask.sum()) for item in used)
        supervised = sum(int(item.loss_mask.sum()) for item in used)
        acceptance, (loss, tokens, supervised), (norm, stop) = over_ranks(
            self.accelerator, acceptance, (loss, tokens, supervised), alike=(norm, stop)
        )
        self.stop_agreed, lr = bool(stop), self.config.optim.lr * self.scale(self.step)
        self.step += 1
        self._update(norm, lr)
        return {
            "loss": loss, "acceptance": acceptance, "gradient_norm": norm, "lr": lr, "tokens": int(tokens),
            "supervised": int(supervised), "target_seconds": self.stopwatch.seconds(),
        }  # fmt: skip

    def _gradients(self, source: Source, item: Item, rows: Tensor, *, last: bool) -> ModuleOutput:
        """Forward and backward of one micro-batch; only one is on the device at a time."""
        with self.stopwatch.running():
            features = source.features(item, self.accelerator.device)
        visual_samples = self._visual_samples(features, self.order.locate(self.step)[0]) if features else None
        with nullcontext() if last else self.accelerator.no_sync(self.module), self.accelerator.autocast():
            loss, correct, counted = self.module(features, rows, visual_samples)
            # gradients are averaged over ranks; the normaliser already counts them all
            self.accelerator.backward(loss * self.accelerator.num_processes)
        return loss.detach(), correct, counted

    def _update(self, norm: float, lr: float) -> None:
        """Steps the optimizers, unless the gradient is not finite: a single such update would spoil all weights for good. The
        norm is that of all ranks, so they agree."""
        if math.isfinite(norm):
            self.skipped_updates = 0
            for optimizer in self.optimizers:
                for group in optimizer.param_groups:
                    group["lr"] = lr
                optimizer.step()
        else:
            self.skipped_updates += 1
            logger.warning(f"Step {self.step}: the gradient's norm is {norm}, so this update is skipped.")
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)
        if self.skipped_updates == MAX_SKIPPED_UPDATES:
            raise UserError(
                f"The gradient was not finite in {MAX_SKIPPED_UPDATES} steps in a row, up to step {self.step}. A target in "
                "float16 can overflow: use --target-dtype bfloat16. Otherwise look at the loss before it and lower optim.lr."
            )

    def normaliser(self, batch: Batch | TargetFeatures) -> Tensor:
        """(S,) int64, what a batch adds to the number that the loss of each step is divided by."""
        return supervised_rows(batch.loss_mask, self.config.draft.ttt_length)

    def _visual_samples(self, features: TargetFeatures, epoch: int) -> Tensor | None:
        return visual_samples_of(self.config.draft.image_inputs, features.ids, f"{self.config.seed} {epoch}")

    @torch.no_grad()
    def evaluate(self) -> tuple[float, StepAcceptance]:
        """Loss per supervised row, and acceptance by step, on the held-out data."""
        ttt_length = self.config.draft.ttt_length
        device = self.accelerator.device
        acceptance, loss = StepAcceptance.zeros(ttt_length, device), torch.zeros((), dtype=sum_dtype(device), device=device)
        rank, ranks = self.accelerator.process_index, self.accelerator.num_processes
        source, size = self.setup.eval, self.config.batch_size
        assert source is not None
        rows = len(source.dataset)
        indices = list(range(rank, rows, ranks))
        batches = [indices[i : i + size] for i in range(0, -(-rows // ranks), size)]  # as many on every rank; one may be empty
        loader = DataLoader(source.dataset, batch_sampler=batches, collate_fn=source.collate)
        ones = torch.ones(ttt_length, device=device)
        module = self.accelerator.unwrap_model(self.module)
        with self.accelerator.autocast(), sharding.Gathered(module):
            for item in loader:
                if (features := source.features(item, device)) is None:
                    continue
                part, correct, counted = module(features, ones, self._visual_samples(features, 0))
                acceptance.add(correct, counted)
                loss += part
        acceptance, (loss,), _ = over_ranks(self.accelerator, acceptance, (loss,))
        return loss / max(float(acceptance.rows[0]), 1.0), acceptance

    def _after_step(self, source: Source, progress: TrainProgress) -> None:
        last = self.step >= self.steps or self.stop_agreed
        if self.setup.eval and (last or self.step % self.config.eval_steps == 0):
            loss, acceptance = self.evaluate()
            tau = acceptance.simulated_acceptance_length
            progress.note(self.step, evaluation_line(self.step, loss, acceptance), loss, acceptance)
            if tau > self.best:
                self.best = tau
                self._save_draft()
        elif last and not self.setup.eval:
            self._save_draft()
        if last or self.step % self.config.save_steps == 0:
            source.flush()  # what a checkpoint has behind it need not be computed again
            self._save_checkpoint()

    def _save_draft(self) -> None:
        weights = sharding.whole(self.setup.draft.state_dict())
        if self.accelerator.is_main_process:
            files.save(self.out / "draft", self.setup.draft.config, weights)

    def all_skipped(self) -> Counter:
        """Skipped samples of all ranks, by reason. Every rank must call it."""
        return sum(gather_object([self.skipped]), Counter())

    def _save_checkpoint(self) -> None:
        skipped = self.all_skipped()
        draft, *optimizers = map(sharding.whole, [o.state_dict() for o in (self.setup.draft, *self.optimizers)])
        if self.accelerator.is_main_process:
            state = {
                "step": self.step, "best": self.best, "identity": self._identity(), "precision": self._precision(),
                "skipped": dict(skipped), "draft": draft, "optimizers": optimizers,
            }  # fmt: skip
            checkpoint.save(self.out / "checkpoints", self.step, state, self.config.save_total_limit)
        self.accelerator.wait_for_everyone()

    def _resume(self) -> None:
        if self.accelerator.is_main_process:
            checkpoint.sweep(self.out)
        state = checkpoint.latest(self.out / "checkpoints", logger.warning) if self.config.resume else None
        if state is None:
            return
        if state["identity"] != self._identity():
            changed = "; ".join(checkpoint.differences(state["identity"], self._identity()))
            raise UserError(
                f"{self.out} holds a checkpoint of a run with other data, target or settings ({changed}). Choose another "
                "--out, or give --resume false to train anew and overwrite it."
            )
        before = self._precision()
        sharding.load(self.setup.draft, self.optimizers, state["draft"], state["optimizers"])
        self.step, self.best = state["step"], state["best"]
        self.skipped = Counter(state["skipped"]) if self.accelerator.is_main_process else Counter()
        logger.info(f"Continuing from step {self.step} of {self.steps}.")
        for part, saved in state["precision"].items():
            if before[part] != saved:
                now = saved if part == "orthogonalisation" else before[part]
                logger.info(f"The checkpoint's {part} is in {saved}, here it would be {before[part]}: it is now {now}.")

    def _precision(self) -> dict[str, str | None]:
        """Of what decides the rounding of a step. The orthogonalisation's is part of the optimizer's state, so that a run keeps
        it when it goes on elsewhere."""
        groups = [group for optimizer in self.optimizers for group in optimizer.param_groups]
        return {
            "target": str(self.setup.target.embed_tokens.weight.dtype).removeprefix("torch."),
            "autocast": self.accelerator.mixed_precision,
            "orthogonalisation": next((group["precision"] for group in groups if "precision" in group), None),
        }

    def _identity(self) -> str:
        """What must be equal for a checkpoint to be this run's."""
        settings = asdict(self.config)
        for name in ("out", "resume", "tracker", "save_total_limit", "save_steps", "target_dtype", "shard", "shard_target"):
            settings.pop(name)
        for name in ("num_workers", "train", "cache"):
            settings["data"].pop(name)
        if file := self.config.draft.vocab_file:
            settings["draft"]["vocab_file"] = sha256([Path(file)])
        return json.dumps([settings, self.setup.data_hash, self.accelerator.num_processes], sort_keys=True)

    def _describe(self, **results: object) -> None:
        skipped = dict(self.all_skipped())
        if self.accelerator.is_main_process:
            details = describe_run(
                config=asdict(self.config), data_hash=self.setup.data_hash, steps=self.steps, step=self.step,
                draft_vocab_coverage=round(self.setup.coverage, 5), samples=len(self.setup.train.dataset),
                pixel_budget=self.setup.pixel_budget, precision=self._precision(), skipped=skipped, **results,
            )  # fmt: skip
            write_json(self.out / "run.json", details)

    def _windows(self) -> Iterator[tuple[Source, list[Item]]]:
        """The micro-batches of every remaining step, and the source that turns them into features."""
        source, accelerator = self.setup.train, self.accelerator
        ranks = {"rank": accelerator.process_index, "ranks": accelerator.num_processes}
        while self.step < self.steps:
            stop = self.steps if source.epochs is None else min(self.order.steps(source.epochs), self.steps)
            sampler = MicroBatches(self.order, start=self.step, stop=stop, **ranks)
            workers = 0 if self.config.data.strict else self.config.data.num_workers  # a worker's error would lose its type
            loader = DataLoader(
                source.dataset, batch_sampler=sampler, collate_fn=source.collate, num_workers=workers,
                worker_init_fn=ignore_interrupts,
            )  # fmt: skip
            items = iter(loader)
            for _ in range(self.step, stop):
                yield source, [next(items) for _ in range(self.config.gradient_accumulation_steps)]
            if self.step < self.steps:
                source = source.successor()

    def _interrupt(self, *_: object) -> None:
        if self.stop_requested:
            raise KeyboardInterrupt
        self.stop_requested = True
        logger.info("Stopping after this step, with a checkpoint. Press Ctrl-C again to stop at once.")
