"""What a dataset holds, counted by the database."""

from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import Row, text
from sqlalchemy.orm import Session

from api.access import Caller
from api.classes import classes_of
from api.dataset import find_dataset
from api.datasets.schemas import Bucket, ClassProfile, Profile, Spread
from api.tables import Dataset

LONGER_SIDES: Final = (64, 128, 256, 512, 1024, 2048, 4096)
"""Upper ends of the histogram's buckets, in pixels."""

LABELS = text(
    """
    select class_id, split, removed, count(*) as images
    from dataset_image where dataset_id = :dataset_id group by class_id, split, removed
    """
)
SIZES = text(
    """
    select coalesce(sum(bytes), 0) as bytes,
           min(width) as min_width, max(width) as max_width,
           percentile_disc(0.5) within group (order by width) as median_width,
           min(height) as min_height, max(height) as max_height,
           percentile_disc(0.5) within group (order by height) as median_height
    from dataset_image join image using (sha256)
    where dataset_id = :dataset_id and project_id = :project_id and not removed
    """
)
SHAPES = text(
    """
    select format, width_bucket(greatest(width, height) - 1, cast(:sides as bigint[])) as bucket,
           count(*) as images
    from dataset_image join image using (sha256)
    where dataset_id = :dataset_id and project_id = :project_id and not removed
    group by format, bucket
    """
)


def profile(session: Session, caller: Caller, name: str) -> Profile:
    """Count the dataset's images by class, split, size and format."""
    dataset = find_dataset(session, caller, name)
    where = {"dataset_id": dataset.id, "project_id": dataset.project_id}
    labels = session.execute(LABELS, {"dataset_id": dataset.id}).all()
    sizes = session.execute(SIZES, where).one()
    shapes = session.execute(SHAPES, where | {"sides": list(LONGER_SIDES)}).all()
    current = [row for row in labels if not row.removed]
    return Profile(
        images=sum(row.images for row in current),
        removed=sum(row.images for row in labels if row.removed),
        conflicts=sum(row.images for row in current if row.class_id is None),
        bytes=int(sizes.bytes),
        classes=_classes(session, dataset, current),
        width=_spread(sizes.min_width, sizes.median_width, sizes.max_width),
        height=_spread(sizes.min_height, sizes.median_height, sizes.max_height),
        longer_side=_histogram(shapes),
        formats=_formats(shapes),
    )


def _classes(session: Session, dataset: Dataset, rows: Sequence[Row[Any]]) -> list[ClassProfile]:
    counted = {(row.class_id, row.split): row.images for row in rows}
    profiles = []
    for entry in classes_of(session, dataset.id):
        splits = {
            name: counted.get((entry.id, split), 0)
            for name, split in (
                *(("train", "train"), ("valid", "valid"), ("test", "test")),
                ("unassigned", None),
            )
        }
        total = sum(splits.values())
        profiles.append(ClassProfile(class_id=entry.id, name=entry.name, images=total, **splits))
    return profiles


def _spread(least: int | None, middle: int | None, most: int | None) -> Spread | None:
    if least is None or middle is None or most is None:
        return None
    return Spread(min=least, median=middle, max=most)


def _histogram(shapes: Sequence[Row[Any]]) -> list[Bucket]:
    counts = [0] * (len(LONGER_SIDES) + 1)
    for row in shapes:
        counts[row.bucket] += row.images
    ends: tuple[int | None, ...] = (*LONGER_SIDES, None)
    return [Bucket(up_to=end, images=count) for end, count in zip(ends, counts, strict=True)]


def _formats(shapes: Sequence[Row[Any]]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for row in shapes:
        counts[row.format] = counts.get(row.format, 0) + row.images
    return dict(sorted(counts.items()))
