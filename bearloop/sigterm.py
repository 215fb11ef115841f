"""SIGTERM as an exception where a program stands, raised again when Python dropped it."""

import signal
import sys
from collections.abc import Callable
from types import FrameType
from typing import Final

AGAIN: Final = 0.05
"""Seconds after which an exception that got lost is raised again."""


def on_sigterm(leave: Callable[[int, FrameType | None], None], lost: type[BaseException]) -> None:
    """Let SIGTERM call `leave`, which raises an exception of the type `lost`.

    What is raised while a destructor or a weak reference's callback runs, Python drops, and tells
    `sys.unraisablehook`: a program that was asked to leave once would stay. `leave` is then called
    again, by SIGALRM.
    """
    told = sys.unraisablehook

    def dropped(what: "sys.UnraisableHookArgs") -> None:
        if isinstance(what.exc_value, lost):
            signal.setitimer(signal.ITIMER_REAL, AGAIN)
        else:
            told(what)

    signal.signal(signal.SIGTERM, leave)
    signal.signal(signal.SIGALRM, leave)
    sys.unraisablehook = dropped
