"""Which image trains and which measures: sticky, stratified, ordered by a hash; and the folds."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, NamedTuple

from bearloop.contract.manifest import FOLD_BUCKETS

Split = Literal["train", "valid", "test"]


class Member(NamedTuple):
    """One image that takes part in the split."""

    sha256: str
    label: int | None
    """Class id; None for a conflict, which has a stratum of its own."""
    group: str
    """Sha256 of the group's first member."""
    split: Split | None
    """None where no source and no freeze gave one yet."""


class Shares(NamedTuple):
    """How large the measuring parts should be, of each class."""

    valid: float
    test: float


class _Group(NamedTuple):
    name: str
    members: list[Member]
    stratum: int | None


def assign_splits(members: Iterable[Member], *, seed: int, shares: Shares) -> dict[str, Split]:
    """Give a split to each image that has none, by sha256; nobody who has one moves.

    A new member of a group takes the group's side. New groups fill, class by class and in the
    order of hash(seed, group), what test and then valid lack of their share; the rest trains.
    """
    strata: dict[int | None, list[_Group]] = defaultdict(list)
    for group in _groups(members):
        strata[group.stratum].append(group)
    given: dict[str, Split] = {}
    for groups in strata.values():
        for group, split in _placed(groups, seed=seed, shares=shares):
            given.update({m.sha256: split for m in group.members if m.split is None})
    return given


def assign_folds(members: Iterable[Member], *, seed: int) -> dict[str, int]:
    """Give each image a fold 0..59, by sha256: the rank of its group's hash within its class.

    The images alone decide; a group shares one fold, and consecutive ranks fill k folds evenly.
    """
    strata: dict[int | None, list[_Group]] = defaultdict(list)
    for group in _groups(members):
        strata[group.stratum].append(group)
    folds: dict[str, int] = {}
    for groups in strata.values():
        for rank, group in enumerate(_in_order(groups, seed)):
            folds.update(dict.fromkeys((m.sha256 for m in group.members), rank % FOLD_BUCKETS))
    return folds


def _groups(members: Iterable[Member]) -> list[_Group]:
    together: dict[str, list[Member]] = defaultdict(list)
    for member in members:
        together[member.group].append(member)
    return [_Group(name, found, _stratum(found)) for name, found in together.items()]


def _stratum(members: Sequence[Member]) -> int | None:
    """Return the class that most members have, the oldest one of several; None if all conflict."""
    if len(members) == 1:
        return members[0].label  # nearly always
    counts = Counter(member.label for member in members if member.label is not None)
    if not counts:
        return None
    return min(counts, key=lambda label: (-counts[label], label))


def _placed(groups: Sequence[_Group], *, seed: int, shares: Shares) -> list[tuple[_Group, Split]]:
    lacking = _lacking(groups, shares)
    sides = {group.name: side for group in groups if (side := _side(group))}
    new = [group for group in _in_order(groups, seed) if group.name not in sides]
    for group in new:
        sides[group.name] = _next_side(len(group.members), lacking)
    if shares.valid > 0 and "valid" not in sides.values():
        sides |= _smallest_validates(new, sides)
    return [(group, sides[group.name]) for group in groups]


def _smallest_validates(new: Sequence[_Group], sides: Mapping[str, Split]) -> dict[str, Split]:
    """Pick a group to validate where all are too large for the share, if another one can train."""
    training = [group for group in new if sides[group.name] == "train"]
    if not training or list(sides.values()).count("train") < 2:
        return {}
    smallest = min(training, key=lambda group: len(group.members))
    return {smallest.name: "valid"}


def _lacking(groups: Sequence[_Group], shares: Shares) -> dict[Split, int]:
    """Count the images that test and valid lack of their share of the class."""
    total = sum(len(group.members) for group in groups)
    have: Counter[Split] = Counter()
    for group in groups:
        if side := _side(group):
            have[side] += len(group.members)
    wanted = wanted_images(total, shares)
    return {split: max(0, count - have[split]) for split, count in wanted.items()}


def wanted_images(total: int, shares: Shares) -> Mapping[Split, int]:
    """Return how many of a class's `total` images should test and validate.

    From two images on one validates (unless the share is 0), and one always stays to train on.
    """
    valid = round(total * shares.valid)
    if shares.valid > 0 and total > 1:
        valid = min(max(1, valid), total - 1)
    test = min(round(total * shares.test), max(0, total - valid - 1))
    return {"test": test, "valid": valid if total > 1 else 0}


def _side(group: _Group) -> Split | None:
    """Return where the group is: where its first member is, or whoever of it has a split."""
    sides = {m.sha256: m.split for m in group.members if m.split is not None}
    if not sides:
        return None
    return sides.get(group.name) or sides[min(sides)]


def _next_side(size: int, lacking: dict[Split, int]) -> Split:
    sides: tuple[Split, ...] = ("test", "valid")
    for side in sides:
        # A group that is mostly beyond the share would overshoot more than it fills.
        if lacking[side] * 2 >= size and lacking[side] > 0:
            lacking[side] -= size
            return side
    return "train"


def _in_order(groups: Sequence[_Group], seed: int) -> list[_Group]:
    return sorted(groups, key=lambda group: (_hash(seed, group.name), group.name))


def _hash(seed: int, group: str) -> bytes:
    return hashlib.sha256(f"{seed}:{group}".encode()).digest()
