"""Print the requirements of extras of pyproject.toml, for a layer that depends on nothing else."""

import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

EXTRAS_OF_OURSELVES = re.compile(r"bearloop\[([a-z,]+)\]")


def main(extras: list[str]) -> None:
    """Print what pyproject.toml beside us asks for, one requirement a line."""
    project = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"]
    known = project["optional-dependencies"]
    unknown = sorted(set(extras) - set(known))
    if unknown:
        sys.exit(f"no extra {', '.join(unknown)} in pyproject.toml: there are {', '.join(known)}")
    asked = {*project["dependencies"], *_requirements(extras, known)}
    print("\n".join(sorted(asked)))


def _requirements(extras: list[str], known: dict[str, list[str]]) -> Iterator[str]:
    for requirement in (line for extra in extras for line in known[extra]):
        ourselves = EXTRAS_OF_OURSELVES.fullmatch(requirement)
        if ourselves:
            yield from _requirements(ourselves[1].split(","), known)
        else:
            yield requirement


if __name__ == "__main__":
    main(sys.argv[1:])
