"""Where vLLM 0.32.0 and SGLang 0.5.23 read a draft differently, and what both take for what a config.json leaves out."""

from collections.abc import Sequence

from vlm_eagle.config import ImageInputs

# vLLM reads this key at the top level of config.json and counts inputs of layers; SGLang reads it inside eagle_config and
# counts outputs, which is one less.
LAYER_IDS = "eagle_aux_hidden_state_layer_ids"
DEFAULT_ROPE_THETA = 10_000.0
# what an engine feeds a draft at image tokens; the positions there: vLLM the sequence index, SGLang what the config asks for
IMAGE_INPUTS: dict[str, ImageInputs] = {"vllm": "token", "sglang": "visual_embeds"}


def default_engine_layer_ids(num_layers: int) -> tuple[int, int, int]:
    """The layers, in the input convention, that both engines capture when a draft names none."""
    return (2, num_layers // 2, num_layers - 3)


def inputs_of(outputs: Sequence[int]) -> tuple[int, ...]:
    """Layer ids in the input convention (vLLM) from those in the output convention (SGLang)."""
    return tuple(i + 1 for i in outputs)
