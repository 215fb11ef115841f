"""Where a field that pydantic refused stands in what was posted; pure.

Between the fields pydantic names which of several kinds it read: the `fit` of a stage, the `Recipe`
of a recipe or its name. Nobody posted those.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from bearloop.contract.clashes import CLASH

LACKING: Final = ("missing", CLASH)
"""Types of errors at a field that need not have been posted."""

Place = tuple[str | int, ...]


def place_of(error: Mapping[str, Any], posted: object) -> Place:
    """Return an error's place as fields and numbers in a list, from an entry of `errors()`."""
    place: Place = tuple(error["loc"])
    if not isinstance(posted, dict | list):
        return place
    kept: list[str | int] = []
    inside: object = posted
    for part in place[:-1]:
        if _has(inside, part):
            kept.append(part)
            inside = inside[part]  # type: ignore[index]
    last = place[-1:]
    if error["type"] in LACKING or (last and _has(inside, last[0])):
        kept += last
    return tuple(kept)


def _has(inside: object, part: str | int) -> bool:
    if isinstance(inside, Mapping):
        return part in inside
    listed = isinstance(inside, Sequence) and not isinstance(inside, str)
    return listed and isinstance(part, int) and part < len(inside)  # type: ignore[arg-type]
