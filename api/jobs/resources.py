"""What a job asks for beside GPUs and nodes, which its specification names."""

from datetime import timedelta
from typing import Final

from pydantic import BaseModel, ConfigDict, Field

MEMORY: Final = r"^[1-9][0-9]{0,5}(Mi|Gi|Ti)$"
LONGEST: Final = 90 * 24 * 3600
"""Seconds of the longest deadline."""


class Resources(BaseModel):
    """Of each of the job's pods; None is what the operator set for the program."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    cpu: float | None = Field(default=None, gt=0, le=512)
    """Cores."""
    memory: str | None = Field(default=None, pattern=MEMORY)
    """E.g. `8Gi`."""
    deadline: int | None = Field(default=None, ge=60, le=LONGEST)
    """Seconds that one launch may take, from its start."""

    @property
    def longest(self) -> timedelta | None:
        """The deadline as a span of time."""
        return None if self.deadline is None else timedelta(seconds=self.deadline)
