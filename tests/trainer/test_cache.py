"""Decoded pixels: exact, decoded once, found again, and safe against what a crash leaves."""

import inspect
import math
import os
import tempfile
from pathlib import Path

import numpy as np
import pytest

import bearloop.preprocess
from bearloop.contract import environment
from bearloop.contract.preprocess import Preprocess
from bearloop.preprocess import read_picture, to_pixels
from bearloop.store import FolderStore, image_key
from tests.trainer.versions import pictures, put_version, recipe
from trainer.cache import EvaluationPixels, PresizedPixels, decided_by, digest_of, open_pixels
from trainer.data import Item, load_items
from trainer.errors import InputError
from trainer.room import check_room, free_bytes, left_within

SPEC = Preprocess(size=32)


class CountingStore(FolderStore):
    """A folder that counts the images asked for."""

    asked = 0

    def get(self, key: str) -> bytes:
        self.asked += key.startswith("images/")
        return super().get(key)


@pytest.fixture
def store(tmp_path: Path) -> CountingStore:
    return CountingStore(tmp_path / "store")


@pytest.fixture
def items(store: CountingStore) -> list[Item]:
    return load_items(store, put_version(store, pictures(train=3, valid=1), recipe=recipe()))


def opened(
    store: CountingStore,
    items: list[Item],
    folder: Path,
    *,
    spec: Preprocess = SPEC,
    presize: int = 48,
) -> tuple[PresizedPixels, EvaluationPixels]:
    return open_pixels(
        store, items, evaluation=spec, presize=presize, folder=folder, report=lambda *_: None
    )


@pytest.mark.parametrize("resize", ["crop", "pad", "squish"])
def test_pixels_are_exactly_those_of_the_one_transform(
    store: CountingStore, items: list[Item], tmp_path: Path, resize: str
) -> None:
    spec = Preprocess.model_validate({"size": 32, "resize": resize})
    presized, evaluation = opened(store, items, tmp_path / "cache", spec=spec)
    assert (len(presized), len(evaluation)) == (12, 12)
    for row, item in enumerate(items):
        original = read_picture(store.get(image_key(item.sha256)))
        assert np.array_equal(evaluation.gather([row])[0], to_pixels(original, spec))
        larger = spec.model_copy(update={"size": 48})
        assert np.array_equal(presized.gather([row])[0], to_pixels(original, larger))


def test_gather_keeps_the_order_asked_for(
    store: CountingStore, items: list[Item], tmp_path: Path
) -> None:
    _, pixels = opened(store, items, tmp_path / "cache")
    rows = [7, 0, 7, 11]
    assert pixels.gather(rows).shape == (4, 32, 32, 3)
    for place, row in enumerate(rows):
        assert np.array_equal(pixels.gather(rows)[place], pixels.gather([row])[0])


def test_each_picture_is_read_once_for_both_sizes_and_never_again(
    store: CountingStore, items: list[Item], tmp_path: Path
) -> None:
    opened(store, items, tmp_path / "cache")
    assert store.asked == 12
    opened(store, items, tmp_path / "cache")
    assert store.asked == 12


def test_what_makes_the_pixels_names_them_and_normalising_does_not() -> None:
    decided = decided_by(SPEC)
    assert decided == decided_by(SPEC.model_copy(update={"std": (0.5, 0.5, 0.5)}))
    for changes in ({"size": 40}, {"resize": "squish"}):
        assert decided != decided_by(SPEC.model_copy(update=changes))
    source = inspect.getsource(bearloop.preprocess)
    assert digest_of(source) in decided
    assert digest_of(source + "\n") not in decided


def test_an_overlapping_version_reads_only_what_is_new(
    store: CountingStore, items: list[Item], tmp_path: Path
) -> None:
    opened(store, items, tmp_path / "cache")
    more = load_items(store, put_version(store, pictures(train=5, valid=1), recipe=recipe()))
    _, pixels = opened(store, more, tmp_path / "cache")
    assert store.asked == 12 + 6
    for row, item in enumerate(more):
        original = read_picture(store.get(image_key(item.sha256)))
        assert np.array_equal(pixels.gather([row])[0], to_pixels(original, SPEC))


def test_a_picture_is_written_at_the_sizes_only_that_lack_it(
    store: CountingStore, items: list[Item], tmp_path: Path
) -> None:
    folder, told = tmp_path / "cache", list[tuple[int, int]]()
    opened(store, items, folder)
    more = load_items(store, put_version(store, pictures(train=5, valid=1), recipe=recipe()))
    # 12 lack the size of 64, and 6 both.
    needed = (12 * 64**2 + 6 * (64**2 + 32**2)) * 3

    def open_with(free: int) -> tuple[PresizedPixels, EvaluationPixels]:
        return open_pixels(
            store,
            more,
            evaluation=SPEC,
            presize=64,
            folder=folder,
            report=lambda done, total: told.append((done, total)),
            free=lambda _: free,
        )

    with pytest.raises(InputError, match="18 pictures, decoded at 64 and 32 pixels"):
        open_with(needed - 1)
    presized, evaluation = open_with(needed)
    assert store.asked == 12 + 18
    assert told == [(done, 18) for done in range(1, 19)]
    written = [path.stat().st_size for path in folder.glob("*/*.u8")]
    assert sum(written) == 12 * (48**2 + 32**2) * 3 + needed
    for row, item in enumerate(more):
        original = read_picture(store.get(image_key(item.sha256)))
        assert np.array_equal(evaluation.gather([row])[0], to_pixels(original, SPEC))
        larger = SPEC.model_copy(update={"size": 64})
        assert np.array_equal(presized.gather([row])[0], to_pixels(original, larger))


def test_equal_sizes_share_their_rows(
    store: CountingStore, items: list[Item], tmp_path: Path
) -> None:
    presized, evaluation = opened(store, items, tmp_path / "cache", presize=32)
    assert np.array_equal(presized.gather(range(12)), evaluation.gather(range(12)))
    assert len(list((tmp_path / "cache").glob("*/*.u8"))) == 1


def test_a_shard_that_was_cut_short_is_decoded_again(
    store: CountingStore, items: list[Item], tmp_path: Path
) -> None:
    opened(store, items, tmp_path / "cache")
    shard = max((tmp_path / "cache").glob("*/*.u8"), key=lambda path: path.stat().st_size)
    shard.write_bytes(shard.read_bytes()[:-1])
    presized, _ = opened(store, items, tmp_path / "cache")
    original = read_picture(store.get(image_key(items[0].sha256)))
    larger = SPEC.model_copy(update={"size": 48})
    assert np.array_equal(presized.gather([0])[0], to_pixels(original, larger))


def test_what_killed_runs_left_is_removed_and_nothing_else(
    store: CountingStore, items: list[Item], tmp_path: Path
) -> None:
    opened(store, items, tmp_path / "cache")
    kept = set((tmp_path / "cache").glob("*/*"))
    # Of a size that no run takes any more too.
    for folder in (next(iter(kept)).parent, tmp_path / "cache" / "older"):
        folder.mkdir(exist_ok=True)
        for name in ("orphan.u8", "preprocess.1f.new"):
            (folder / name).write_bytes(b"half")
    for path in (tmp_path / "cache").glob("*/*"):
        os.utime(path, (0, 0))
    writing = next(iter(kept)).with_name("young.u8")
    writing.write_bytes(b"half")
    opened(store, items, tmp_path / "cache")
    assert set((tmp_path / "cache").glob("*/*")) == {*kept, writing}
    assert store.asked == 12


def test_an_unreadable_picture_is_named_and_leaves_no_shard(
    store: CountingStore, items: list[Item], tmp_path: Path
) -> None:
    sha = items[5].sha256
    store.put(image_key(sha), b"GIF89a is no picture")
    with pytest.raises(InputError, match=sha) as caught:
        opened(store, items, tmp_path / "cache")
    assert (caught.value.problem.code, caught.value.problem.value) == ("unreadable_image", sha)
    assert not list((tmp_path / "cache").glob("*/*.u8"))


def test_a_picture_missing_from_the_store_is_named(
    store: CountingStore, items: list[Item], tmp_path: Path
) -> None:
    store.delete(image_key(items[2].sha256))
    with pytest.raises(InputError, match=items[2].sha256):
        opened(store, items, tmp_path / "cache")


def test_presizing_below_the_models_input_is_refused(
    store: CountingStore, items: list[Item], tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="presize to 32 or more"):
        opened(store, items, tmp_path / "cache", presize=31)


def test_what_has_no_room_is_refused_before_it_is_decoded(
    store: CountingStore, items: list[Item], tmp_path: Path
) -> None:
    folder, needed = tmp_path / "cache", 12 * (48 * 48 + 32 * 32) * 3

    def open_with(free: int) -> None:
        open_pixels(
            store,
            items,
            evaluation=SPEC,
            presize=48,
            folder=folder,
            report=lambda *_: None,
            free=lambda _: free,
        )

    with pytest.raises(InputError, match="12 pictures, decoded at 48 and 32 pixels") as refused:
        open_with(needed - 1)
    problem = refused.value.problem
    assert (problem.code, problem.field, problem.value) == (
        "no_room_on_disk", "recipe.stages.presize", "48",
    )  # fmt: skip
    assert "smaller presize or size" in (problem.way_out or "")
    assert store.asked == 0
    open_with(needed)
    # What is there already needs no room.
    open_with(0)


def test_the_room_is_that_of_the_disk(tmp_path: Path) -> None:
    told = {"what": "pictures", "field": "f", "value": "v", "way_out": "fewer"}
    check_room(tmp_path, 1, **told)
    with pytest.raises(InputError, match=r"pictures need 1000000000\.0 GB, and .* has room for"):
        check_room(tmp_path, 10**18, **told)


def test_the_room_of_a_pod_is_what_its_scratch_has_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scratch, limit = tmp_path / "scratch", 10 * 2**20
    cache, elsewhere = scratch / "cache", tmp_path / "elsewhere"
    for folder in (cache, elsewhere):
        folder.mkdir(parents=True)
    assert left_within(limit, cache, scratch=scratch) == limit
    (scratch / "download").write_bytes(bytes(4 * 2**20))
    assert limit // 2 < left_within(limit, cache, scratch=scratch) <= limit - 4 * 2**20
    (cache / "pixels").write_bytes(bytes(8 * 2**20))
    assert left_within(limit, cache, scratch=scratch) == 0
    assert left_within(limit, elsewhere, scratch=scratch) == math.inf
    # A job is told of its limit by a variable.
    monkeypatch.setenv(environment.SCRATCH_LIMIT, "1")
    assert free_bytes(Path(tempfile.gettempdir())) == 0


def test_progress_counts_every_picture(
    store: CountingStore, items: list[Item], tmp_path: Path
) -> None:
    told: list[tuple[int, int]] = []
    open_pixels(
        store,
        items,
        evaluation=SPEC,
        presize=48,
        folder=tmp_path / "cache",
        report=lambda done, total: told.append((done, total)),
    )
    assert told == [(done, 12) for done in range(1, 13)]
