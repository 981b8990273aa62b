"""How far a run is from not fitting, what to change when it does not, and what each change would save."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from vlm_eagle.training.estimate import estimate_memory
from vlm_eagle.training.sizes import DraftSizes, TargetSizes, draft_sizes
from vlm_eagle.training.workload import Workload

WORTH = 2**26  # bytes; what saves less is not worth a line
SHORT, SMALL = 1024, 16_000  # tokens and draft vocabulary below which halving is no advice


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A run to be estimated: its two models and how it trains."""

    target: TargetSizes
    draft: DraftSizes
    work: Workload

    @property
    def peak(self) -> int:
        """Bytes at the worst moment, on one device."""
        return estimate_memory(self.target, self.draft, self.work).peak


@dataclass(frozen=True)
class Advice:
    """One change.

    Attributes:
        text: what to do, and what it costs.
        alone: the run with this change only.
        so_far: the run with this change and all advice before it.
    """

    text: str
    alone: Plan
    so_far: Plan


Change = Callable[[Plan], tuple[str, Plan] | None]  # what to do and the run then, None where there is nothing to do


def advise(plan: Plan) -> list[Advice]:
    """The changes that help, those that cost least first; empty when nothing does."""
    changes, so_far = [], plan
    for change in CHANGES:
        alone, then = change(plan), change(so_far)
        if alone and then and plan.peak - alone[1].peak >= WORTH and then[1].peak < so_far.peak:
            so_far = then[1]
            changes.append(Advice(alone[0], alone[1], so_far))
    return changes


def most_supervised(plan: Plan, budget: int) -> float:
    """The largest share of supervised tokens, in hundredths, with which a micro-batch fits into `budget` bytes; 0 for none.

    What a run needs is decided by its worst micro-batch, which may be all answer.
    """
    fits = [p / 100 for p in range(1, 101) if _with(plan, supervised_fraction=p / 100).peak <= budget]
    return max(fits, default=0.0)


def _one_by_one(plan: Plan) -> tuple[str, Plan] | None:
    if plan.work.batch_size == 1:
        return None
    forwards = plan.work.gradient_accumulation_steps * plan.work.batch_size
    text = f"--batch-size 1 --gradient-accumulation-steps {forwards}: the result stays the same"
    return text, _with(plan, batch_size=1, gradient_accumulation_steps=forwards)


def _recompute(plan: Plan) -> tuple[str, Plan] | None:
    if plan.work.gradient_checkpointing:
        return None
    return "--draft.gradient-checkpointing: a third more time in the draft's part, the same result", _with(
        plan, gradient_checkpointing=True
    )


def _target_in_bfloat16(plan: Plan) -> tuple[str, Plan] | None:
    if plan.target.value_bytes == 2:
        return None
    return "--target-dtype bfloat16: if the target is served in it", replace(plan, target=replace(plan.target, value_bytes=2))


def _muon(plan: Plan) -> tuple[str, Plan] | None:
    if plan.work.optimizer == "muon":
        return None
    return "--optim.optimizer muon: one buffer per matrix, not two", _with(plan, optimizer="muon")


def _other_precision(plan: Plan) -> tuple[str, Plan] | None:
    """16 bits halve activations and cost copies of the weights, so that either way may be the smaller one."""
    if plan.work.autocast:
        return "accelerate launch --mixed_precision no: no 16-bit copies of weights, slower", _with(plan, autocast=False)
    return "accelerate launch --mixed_precision bf16: smaller activations, faster", _with(plan, autocast=True)


def _shorter(plan: Plan) -> tuple[str, Plan] | None:
    half = plan.work.max_length // 2
    if half < SHORT:
        return None
    return f"--data.max-length {half}: longer conversations lose their end", _with(plan, max_length=half)


def _fewer_words(plan: Plan) -> tuple[str, Plan] | None:
    half = plan.draft.config.draft_vocab_size // 2
    if half < SMALL:
        return None
    draft = draft_sizes(replace(plan.draft.config, draft_vocab_size=half))
    return f"--draft.vocab-size {half}: rarer tokens cannot be drafted", replace(plan, draft=draft)


def _offline(plan: Plan) -> tuple[str, Plan] | None:
    if plan.work.offline:
        return None
    return "vlm-eagle capture first: training needs no target layers", _with(
        plan, offline=True, fill=False, target_sharded=False
    )


def _sharded(plan: Plan) -> tuple[str, Plan] | None:
    if plan.work.processes == 1 or plan.work.sharded:
        return None
    text = f"--shard (FSDP): {plan.work.processes} devices share the draft's weights, gradients and optimizer state"
    return text, _with(plan, sharded=True)


def _target_sharded(plan: Plan) -> tuple[str, Plan] | None:
    if plan.work.processes == 1 or plan.work.target_sharded or plan.work.offline or plan.work.fill:
        return None
    text = f"--shard-target (FSDP): {plan.work.processes} devices share the target's layers, and wait for each other in each"
    return text, _with(plan, target_sharded=True)


def _with(plan: Plan, **changes: object) -> Plan:
    return replace(plan, work=replace(plan.work, **changes))


CHANGES: tuple[Change, ...] = (
    _one_by_one, _recompute, _target_in_bfloat16, _muon, _other_precision, _shorter, _fewer_words, _target_sharded,
    _offline, _sharded,
)  # fmt: skip
