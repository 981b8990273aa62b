"""One small file per benchmark. `ENTRIES` is the table: name -> entry, in the order in which it is shown."""

from ..entry import Entry
from . import (
    alpaca,
    ceval,
    chartqa,
    cmmlu,
    coco_captions,
    docvqa,
    gsm8k,
    humaneval,
    math500,
    mathvista,
    mmmu,
    mmspec,
    mmstar,
    mt_bench,
    textvqa,
)

_FILES = (
    mt_bench, gsm8k, humaneval, math500, ceval, cmmlu, alpaca, mmstar, mmmu, chartqa, textvqa, docvqa, coco_captions, mathvista,
    mmspec,
)  # fmt: skip
ENTRIES: dict[str, Entry] = {entry.name: entry for file in _FILES for entry in file.ENTRIES}
GROUPS: dict[str, tuple[str, ...]] = {"mmspec": tuple(entry.name for entry in mmspec.ENTRIES)}
