"""Loads an export in the `speculators` package and compares its logits with ours, step by step.

    python -m venv SPECULATORS && SPECULATORS/bin/pip install speculators==0.9.0
    python scripts/dev/speculators_parity.py --python SPECULATORS/bin/python --draft outputs/demo/draft

The package has its own environment: it wants other versions than we do. Exit code 1 if a logit differs by more than 1e-4.
"""

import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from vlm_eagle.cli import run_cli
from vlm_eagle.commands import export
from vlm_eagle.commands.options import PairOptions
from vlm_eagle.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

    from vlm_eagle.decoding.pair import Pair

TOLERANCE = 1e-4
THEIRS = """
import sys, torch
from safetensors.torch import load_file, save_file
from speculators import SpeculatorModel
from speculators.models.attention import create_float_mask
folder, steps = sys.argv[1], int(sys.argv[2])
model, given, seen = SpeculatorModel.from_pretrained(folder, dtype=torch.float32).eval(), load_file(folder + "/given"), []
model._attn_impl, model._create_mask_fn = "eager", create_float_mask
model.config.transformer_layer_config._attn_implementation = "eager"
model.lm_head.register_forward_hook(lambda module, arguments, logits: seen.append(logits.detach()))
with torch.no_grad():
    ids = given["ids"]
    model.forward(hidden_states=given["aux"], input_ids=ids, document_ids=torch.zeros_like(ids), ttt_steps=steps)
save_file({"logits": torch.stack(seen)}, folder + "/logits")
"""


@dataclass(kw_only=True)
class SpeculatorsConfig(PairOptions):
    """What to compare.

    Attributes:
        dtype: of both sides.
        python: the interpreter of an environment with speculators.
        tokens: random tokens to read.
        steps: steps of the draft on its own hidden states.
    """

    dtype: Literal["float32"] = "float32"
    python: str = ""
    tokens: int = 64
    steps: int = 4

    def __post_init__(self) -> None:
        if not Path(self.python).is_file():
            raise UserError("Give --python, the interpreter of an environment with speculators (see --help).")
        super().__post_init__()


def main(config: SpeculatorsConfig) -> int:
    """Prints the largest difference of every step."""
    import torch
    from safetensors.torch import load_file, save_file

    from vlm_eagle.target.capture import AuxCapture

    pair = config.load()
    target = pair.target
    ids = torch.randint(target.config.vocab_size, (1, config.tokens), generator=torch.Generator().manual_seed(0))
    with torch.no_grad(), AuxCapture(target.decoder.layers, target.layer_ids) as capture:
        target.decoder(input_ids=ids.to(target.device))
    aux = capture.concatenated()
    ours = our_logits(pair, ids.to(target.device), aux, config.steps).cpu()
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "export"
        export.main(export.Config(draft=config.draft, target=config.target, format="speculators", out=str(out)))
        save_file({"ids": ids, "aux": aux.cpu().contiguous()}, out / "given")
        environment = {**os.environ, "TORCHDYNAMO_DISABLE": "1"}  # compiling would take longer than computing
        command = [config.python, "-c", THEIRS, str(out), str(config.steps)]
        ran = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
        if ran.returncode:
            raise UserError(f"speculators failed:\n{ran.stderr[-3000:]}")
        theirs = load_file(out / "logits")["logits"]
    differences = (theirs - ours).abs().amax((1, 2, 3)).tolist()
    for step, difference in enumerate(differences):
        print(f"step {step}: logits up to {theirs[step].abs().max():.3f}, largest difference {difference:.1e}")
    return int(not max(differences) <= TOLERANCE)


def our_logits(pair: "Pair", ids: "Tensor", aux: "Tensor", steps: int) -> "Tensor":
    """(S, 1, T, W): position i sees ids[i + k] at step k, as in that package, whose caller has shifted ids already."""
    import torch

    from vlm_eagle.training.ttt_dense import TTTAttention

    target, draft = pair.target, pair.draft
    assert draft is not None
    embed = draft.embed_tokens if draft.config.has_own_embed_tokens else target.embed_tokens
    attend, hidden, logits = TTTAttention(), draft.fuse(aux), []
    for k in range(steps):
        shifted = torch.cat([ids[:, k:], ids.new_zeros(1, k)], dim=1)
        hidden = draft.step(hidden, embed(shifted), torch.arange(k, ids.shape[1] + k, device=ids.device)[None], attend)
        logits.append(draft.logits(hidden).detach())
    return torch.stack(logits)


if __name__ == "__main__":
    sys.exit(run_cli(main, SpeculatorsConfig, __doc__))
