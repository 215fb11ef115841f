"""SIGTERM: a run leaves at once, or after a checkpoint while it is training."""

from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from bearloop.sigterm import on_sigterm
from trainer.errors import InterruptedRunError


class Interruption:
    """Whether this process was asked to leave."""

    def __init__(self) -> None:
        self.requested = False
        self._deferred = False

    def listen(self) -> None:
        """Take SIGTERM: outside `deferred` it raises InterruptedRunError where the run stands."""
        on_sigterm(self._on_signal, lost=InterruptedRunError)

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Only note a request: the code inside looks at `requested` where it can leave."""
        self._deferred = True
        try:
            yield
        finally:
            self._deferred = False
        if self.requested:
            raise InterruptedRunError("asked to leave")

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self.requested = True
        if not self._deferred:
            raise InterruptedRunError("asked to leave by SIGTERM")
