"""Chooses a draft vocabulary by what it covers, and says what each size costs.

    vlm-eagle vocabulary --data train.jsonl                                     compare 8,000, 16,000 and 32,000 tokens
    vlm-eagle vocabulary --data train.jsonl --coverage 0.98 --every-language 0.9 --out vocabulary.json
    vlm-eagle vocabulary --data train.jsonl --size 16000 --force-text german.txt --out vocabulary.json

Training takes the file: scripts/train_vlm.py --draft.vocab-file vocabulary.json. The most frequent tokens of the answers are
taken. Special tokens (ends of turns, <think>, tools, ...) are in any case, and whatever is forced: every token of a text file,
or ids. So a language that the data holds little of, or a word that must not be missed, is not left to counting.
"""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

from rich.console import Console

from data_recipes.report import SIZES
from vlm_eagle.commands.options import PreparationOptions
from vlm_eagle.errors import UserError
from vlm_eagle.provenance import check_output, describe_run, sha256


@dataclass(kw_only=True)
class Config(PreparationOptions):
    """What to cover.

    Attributes:
        sizes: vocabularies to compare.
        size: choose this size.
        coverage: choose the smallest size that covers this share of all learned tokens, 0 .. 1.
        every_language: likewise, of the learned tokens of every language.
        multiple: a chosen size is rounded up to a multiple of this.
        special: hold the tokenizer's added tokens in any case.
        force_ids: token ids to hold in any case.
        force_text: text files whose tokens are held in any case.
        dtype: of the draft's weights, for what a step costs.
        out: file for the chosen vocabulary; none only compares.
    """

    sizes: list[int] = field(default_factory=lambda: list(SIZES))
    size: int | None = None
    coverage: float | None = None
    every_language: float | None = None
    multiple: int = 64
    special: bool = True
    force_ids: list[int] = field(default_factory=list)
    force_text: list[str] = field(default_factory=list)
    dtype: Literal["bfloat16", "float16", "float32"] = "bfloat16"
    out: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        shares = [share for share in (self.coverage, self.every_language) if share is not None]
        if any(not 0 < share <= 1 for share in shares):
            raise UserError(f"coverage and every_language are shares: give numbers from 0 to 1, found {shares}.")
        if self.size is not None and shares:
            raise UserError("size and a wanted coverage contradict each other. Give one of them.")
        if self.out and self.size is None and not shares:
            raise UserError("What should the vocabulary in --out hold? Give --size, or --coverage, or --every-language.")
        if min([self.multiple, *self.sizes, 1 if self.size is None else self.size]) < 1:
            raise UserError("sizes, size and multiple must be greater than 0.")


def main(config: Config) -> None:
    """Counts, compares, and writes the chosen vocabulary."""
    from data_recipes.report.statistics import collect
    from data_recipes.vocabulary import as_tensors, choose_vocabulary, compare, size_for, special_tokens, tokens_of_text
    from data_recipes.vocabulary_table import vocabulary_table
    from vlm_eagle.data.preparation import nothing_to_learn
    from vlm_eagle.draft.vocab import write_vocabulary
    from vlm_eagle.target.load import read_config

    if config.out:
        check_output(config.out)
    console = Console(markup=False)
    dataset, collator = config.open(console)
    target = read_config(config.target)
    with config.prepare(dataset, collator, console) as preparation:
        found = collect(preparation, target.get_text_config().vocab_size)
    counts = as_tensors(found.counts)
    if not any(count.any() for count in counts.values()):
        raise nothing_to_learn(found.dropped)
    forced = set(config.force_ids) | set(tokens_of_text(map(Path, config.force_text), collator.tokenizer))
    forced = sorted(forced | set(special_tokens(collator.tokenizer) if config.special else ()))
    chosen = config.size
    if config.coverage is not None or config.every_language is not None:
        chosen = size_for(counts, forced, config.coverage or 0.0, config.every_language or 0.0, config.multiple)
    small = [size for size in config.sizes if size < len(forced)]
    sizes = [size for size in config.sizes if size not in small] + ([chosen] if chosen else [])
    rows = compare(counts, sizes, forced, target, config.dtype)
    languages = sorted(counts, key=lambda name: -int(counts[name].sum()))
    console.print(vocabulary_table(rows, languages, chosen))
    if small:
        sizes = ", ".join(f"{size:,}" for size in small)
        console.print(f"Left out: {sizes}. {len(forced):,} tokens are forced, so no vocabulary is smaller.", highlight=False)
    if found.dropped:
        reasons = ", ".join(f"{reason} ({n:,})" for reason, n in found.dropped.most_common())
        console.print(f"Dropped {sum(found.dropped.values()):,} of {found.read:,} rows: {reasons}", highlight=False)
    if config.out:
        about = {
            "target": config.target, "data": config.data, "data_hash": sha256(dict.fromkeys(row[0] for row in dataset.rows)),
            "forced": len(forced), "comparison": [asdict(row) for row in rows],
            "run": describe_run(config=asdict(config)),
        }  # fmt: skip
        assert chosen is not None
        vocab = choose_vocabulary(counts, chosen, forced)
        write_vocabulary(Path(config.out), vocab, **about)
        console.print(f"{len(vocab.d2t):,} tokens, {len(forced):,} of them forced: {config.out}", highlight=False)
