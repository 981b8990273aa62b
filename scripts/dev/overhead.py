"""What a cycle costs at real model sizes, and how much of it is spent outside the two models.

    python scripts/dev/overhead.py --shapes qwen3-0.6b qwen3-vl-2b

Weights are random.
"""

import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from measurements import show_rows, write_results

from vlm_eagle.cli import run_cli
from vlm_eagle.decoding.options import Sampling, TreeShape
from vlm_eagle.errors import UserError
from vlm_eagle.evaluation.timing.shapes import SHAPES, vocabulary

if TYPE_CHECKING:
    import torch

TREES = (TreeShape(4), TreeShape(8), TreeShape(16, topk=4, num_steps=5), TreeShape(32, topk=10, num_steps=6))


@dataclass(kw_only=True)
class OverheadConfig:
    """What to measure.

    Attributes:
        shapes: whose sizes: tiny, qwen3-0.6b, qwen3-4b, qwen3-8b, qwen3-vl-2b, qwen3-vl-4b, qwen3-vl-8b.
        dtype: of both models.
        draft_vocab_size: size of the draft vocabulary.
        context: tokens in the cache when cycles begin.
        concurrency: sequences decoded at a time.
        cycles: measured per tree; medians are reported.
        device: auto takes a GPU when there is one.
        json: file for the results.
    """

    shapes: list[str] = field(default_factory=lambda: ["qwen3-0.6b"])
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    draft_vocab_size: int = 32_000
    context: int = 512
    concurrency: int = 1
    cycles: int = 9
    device: str = "auto"
    json: str = "outputs/overhead.json"

    def __post_init__(self) -> None:
        if unknown := [name for name in self.shapes if name not in SHAPES]:
            raise UserError(f"No such shape: {', '.join(unknown)}. There are {', '.join(SHAPES)}.")
        if min(self.context, self.concurrency, self.cycles) < 1:
            raise UserError("context, concurrency and cycles must be at least 1.")


def main(config: OverheadConfig) -> None:
    """Prints one table per shape and writes the JSON."""
    from vlm_eagle.devices import named_device

    results = {name: _measure(name, config, named_device(config.device)) for name in config.shapes}
    for name, rows in results.items():
        setting = f"context {config.context}, concurrency {config.concurrency}"
        show_rows(f"{name}, {config.dtype}, {setting}: a cycle in plain decode steps", rows)
    write_results(config.json, config, shapes=results)


def _measure(name: str, config: OverheadConfig, device: "torch.device") -> list[dict]:
    import torch
    from random_pair import build_pair

    from vlm_eagle.decoding.plain import PlainDecoder
    from vlm_eagle.decoding.sampling import Sampler
    from vlm_eagle.decoding.speculative import SpeculativeDecoder
    from vlm_eagle.decoding.timing import measure_cycles
    from vlm_eagle.records import Batch

    target, draft = build_pair(name, config.draft_vocab_size, getattr(torch, config.dtype), device)
    ids = torch.randint(vocabulary(name), (config.concurrency, config.context), generator=torch.Generator().manual_seed(0)).to(
        device
    )
    prompt = Batch(ids, torch.ones_like(ids), torch.zeros_like(ids, dtype=torch.bool))
    sampler, rows = Sampler(Sampling()), []
    step = measure_cycles(PlainDecoder(target, sampler), prompt, config.cycles)
    rows.append({"tree": "no draft", "milliseconds": 1e3 * step.total, "overhead_share": step.overhead / step.total})
    for shape in TREES:
        cost = measure_cycles(SpeculativeDecoder(target, draft, shape, sampler), prompt, config.cycles)
        share = cost.overhead / cost.total
        rows.append({"tree": shape.label, "milliseconds": 1e3 * cost.total, "overhead_share": share, **cost.ratios(step.total)})
    return rows


if __name__ == "__main__":
    sys.exit(run_cli(main, OverheadConfig, __doc__))
