"""The README.md of a published draft: what it is, how to serve it, how it was trained, what it accepts.

Everything comes from the configuration, from the `run.json` of training and from the results of `vlm-eagle score`; what is
not known is left out or said to be unknown.
"""

import math
from importlib.resources import files as resources
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined

from vlm_eagle.draft.config import Eagle3Config
from vlm_eagle.draft.files import expected_shapes
from vlm_eagle.errors import UserError
from vlm_eagle.interop.names import Format

LICENCES = {"apache-2.0": "Apache License 2.0", "mit": "MIT License"}


def model_card(
    config: Eagle3Config, *, form: Format, target: str, draft: str, vision: bool, licence: str = "apache-2.0",
    run: dict[str, Any] | None = None, results: dict[str, Any] | None = None, remarks: list[str] | None = None,
) -> str:  # fmt: skip
    """The card as Markdown.

    Args:
        config: the draft's.
        form: the layout it accompanies.
        target: hub id of the base model, or any name for one that is not on the hub.
        draft: hub id of the draft, or what to put in its place in the commands.
        vision: whether the base model takes images.
        licence: SPDX name in lower case, as the hub writes it.
        run: contents of run.json.
        results: contents of acc_length.json.
        remarks: sentences about serving, without a full stop.

    Raises:
        UserError: results of another form.
    """
    on_hub = target.count("/") == 1 and not target.startswith((".", "/", "~")) and not Path(target).exists()
    columns, rows = _acceptance(results)
    best = max(columns, key=lambda c: c["average"], default=None)
    environment = Environment(undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True)
    template = environment.from_string(resources("vlm_eagle.interop").joinpath("model_card.md.jinja").read_text("utf-8"))
    return template.render(
        form=form, licence=licence, licence_text=LICENCES.get(licence, licence) + ".", vision=vision, draft_path=draft,
        base_model=target if on_hub else None, target_path=target, target_title=target.rstrip("/").rsplit("/", 1)[-1],
        base_link=f"[{target}](https://huggingface.co/{target})" if on_hub else f"`{target}`",
        parameters=_short(sum(math.prod(s) for n, s in expected_shapes(config).items() if n not in ("d2t", "t2d"))),
        columns=columns, rows=rows, headline=best and f"{best['average']:.2f} on average ({best['title']})",
        temperatures=sorted({c["temperature"] for c in columns}), where=sorted({c["where"] for c in columns}),
        measured_on=_versions(results, ("torch", "transformers")),
        remarks=remarks or [], training=_training(run), architecture=_architecture(config),
    )  # fmt: skip


def _acceptance(results: dict[str, Any] | None) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Columns (one per tree shape) and rows (one per benchmark) of the table."""
    try:
        settings = results["settings"] if results else []
        several = len({s["sampling"]["temperature"] for s in settings}) > 1
        columns = [
            {
                "title": _title(s, several),
                "average": float(s["average_acceptance_length"]),
                "temperature": s["sampling"]["temperature"],
                "where": _engine(s.get("engine")) or "PyTorch",
            }
            for s in settings
        ]
        names = [row["name"] for row in settings[0]["benchmarks"]] if settings else []
        found = [{row["name"]: float(row["acceptance_length"]) for row in s["benchmarks"]} for s in settings]
        return columns, [{"name": name, "lengths": [column[name] for column in found]} for name in names]
    except (KeyError, TypeError, AttributeError, IndexError, ValueError) as error:
        raise UserError(f"These are no results of vlm-eagle score ({error!r}).") from error


def _title(setting: dict[str, Any], with_temperature: bool) -> str:
    title = f"num_draft_tokens={setting['num_draft_tokens']}" + (f", topk={setting['topk']}" if setting["topk"] > 1 else "")
    return title + (f", T={setting['sampling']['temperature']:g}" if with_temperature else "")


def _engine(row: dict[str, Any] | None) -> str | None:
    """The server that a column was measured on, if it was one."""
    return None if not row else f"{row['kind']} {row['version'] or ''}".strip()


def _training(run: dict[str, Any] | None) -> list[tuple[str, Any]]:
    """What of run.json a reader wants to know; only what is there."""
    if not run:
        return []
    config = _part(run, "config")
    data, draft, optim = (_part(config, name) for name in ("data", "draft", "optim"))
    batch = (config.get("max_tokens") and f"{config['max_tokens']} tokens") or config.get("batch_size")
    coverage, best = (_number(run, name) for name in ("draft_vocab_coverage", "best_simulated_acceptance_length"))
    facts = [
        ("Framework", f"vlm_eagle ({_versions({'run': run}, ('torch', 'transformers', 'accelerate')) or 'versions unknown'})"),
        ("Samples", run.get("samples")),
        ("Epochs", config.get("epochs") if not config.get("max_steps") else None),
        ("Optimizer steps", run.get("step")),
        ("Batch", batch and f"{batch} x {config.get('gradient_accumulation_steps', 1)} accumulated"),
        ("Longest sample", data.get("max_length") and f"{data['max_length']} tokens"),
        ("Optimizer", optim.get("optimizer") and f"{optim['optimizer']}, {optim.get('schedule')} schedule"),
        ("Learning rate", optim.get("lr")),
        ("TTT length", draft.get("ttt_length")),
        ("Loss", draft.get("loss") and f"{draft['loss']}, decay {draft.get('decay')}"),
        ("Draft embedding at image tokens", draft.get("image_inputs")),
        ("Draft vocabulary covers", coverage and f"{coverage:.2%} of answer tokens"),
        ("Held-out simulated acceptance length", best and round(best, 2)),
        ("Started", run.get("started")),
        ("Commit", run.get("git_commit")),
    ]
    return [(name, value) for name, value in facts if value is not None]


def _architecture(config: Eagle3Config) -> list[tuple[str, Any]]:
    options = ("fc_norm", "norm_output", "norm_before_fc", "norm_before_residual", "qk_norm", "has_own_embed_tokens")
    return [
        ("Hidden size", config.hidden_size),
        (
            "Attention heads",
            f"{config.num_attention_heads} ({config.num_key_value_heads} key-value heads), {config.head_dim} wide",
        ),
        ("Vocabulary", f"{config.draft_vocab_size} of the target's {config.vocab_size}"),
        ("Aux hidden states", f"inputs of the target's layers {', '.join(map(str, config.aux_layer_ids))}"),
        ("Rotary positions", f"M-RoPE {config.mrope_section}" if config.mrope_section else "sequence index"),
        ("Context", config.max_position_embeddings),
        ("Variants", ", ".join(name for name in options if getattr(config, name)) or "none"),
        ("Precision", config.dtype),
    ]


def _versions(results: dict[str, Any] | None, names: tuple[str, ...]) -> str | None:
    known = _part(_part(results, "run"), "versions")
    return ", ".join(f"{name} {known[name]}" for name in names if known.get(name)) or None


def _part(row: dict[str, Any] | None, name: str) -> dict[str, Any]:
    """An object inside one that a file held; empty if it is none."""
    value = (row or {}).get(name)
    return value if isinstance(value, dict) else {}


def _number(row: dict[str, Any], name: str) -> float | None:
    value = row.get(name)
    return value if isinstance(value, (int, float)) else None


def _short(count: int) -> str:
    return f"{count / 1e9:.2f} B" if count >= 1e9 else f"{count / 1e6:.1f} M"
