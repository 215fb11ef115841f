"""Pixels decoded once: uint8 memory-mapped shards, kept between runs and found by content.

Rows are found by the picture's sha256: an overlapping version decodes only what it lacks, and two
runs that decode the same picture at once write two rows with equal bytes.
"""

import hashlib
import inspect
import os
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import numpy as np
import PIL
from numpy.typing import NDArray

import bearloop.preprocess
from bearloop.contract.preprocess import Preprocess
from bearloop.preprocess import PictureError, read_picture, to_pixels
from bearloop.store import MissingObjectError, Store, image_key
from trainer.data import Item
from trainer.errors import InputError
from trainer.leftovers import remove_leftovers
from trainer.room import Free, check_room, free_bytes
from trainer.shards import Shards, unfinished

SHARD_BYTES: Final = 256 * 1024 * 1024
MAX_THREADS: Final = 8
"""Of decoding; more would only hold more whole pictures in memory."""

Report = Callable[[int, int], None]
"""Told (pictures done, pictures in all)."""


_Missing = Mapping[tuple[Shards, ...], Sequence[Item]]
"""Pictures by the folders that lack them: one that only some lack is written into those only."""


class Pixels:
    """Rows of uint8 [side, side, 3], one for each item and in the items' order."""

    def __init__(self, folder: Shards, items: Sequence[Item]) -> None:
        """Map the shards that hold an item; the folder must hold every one."""
        self.spec = folder.spec
        places = folder.places()
        found = [places.rows[item.sha256] for item in items]
        held = sorted({shard for shard, _ in found})
        self._shards = {shard: folder.read(places.names[shard]) for shard in held}
        self._rows = np.asarray(found, dtype=np.int64)

    def __len__(self) -> int:
        return len(self._rows)

    def gather(self, indices: Sequence[int] | NDArray[np.integer]) -> NDArray[np.uint8]:
        """Copy the pixels of some items: uint8 [len(indices), side, side, 3]."""
        places = self._rows[np.asarray(indices, dtype=np.int64)]
        out = np.empty((len(places), self.spec.size, self.spec.size, 3), dtype=np.uint8)
        for made, (shard, row) in zip(out, places, strict=True):
            made[:] = self._shards[shard][row]
        return out


class PresizedPixels(Pixels):
    """Larger than the model's input: what training crops are taken from."""


class EvaluationPixels(Pixels):
    """The exact output of `bearloop.preprocess.to_pixels` on the originals, as a server sees it."""

    def __init__(
        self,
        folder: Shards,
        items: Sequence[Item],
        others: Mapping[int, "EvaluationPixels"] | None = None,
    ) -> None:
        """Open the shards of `folder`; `others` are the same pictures at other sizes."""
        super().__init__(folder, items)
        self._others = others or {}

    def at(self, size: int) -> "EvaluationPixels":
        """Return the pictures at the size that a stage validates at."""
        return self if size == self.spec.size else self._others[size]


def open_pixels(
    store: Store,
    items: Sequence[Item],
    *,
    evaluation: Preprocess,
    presize: int,
    folder: Path,
    report: Report,
    sizes: Sequence[int] = (),
    free: Free = free_bytes,
) -> tuple[PresizedPixels, EvaluationPixels]:
    """Decode each picture that `folder` lacks, once for both; raises InputError naming a bad one.

    Presizing takes the shape that evaluation takes (crop, pad or squish), only larger. `sizes` are
    those at which stages validate. What the disk has no room for is refused before it is begun, and
    what killed runs left half-written is removed.
    """
    largest = max(evaluation.size, *sizes, 0)
    if presize < largest:
        raise InputError(
            "presize_below_size",
            f"pictures presized to {presize} cannot give crops of {largest}",
            field="recipe.stages.presize",
            value=str(presize),
            way_out=f"presize to {largest} or more",
        )
    others = [size for size in dict.fromkeys(sizes) if size != evaluation.size]
    sides = (presize, evaluation.size, *others)
    remove_leftovers(unfinished(folder))
    opened = {side: _opened(folder, side, evaluation) for side in dict.fromkeys(sides)}
    missing = _missing(items, list(opened.values()))
    _check_room(folder, missing, presize=presize, free=free)
    done = len(items) - sum(len(lacking) for lacking in missing.values())
    for folders, lacking in missing.items():
        for part in _parts(lacking, max(place.spec.size for place in folders)):
            for one in _decode_part(store, part, folders):
                done += one
                report(done, len(items))
    smaller = {size: EvaluationPixels(opened[size], items) for size in others}
    plain = EvaluationPixels(opened[evaluation.size], items, smaller)
    return PresizedPixels(opened[presize], items), plain


def _missing(items: Sequence[Item], opened: Sequence[Shards]) -> _Missing:
    known = [(place, place.places().rows) for place in opened]
    found: dict[tuple[Shards, ...], list[Item]] = {}
    for item in items:
        lack = tuple(place for place, rows in known if item.sha256 not in rows)
        if lack:
            found.setdefault(lack, []).append(item)
    return found


def _check_room(folder: Path, missing: _Missing, *, presize: int, free: Free) -> None:
    count = {folders: len({item.sha256 for item in items}) for folders, items in missing.items()}
    needed = sum(n * sum(place.row_bytes for place in folders) for folders, n in count.items())
    sides = {place.spec.size for folders in missing for place in folders}
    shown = " and ".join(str(side) for side in sorted(sides, reverse=True))
    check_room(
        folder,
        needed,
        what=f"{sum(count.values())} pictures, decoded at {shown} pixels,",
        field="recipe.stages.presize",
        value=str(presize),
        way_out="give a smaller presize or size",
        free=free,
    )


def decided_by(spec: Preprocess) -> list[str]:
    """Name all that decides the bytes: mean and std do not, the decoder and its caller do."""
    decoder = f"pillow {PIL.__version__}"
    own = digest_of(inspect.getsource(bearloop.preprocess))
    return [str(spec.size), spec.resize, decoder, own]


def digest_of(source: str) -> str:
    """Name a module by its text: a change of it is another module, released or not."""
    return hashlib.sha256(source.encode()).hexdigest()


def _opened(folder: Path, side: int, spec: Preprocess) -> Shards:
    plain = Preprocess(size=side, resize=spec.resize)
    name = hashlib.sha256(repr(decided_by(plain)).encode()).hexdigest()[:16]
    return Shards(folder / name, plain)


def _parts(items: Sequence[Item], side: int) -> Iterator[Sequence[Item]]:
    count = max(1, SHARD_BYTES // (side * side * 3))
    unique = list({item.sha256: item for item in items}.values())
    for start in range(0, len(unique), count):
        yield unique[start : start + count]


def _decode_part(store: Store, items: Sequence[Item], folders: Sequence[Shards]) -> Iterator[int]:
    """Write one shard per folder; yields 1 for each picture decoded."""
    specs = [folder.spec for folder in folders]
    name, shas = uuid.uuid4().hex, [item.sha256 for item in items]
    with ExitStack() as shards:
        maps = [shards.enter_context(folder.new(name, shas)) for folder in folders]

        def decode(row: int) -> None:
            for pixels, made in zip(maps, _decode(store, shas[row], specs), strict=True):
                pixels[row] = made

        with ThreadPoolExecutor(min(MAX_THREADS, os.cpu_count() or 1)) as pool:
            yield from (1 for _ in pool.map(decode, range(len(shas))))


def _decode(store: Store, sha256: str, specs: Sequence[Preprocess]) -> list[NDArray[np.uint8]]:
    try:
        picture = read_picture(store.get(image_key(sha256)))
    except (PictureError, MissingObjectError) as error:
        raise InputError(
            "unreadable_image",
            f"image {sha256}: {error}",
            field="sha256",
            value=sha256,
            way_out="remove it from the dataset or import it again, and freeze a new version",
        ) from error
    return [to_pixels(picture, spec) for spec in specs]
