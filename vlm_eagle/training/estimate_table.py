"""The tables of a dry run."""

from rich.table import Table

from vlm_eagle.training.advice import Advice, Plan
from vlm_eagle.training.arithmetic import Arithmetic
from vlm_eagle.training.estimate import Memory
from vlm_eagle.training.sizes import DraftSizes, TargetSizes
from vlm_eagle.training.workload import GIB, Part, total

TERA = 1e12


def parameter_table(target: TargetSizes, draft: DraftSizes) -> Table:
    """Parameters of both models, by part."""
    table = _table("Parameters", "", "all", "active per token")
    table.add_row("target", f"{target.parameters:,}", "", style="bold")
    _part(table, "decoder layers", target.decoder, target.active)
    if target.vision:
        _part(table, "vision tower", target.vision.parameters)
    _part(table, "embedding" if target.head else "embedding, also lm_head", target.embedding)
    if target.head:
        _part(table, "lm_head", target.head)
    table.add_section()
    table.add_row("draft, all trained", f"{draft.parameters:,}", "", style="bold")
    for name in sorted(draft.parts, key=draft.parts.__getitem__, reverse=True):
        _part(table, name, draft.parts[name])
    return table


def memory_table(memory: Memory, budget: int, source: str) -> Table:
    """Device memory by part, against a budget in bytes that comes from `source`."""
    table = _table("Memory per device", "", "GiB")
    _section(table, "held throughout", memory.held)
    for name, parts in memory.phases.items():
        if parts:
            _section(table, f"during the {name}", parts, counts=name == memory.largest)
    table.add_section()
    table.add_row(f"most at one time: held + {memory.largest}", _gib(memory.peak), style="bold")
    table.add_row(f"budget: {source}", _gib(budget))
    left = budget - memory.peak
    table.add_row("left over" if left >= 0 else "missing", _gib(abs(left)), style="bold green" if left >= 0 else "bold red")
    return table


def arithmetic_table(arithmetic: Arithmetic) -> Table:
    """Arithmetic of one optimizer step on one device."""
    table = _table("Arithmetic per optimizer step and device", "", "TFLOP", "share")
    rows = {
        "target, decoder layers": arithmetic.target,
        "target, vision tower": arithmetic.vision,
        "target, lm_head where supervised": arithmetic.target_head,
        "draft, all rows: fc, keys, values": arithmetic.draft_all_rows,
        "draft, anchors: all else, all steps": arithmetic.draft_anchors,
        "Muon": arithmetic.optimizer,
    }
    for name, flops in rows.items():
        if flops:
            table.add_row(name, f"{flops / TERA:,.2f}", f"{flops / arithmetic.step:.1%}")
    table.add_section()
    table.add_row("step", f"{arithmetic.step / TERA:,.2f}", "", style="bold")
    if arithmetic.floor:
        table.add_row("floor: the target's forward alone", f"{arithmetic.floor / TERA:,.2f}", "")
        table.add_row("step / floor", f"{arithmetic.step / arithmetic.floor:.2f}", "", style="bold")
    return table


def advice_table(changes: list[Advice], plan: Plan, budget: int) -> Table:
    """What to change, what each change saves alone, and where it leads together with those above it; green where that fits."""
    table = _table("What would help", "", "saves alone, GiB", "with those above, GiB")
    for advice in changes:
        then = advice.so_far.peak
        colour = "green" if then <= budget else "red"
        table.add_row(advice.text, _gib(plan.peak - advice.alone.peak), f"[{colour}]{_gib(then)}[/]")
    return table


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left")
    table.add_column(columns[0])
    for column in columns[1:]:
        table.add_column(column, justify="right", no_wrap=True)
    return table


def _part(table: Table, name: str, parameters: int, active: int | None = None) -> None:
    shown = "" if active is None or active == parameters else f"{active:,}"
    table.add_row(f"  {name}", f"{parameters:,}", shown)


def _section(table: Table, name: str, parts: tuple[Part, ...], counts: bool = True) -> None:
    table.add_section()
    table.add_row(name, _gib(total(parts)), style="bold" if counts else "dim")
    for part, size in parts:
        table.add_row(f"  {part}", _gib(size), style=None if counts else "dim")


def _gib(size: int) -> str:
    return f"{size / GIB:,.2f}"
