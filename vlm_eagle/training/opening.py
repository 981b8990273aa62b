"""The settings that decide how good a draft becomes, said before training begins."""

from vlm_eagle.config import TrainConfig
from vlm_eagle.training.setup import Run


def settings_line(config: TrainConfig, run: Run, steps: int, all_steps: int) -> str:
    """What the run will do with its data: `steps` of the `all_steps` that `config.epochs` would take."""
    cut = sum(length == run.max_length for length in run.lengths)  # one that has this very length counts along
    some = "" if steps == all_steps else f" of {all_steps:,}, by max_steps,"
    scored = "" if run.eval else " No --data.eval: nothing will score the draft."
    return (
        f"Draft vocabulary {run.draft.config.draft_vocab_size:,} covers {run.coverage:.1%} of answer tokens; "
        f"max_length {run.max_length:,} cut {cut:,} and dropped {run.too_long:,} of {len(run.lengths):,} rows; "
        f"{steps:,} {'step' if steps == 1 else 'steps'}{some} in {config.epochs:g} epochs; "
        f"target in {str(run.target.embed_tokens.weight.dtype).removeprefix('torch.')}.{scored}"
    )
