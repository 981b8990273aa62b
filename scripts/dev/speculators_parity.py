"""Loads an export in the `speculators` package and compares its logits with ours, step by step.

    python -m venv SPECULATORS && SPECULATORS/bin/pip install speculators==0.9.0
    python scripts/dev/speculators_parity.py --python SPECULATORS/bin/python --draft outputs/demo/draft

The package lives in its own environment: it wants other versions than we do. Exit code 1 if a logit differs by more than 1e-4.
"""

import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from vlm_eagle.cli import run_cli
from vlm_eagle.config import DEMO, draft_for, resolve_target
from vlm_eagle.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

    from vlm_eagle.draft.model import Eagle3Draft
    from vlm_eagle.target.target import Target

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
class ParityConfig:
    """What to compare.

    Attributes:
        python: the interpreter of an environment with speculators.
        draft: folder or hub id of the draft; auto for the demo's own.
        target: folder or hub id of the target, or demo.
        tokens: random tokens to read.
        steps: steps of the draft on its own hidden states.
    """

    python: str = ""
    draft: str = "auto"
    target: str = DEMO
    tokens: int = 64
    steps: int = 4

    def __post_init__(self) -> None:
        if not Path(self.python).is_file():
            raise UserError("Give --python, the interpreter of an environment with speculators (see --help).")
        self.draft = draft_for(self.target, self.draft)


def main(config: ParityConfig) -> int:
    """Prints the largest difference of every step."""
    import torch
    from safetensors.torch import load_file, save_file

    from vlm_eagle.draft import files
    from vlm_eagle.draft.model import Eagle3Draft
    from vlm_eagle.interop.layouts.speculators import Verifier
    from vlm_eagle.interop.layouts.write import write_draft
    from vlm_eagle.target.capture import AuxCapture
    from vlm_eagle.target.load import load_target

    draft = Eagle3Draft.from_pretrained(config.draft).float()
    target = load_target(config.target, dtype="float32", layer_ids=draft.config.aux_layer_ids)
    ids = torch.randint(target.config.vocab_size, (1, config.tokens), generator=torch.Generator().manual_seed(0))
    with torch.no_grad(), AuxCapture(target.decoder.layers, target.layer_ids) as capture:
        target.decoder(input_ids=ids)
    aux = capture.concatenated()
    name = resolve_target(config.target)
    verifier = Verifier(name, target.model.config.architectures or [], target.embed_tokens.weight)
    tensors = {n: t for n, t in draft.state_dict().items() if n in files.expected_shapes(draft.config)}
    with tempfile.TemporaryDirectory() as folder:
        write_draft(Path(folder), "speculators", draft.config, tensors, verifier)
        save_file({"ids": ids, "aux": aux.contiguous()}, Path(folder) / "given")
        command = [config.python, "-c", THEIRS, folder, str(config.steps)]
        environment = {**os.environ, "TORCHDYNAMO_DISABLE": "1"}  # compiling would take longer than computing
        ran = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
        if ran.returncode:
            raise UserError(f"speculators failed:\n{ran.stderr[-3000:]}")
        theirs = load_file(Path(folder) / "logits")["logits"]
    differences = (theirs - our_logits(draft, target, ids, aux, config.steps)).abs().amax((1, 2, 3)).tolist()
    for step, difference in enumerate(differences):
        print(f"step {step}: logits up to {theirs[step].abs().max():.3f}, largest difference {difference:.1e}")
    return int(not max(differences) <= TOLERANCE)


def our_logits(draft: "Eagle3Draft", target: "Target", ids: "Tensor", aux: "Tensor", steps: int) -> "Tensor":
    """(S, 1, T, W): row i sees ids[i + k] at step k, as in that package, whose caller has shifted ids already."""
    import torch

    from vlm_eagle.training.ttt_dense import TTTAttention

    embed = draft.embed_tokens if draft.config.has_own_embed_tokens else target.embed_tokens
    attend, hidden, said = TTTAttention(), draft.fuse(aux), []
    for k in range(steps):
        shifted = torch.cat([ids[:, k:], ids.new_zeros(1, k)], dim=1)
        hidden = draft.step(hidden, embed(shifted), torch.arange(k, ids.shape[1] + k)[None], attend)
        said.append(draft.logits(hidden).detach())
    return torch.stack(said)


if __name__ == "__main__":
    sys.exit(run_cli(main, ParityConfig, __doc__))
