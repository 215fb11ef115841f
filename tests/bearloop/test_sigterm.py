"""SIGTERM ends a program wherever it stands, in a destructor too."""

import subprocess
import sys
from typing import Final

PROGRAM: Final = """
import os, signal, time, weakref
from bearloop.sigterm import on_sigterm

class Left(SystemExit):
    pass

def leave(number, frame):
    raise Left(75)

class Thing:
    def __del__(self):
        {at_its_end}

def ask():
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(0)

on_sigterm(leave, lost=Left)
thing = Thing()
{then}
time.sleep(20)
"""


def _run(*, then: str, at_its_end: str = "pass") -> "subprocess.CompletedProcess[str]":
    program = PROGRAM.format(then=then, at_its_end=at_its_end)
    return subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False
    )


def test_it_raises_where_the_program_stands() -> None:
    assert _run(then="ask()").returncode == 75


def test_what_a_destructor_drops_is_raised_again() -> None:
    ended = _run(then="del thing", at_its_end="ask()")
    assert (ended.returncode, ended.stderr) == (75, "")


def test_what_a_callback_of_a_weak_reference_drops_is_raised_again() -> None:
    assert _run(then="gone = weakref.ref(thing, lambda _: ask()); del thing").returncode == 75


def test_other_dropped_exceptions_are_told_as_ever() -> None:
    ended = _run(then="del thing; ask()", at_its_end="raise ValueError('odd')")
    assert ended.returncode == 75
    assert "ValueError: odd" in ended.stderr
