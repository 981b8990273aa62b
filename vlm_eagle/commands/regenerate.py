"""Keeps the prompts of conversations and lets the target write the answers, turn by turn.

    vlm-eagle regenerate --data chats.jsonl --out outputs/chats --server http://localhost:8000
    vlm-eagle regenerate --data chats.jsonl --out outputs/chats --target demo --draft outputs/demo/draft

The first asks running OpenAI-compatible servers (scripts/serve_vllm.sh, scripts/serve_sglang.sh; several addresses share the
work), the second decodes in this process, made faster by a draft. Every answer is kept in OUT/journal.jsonl as soon as it is
there: the same command continues after Ctrl-C or kill -9. In the end OUT holds train.jsonl in the order of the data,
failed.jsonl with the reason of everything that is missing there, and regenerate.json with all counts. The exit code is 1 if
some failures may pass (no connection, a server's error): the same command asks for those again.
"""

from data_recipes.regenerate.config import RegenerateConfig as Config


def main(config: Config) -> int:
    """Runs it; 1 if some conversations failed in a way that may pass."""
    from data_recipes.regenerate.run import regenerate

    return regenerate(config)
