"""EAGLE-3 draft heads for Qwen3-VL and Qwen3: train, prove, serve. `vlm_eagle/api.py` describes the names below."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # for editors and type checkers; at run time __getattr__ imports api.py, and with it torch, when it must
    __version__: str

    from vlm_eagle.api import (
        Answer,
        Batch,
        Chat,
        Conversation,
        DataConfig,
        DraftConfig,
        Eagle3Draft,
        Generation,
        Messages,
        OptimConfig,
        Pair,
        Picture,
        Prompt,
        Prompts,
        Sampling,
        Settings,
        Target,
        TrainConfig,
        TrainResult,
        TreeShape,
        UserError,
        chat,
        generate,
        load_pair,
        stream,
        train,
    )

__all__ = [
    "Answer", "Batch", "Chat", "Conversation", "DataConfig", "DraftConfig", "Eagle3Draft", "Generation", "Messages",
    "OptimConfig", "Pair", "Picture", "Prompt", "Prompts", "Sampling", "Settings", "Target", "TrainConfig", "TrainResult",
    "TreeShape", "UserError", "chat", "generate", "load_pair", "stream", "train",
]  # fmt: skip
_LIGHT = {  # what settings are made of, which needs no torch
    "Sampling": "decoding.options", "Settings": "decoding.options", "TreeShape": "decoding.options", "UserError": "errors",
    "DataConfig": "config", "DraftConfig": "config", "OptimConfig": "config", "TrainConfig": "config",
}  # fmt: skip


def __getattr__(name: str) -> Any:
    if name == "__version__":  # pyproject.toml's, which the installed package knows
        from importlib.metadata import version

        return version("vlm-eagle")
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = globals()[name] = getattr(import_module(f"{__name__}.{_LIGHT.get(name, 'api')}"), name)
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
