"""The two ways an input is at fault: a source as a whole, or one line of it."""

from typing import Final, NamedTuple

from bearloop.contract.jobs import Problem

TOO_LARGE: Final = "too_large"


class SourceError(Exception):
    """The source as a whole cannot be imported; never retried."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.detail)
        self.problem = problem


class Refusal(NamedTuple):
    """Why one line of a source is not taken; `code` is stable."""

    code: str
    detail: str


class RefusedError(Exception):
    """One line of the source is not taken; the others are."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.refusal = Refusal(code, detail)


def too_large(size: int, most: int) -> Refusal | None:
    """Refuse a file of `size` bytes when it is over the limit."""
    if size <= most:
        return None
    return Refusal(TOO_LARGE, f"it is larger than {most} bytes; scale it down")
