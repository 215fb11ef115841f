"""Splits: nobody moves, every class keeps its share, groups stay together."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.datasets.splits import (
    Member,
    Shares,
    Split,
    assign_folds,
    assign_splits,
    wanted_images,
)
from tests.api.imports.pictures import sha

SHARES = st.builds(Shares, valid=st.floats(0.05, 0.5), test=st.floats(0, 0.4))
NAMES = st.lists(st.integers(0, 10_000), unique=True, max_size=60)


def singles(names: list[int], *, classes: int = 3) -> list[Member]:
    return [Member(sha(str(n)), n % classes, sha(str(n)), None) for n in names]


def placed(members: list[Member], *, seed: int, shares: Shares) -> list[Member]:
    given = assign_splits(members, seed=seed, shares=shares)
    assert given.keys() == {m.sha256 for m in members if m.split is None}
    return [m._replace(split=m.split or given[m.sha256]) for m in members]


def counts(members: list[Member], label: int | None) -> Counter[Split | None]:
    return Counter(m.split for m in members if m.label == label)


@given(NAMES, SHARES, st.integers(0, 5))
def test_every_class_has_its_share_to_the_image(
    names: list[int], shares: Shares, seed: int
) -> None:
    members = placed(singles(names), seed=seed, shares=shares)
    for label in {m.label for m in members}:
        have = counts(members, label)
        wanted = wanted_images(have.total(), shares)
        assert (have["valid"], have["test"]) == (wanted["valid"], wanted["test"])
        assert abs(wanted["valid"] - shares.valid * have.total()) <= 1
        if have.total() > 1:
            assert have["valid"] >= 1
            assert have["train"] >= 1


@given(NAMES, NAMES, st.sets(st.integers(0, 59)), SHARES)
def test_nobody_moves_and_the_share_is_kept_when_images_come_and_go(
    first: list[int], second: list[int], gone: set[int], shares: Shares
) -> None:
    before = placed(singles(first), seed=1, shares=shares)
    stayed = [m for at, m in enumerate(before) if at not in gone]
    known = {m.sha256 for m in stayed}
    new = [m for m in singles(second) if m.sha256 not in known]
    after = placed([*new, *stayed], seed=1, shares=shares)
    splits = {m.sha256: m.split for m in after}
    assert all(splits[m.sha256] == m.split for m in stayed)
    for label in {m.label for m in after}:
        old, have = counts(stayed, label), counts(after, label)
        wanted = wanted_images(have.total(), shares)
        added = have.total() - old.total()
        # The new ones fill what test lacks, then what valid lacks, and nothing beyond.
        to_test = min(added, max(0, wanted["test"] - old["test"]))
        to_valid = min(added - to_test, max(0, wanted["valid"] - old["valid"]))
        assert have["test"] == old["test"] + to_test
        assert have["valid"] == old["valid"] + to_valid


@given(st.lists(st.integers(0, 12), min_size=1, max_size=80), SHARES)
def test_groups_never_straddle_splits_or_folds(groups: list[int], shares: Shares) -> None:
    members = [
        Member(sha(str(at)), group % 2, sha(f"group {group}"), None)
        for at, group in enumerate(groups)
    ]
    half = placed(members[::2], seed=3, shares=shares)
    whole = placed([*half, *members[1::2]], seed=3, shares=shares)
    folds = assign_folds(whole, seed=3)
    for group in {m.group for m in whole}:
        together = [m for m in whole if m.group == group]
        assert len({m.split for m in together}) == 1
        assert len({folds[m.sha256] for m in together}) == 1


def test_a_class_of_large_groups_still_validates() -> None:
    members = [Member(sha(str(n)), 1, sha(f"group {n // 5}"), None) for n in range(10)]
    shares = Shares(valid=0.2, test=0)
    assert counts(placed(members, seed=1, shares=shares), 1) == {"train": 5, "valid": 5}


def test_a_class_added_later_gets_its_own_share() -> None:
    shares = Shares(valid=0.2, test=0.1)
    before = placed(singles(list(range(50)), classes=1), seed=1, shares=shares)
    later = [Member(sha(f"new {n}"), 9, sha(f"new {n}"), None) for n in range(20)]
    after = placed([*before, *later], seed=1, shares=shares)
    assert counts(after, 9) == {"train": 14, "valid": 4, "test": 2}


def test_given_splits_are_honoured_and_count_to_the_share() -> None:
    given_test = [Member(sha(f"t{n}"), 0, sha(f"t{n}"), "test") for n in range(20)]
    free = [Member(sha(str(n)), 0, sha(str(n)), None) for n in range(80)]
    members = placed([*given_test, *free], seed=1, shares=Shares(valid=0.2, test=0.2))
    assert counts(members, 0) == {"train": 60, "valid": 20, "test": 20}


def test_conflicts_have_a_stratum_of_their_own() -> None:
    conflicts = [Member(sha(str(n)), None, sha(str(n)), None) for n in range(10)]
    members = placed(conflicts, seed=1, shares=Shares(valid=0.2, test=0))
    assert counts(members, None) == {"train": 8, "valid": 2}


def test_without_a_share_nobody_validates_unless_the_source_says_so() -> None:
    members = placed(singles(list(range(9))), seed=1, shares=Shares(valid=0, test=0))
    assert {m.split for m in members} == {"train"}


@pytest.mark.parametrize("k", range(2, 7))
def test_folds_are_even_for_every_k(k: int) -> None:
    folds = assign_folds(singles(list(range(600)), classes=3), seed=1)
    sizes = Counter(fold % k for fold in folds.values())
    assert set(folds.values()) == set(range(60))
    assert max(sizes.values()) - min(sizes.values()) <= 3 * (k > 2)
    assert assign_folds(singles(list(range(600))[::-1]), seed=1) == folds


def test_the_seed_changes_who_validates_and_nothing_else_does() -> None:
    members = singles(list(range(100)))
    shares = Shares(valid=0.2, test=0)
    one = assign_splits(members, seed=1, shares=shares)
    assert one == assign_splits(members[::-1], seed=1, shares=shares)
    assert one != assign_splits(members, seed=2, shares=shares)
