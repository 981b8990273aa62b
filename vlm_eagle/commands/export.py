"""Checks a draft against its target and writes it, with a model card, in the layout of an engine or library.

    vlm-eagle export --draft outputs/my-run/draft --target Qwen/Qwen3-VL-2B-Instruct --format vllm --out exports/my-draft
    vlm-eagle export ... --push-to-hub me/Qwen3-VL-2B-Instruct-eagle3

The native layout already is what SGLang and vLLM load; an export proves that it is fit for them and says how to serve it.
"""

from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from vlm_eagle.config import DEMO, draft_for
from vlm_eagle.errors import UserError
from vlm_eagle.interop.folders import new_folder, upload
from vlm_eagle.interop.names import Format
from vlm_eagle.interop.run_files import read_beside, results_of, settings_of


@dataclass(kw_only=True)
class Config:
    """What to write and where to.

    Attributes:
        draft: folder or hub id of a draft in the native layout; auto for the demo's own.
        format: native, sglang and vllm are one layout, checked for what that engine computes; speculators is vLLM's other one.
        out: folder to write; it must not exist.
        target: folder or hub id of the target, or demo; none for the one in run.json.
        run: run.json of the training; none for the one beside the draft's folder, if there is one.
        acc_length: results of score for the card; none for acc_length.json beside the draft's folder, likewise.
        base_model: hub id of the target for the card, where target is a folder.
        license: of the draft, as the hub writes it.
        push_to_hub: hub id to upload the folder to, with the token that Hugging Face's tools know (hf auth login, or HF_TOKEN).
        private: of a new repository on the hub.
    """

    draft: str = "auto"
    format: Format = "native"
    out: str = ""
    target: str | None = None
    run: str | None = None
    acc_length: str | None = None
    base_model: str | None = None
    license: str = "apache-2.0"
    push_to_hub: str | None = None
    private: bool = False

    def __post_init__(self) -> None:
        if not self.out:
            raise UserError("An export needs --out.")
        self.draft = draft_for(self.target or DEMO, self.draft)


def main(config: Config) -> None:
    """Reads, checks, writes, and uploads if asked to."""
    from vlm_eagle.draft import files
    from vlm_eagle.interop.layouts.checks import check_target
    from vlm_eagle.interop.layouts.speculators import Verifier
    from vlm_eagle.interop.layouts.write import write_draft
    from vlm_eagle.interop.model_card import model_card
    from vlm_eagle.target.load import VISION_TYPES, read_config

    console = Console(soft_wrap=True)
    draft_config, tensors = files.load(config.draft)
    run = read_beside(config.draft, "run.json", config.run)
    results, of_another = results_of(config.draft, read_beside(config.draft, "acc_length.json", config.acc_length))
    name = config.target or settings_of(run).get("target")
    if not isinstance(name, str) or not name:
        raise UserError("No run.json names the target. Give --target.")
    target = read_config(name)
    differences = check_target(draft_config, target, name) + of_another
    needs_verifier = config.format == "speculators"
    verifier = Verifier.load(name, target.architectures, draft_config.aux_layer_ids) if needs_verifier else None
    name = "./vlm_eagle/demo/target" if name == DEMO else name
    with new_folder(Path(config.out)) as folder:
        remarks = write_draft(folder, config.format, draft_config, tensors, verifier)
        card = model_card(
            draft_config, form=config.format, target=config.base_model or name,
            draft=config.push_to_hub or "PATH_TO_THIS_FOLDER", vision=target.model_type in VISION_TYPES,
            run=run, results=results, remarks=remarks, licence=config.license,
        )  # fmt: skip
        (folder / "README.md").write_text(card, encoding="utf-8")
    for line in remarks:
        console.print(f"  note: {line}", markup=False)
    for line in differences:
        console.print(f"  differs: {line}", markup=False, style="yellow")
    console.print(f"Written to {config.out}: config.json, model.safetensors, README.md")
    if config.push_to_hub:
        console.print(f"Uploaded to {upload(Path(config.out), config.push_to_hub, config.private)}")
