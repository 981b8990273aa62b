"""Checks a draft against its target and writes it, with a model card, in the layout of an engine or library.

    vlm-eagle export --draft outputs/my-run/draft --target Qwen/Qwen3-VL-2B-Instruct --format vllm --out exports/my-draft
    vlm-eagle export ... --push-to-hub me/Qwen3-VL-2B-Instruct-eagle3

The native layout already is what SGLang and vLLM load; an export proves that it is fit for them and says how to serve it.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from vlm_eagle.config import DEMO, draft_for, resolve_target
from vlm_eagle.errors import UserError
from vlm_eagle.interop.folders import new_folder
from vlm_eagle.interop.names import Format

if TYPE_CHECKING:
    from vlm_eagle.draft.config import Eagle3Config
    from vlm_eagle.interop.layouts.speculators import Verifier


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
    from vlm_eagle.interop.layouts.write import write_draft
    from vlm_eagle.interop.model_card import model_card
    from vlm_eagle.target.load import VISION_TYPES, read_config

    console = Console(soft_wrap=True)
    draft_config, tensors = files.load(config.draft)
    run, results = (
        _beside(config.draft, given, name) for given, name in ((config.run, "run.json"), (config.acc_length, "acc_length.json"))
    )
    results, of_another = _of_draft(results, config.draft)
    settings = (run or {}).get("config")
    name = config.target or (settings.get("target") if isinstance(settings, dict) else None)
    if not isinstance(name, str) or not name:
        raise UserError("There is no run.json that names the target. Give --target.")
    target = read_config(name)
    differences = check_target(draft_config, target, name) + of_another
    verifier = _verifier(name, target.architectures, draft_config) if config.format == "speculators" else None
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
        console.print(f"Uploaded to {_push(Path(config.out), config.push_to_hub, config.private)}")


def _verifier(name: str, architectures: list[str] | None, draft: "Eagle3Config") -> "Verifier":
    import torch

    from vlm_eagle.interop.layouts.speculators import Verifier
    from vlm_eagle.target.load import load_embeddings

    heads = load_embeddings(name, dtype="auto", device=torch.device("cpu"), layer_ids=draft.aux_layer_ids)
    return Verifier(resolve_target(name), architectures or [], heads.embed_tokens.weight.detach())


def _beside(draft: str, given: str | None, name: str) -> dict[str, Any] | None:
    """A JSON file that was named, or that lies where training and evaluation leave it."""
    file = Path(given) if given else Path(draft).resolve().parent / name
    if not file.is_file():
        if given:
            raise UserError(f"{file} does not exist.")
        return None
    try:
        row = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{file} is no JSON: {error}") from error
    if not isinstance(row, dict):
        raise UserError(f"{file} holds no JSON object.")
    return row


def _of_draft(results: dict[str, Any] | None, draft: str) -> tuple[dict[str, Any] | None, list[str]]:
    """Results that compare several drafts, without the others; and what to say of results that name one alone, another.

    Raises:
        UserError: this draft is not among several.
    """
    settings = results.get("settings") if results else None
    settings = [s for s in settings if isinstance(s, dict)] if isinstance(settings, list) else []
    named = {str(s["draft"]) for s in settings if s.get("draft")}  # a server does not say its draft
    mine = {name for name in named if Path(name).resolve() == Path(draft).resolve()}
    if mine == named:
        return results, []
    if len(named) == 1:  # it may have been moved since
        return results, [f"the card's acceptance lengths were measured with the draft {named.pop()}"]
    if not mine:
        raise UserError(f"The results compare drafts, and {draft} is not among them. Give others with --acc-length.")
    return {**(results or {}), "settings": [s for s in settings if str(s.get("draft")) in mine]}, []


def _push(folder: Path, repository: str, private: bool) -> str:
    """The URL of the uploaded folder."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    api = HfApi()
    try:
        api.create_repo(repository, private=private, exist_ok=True)
        return str(api.upload_folder(repo_id=repository, folder_path=folder, commit_message="EAGLE-3 draft"))
    except (HFValidationError, HfHubHTTPError, OSError) as error:
        raise UserError(f"{folder} is written, but the upload to {repository!r} failed: {error}") from error
