"""How a plan is carried out, whatever the plan."""

from dataclasses import dataclass, field
from pathlib import Path

from vlm_eagle.errors import UserError


@dataclass(frozen=True)
class Settings:
    """The settings of a run.

    Attributes:
        held_out: share of conversations to hold out.
        similarity: from which similarity on two conversations count as the same; above 1, only identical ones do.
        limit: rows to read of each source; None for all.
        seed: of the draw and the order.
        workers: processes that measure conversations.
        images: folders to look for pictures in, before the source's own.
    """

    held_out: float = 0.01
    similarity: float = 0.8
    limit: int | None = None
    seed: int = 0
    workers: int = 2
    images: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        if not 0 <= self.held_out < 1:
            raise UserError(f"held_out is a share of the conversations, from 0 to below 1; found {self.held_out}.")
        if not self.similarity > 0.5:
            raise UserError(f"similarity must be above 0.5, found {self.similarity}: candidates below are not found.")
        if self.limit is not None and self.limit < 1:
            raise UserError(f"limit must be at least 1, found {self.limit}.")
        if not -(2**63) <= self.seed < 2**63:
            raise UserError(f"seed is a number of 64 bits, found {self.seed}.")
        for folder in self.images:
            if not Path(folder).is_dir():
                raise UserError(f"{folder}: no such folder of pictures.")
