"""How long each step of the demo took."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from bearloop.cli.output import said


@dataclass
class Clock:
    """Seconds of each step, by name, in order."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Time a step and say that it begins."""
        said.rule(name, align="left", style="dim")
        started = time.monotonic()
        yield
        self.seconds[name] = time.monotonic() - started
