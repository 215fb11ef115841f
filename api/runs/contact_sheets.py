"""A sheet of a dataset's pictures: as stored, or as a recipe or a run shows them to its model."""

import hashlib
import io
from collections.abc import Sequence
from typing import Annotated, Final, Literal, NamedTuple, Self, cast

from fastapi import Query
from PIL import Image, ImageDraw, ImageFont, ImageOps
from pydantic import BaseModel, ConfigDict, Field, model_validator
from sqlalchemy import Select, or_, select
from sqlalchemy.orm import Session

from api.access import Caller
from api.classes import find_class
from api.datasets.find import find_dataset
from api.datasets.images import read_content, read_thumbnail
from api.errors import UnprocessableError
from api.runs.recipe_store import find_recipe
from api.runs.runs import UnknownRunError, find_run
from api.tables import Class, Dataset, DatasetImage
from bearloop.contract.recipes import CacheStage, Recipe
from bearloop.preprocess import read_picture, to_pixels
from bearloop.sampling import change_pictures
from bearloop.store import Store

TILE: Final = 192
"""Side in pixels of one picture's place, above the line that names its class."""
LINE: Final = 20
GAP: Final = 4
COLUMNS: Final = 6
SEED: Final = 42
"""Where nobody says another."""


class SheetQuery(BaseModel):
    """Which pictures, and whether as stored or as a recipe or a run changes them."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)
    recipe: str | None = Field(
        default=None,
        description="A recipe's name: pictures that it learns from, as its first fit stage "
        "shows them. They are labelled ones of the train split or of none yet, or of every split "
        "where it trains on all images. Absent: any, as they are stored.",
    )
    run: int | None = Field(
        default=None,
        ge=1,
        le=2**31 - 1,
        description="A run's number, in place of `recipe`: with the recipe that it was started "
        "with, whatever was changed of the named one.",
    )
    seed: int | None = Field(
        default=None,
        ge=0,
        le=2**31 - 1,
        description="Of the choice, and of the recipe's changes. Absent: the run's, else 42.",
    )
    n: int = Field(default=24, ge=1, le=60, description="Most pictures.")
    class_name: str | None = Field(default=None, alias="class", description="Of this class only.")
    split: Literal["train", "valid", "test"] | None = Field(
        default=None,
        description="Of this split only; with a recipe or a run also one that it does not learn "
        "from, as it would show them.",
    )

    @model_validator(mode="after")
    def _is_of_one_recipe(self) -> Self:
        if self.recipe is not None and self.run is not None:
            raise ValueError("recipe and run: a run has its own recipe, give one of them")
        return self


class NothingToDrawError(UnprocessableError):
    """The dataset has no picture that the recipe would learn from, or of what was asked for."""

    code = "nothing_to_draw"
    title = "Nothing to draw"


AskedSheet = Annotated[SheetQuery, Query()]


class _Tile(NamedTuple):
    picture: Image.Image
    title: str


class _Way(NamedTuple):
    """How the pictures are shown."""

    recipe: Recipe | None
    """Whose changes; None: as they are stored."""
    seed: int


Chosen = tuple[DatasetImage, str | None]


def draw_contact_sheet(
    session: Session, caller: Caller, dataset: str, *, asked: SheetQuery, store: Store
) -> bytes:
    """Return the sheet as PNG; equal questions to equal datasets give equal sheets.

    Of a recipe or a run it shows what that learns from; raises NothingToDrawError without any.
    """
    found = find_dataset(session, caller, dataset)
    way = _way(session, caller, asked, dataset=found)
    chosen = _choose(session, found, asked, way=way)
    if way.recipe is None:
        pictures = [_stored(image, store) for image, _ in chosen]
    else:
        pictures = _changed(session, chosen, recipe=way.recipe, seed=way.seed, store=store)
    titles = [name or "(conflict)" for _, name in chosen]
    return _drawn([_Tile(*tile) for tile in zip(pictures, titles, strict=True)])


def _way(session: Session, caller: Caller, asked: SheetQuery, *, dataset: Dataset) -> _Way:
    recipe, seed = None, SEED
    if asked.recipe is not None:
        recipe = find_recipe(session, caller, asked.recipe)
    if asked.run is not None:
        parts = find_run(session, caller, asked.run)
        if parts.dataset.id != dataset.id:
            raise UnknownRunError(
                f"run {asked.run} is of the dataset {parts.dataset.name}, not of {dataset.name}",
                field="run",
                value=asked.run,
                way_out=f"GET …/datasets/{parts.dataset.name}/contact-sheet.png?run={asked.run}",
            )
        recipe, seed = parts.spec.recipe, parts.spec.seed
    return _Way(recipe, seed if asked.seed is None else asked.seed)


def _choose(
    session: Session, dataset: Dataset, asked: SheetQuery, *, way: _Way
) -> Sequence[Chosen]:
    """Take what follows a place that the seed names in the order of sha256, which is random."""
    start = hashlib.sha256(str(way.seed).encode()).hexdigest()
    query = _matching(session, dataset, asked)
    if way.recipe is not None:
        query = query.where(DatasetImage.class_id.is_not(None))
        if asked.split is None and way.recipe.train_on == "train":
            # The next freeze may put those without a split into train.
            learnt = or_(DatasetImage.split == "train", DatasetImage.split.is_(None))
            query = query.where(learnt)
    query = query.order_by(DatasetImage.sha256)
    after = session.execute(query.where(DatasetImage.sha256 >= start).limit(asked.n)).all()
    lacking = asked.n - len(after)
    first = session.execute(query.where(DatasetImage.sha256 < start).limit(lacking)).all()
    if way.recipe is not None and not (after or first):
        raise _nothing_to_draw(dataset, asked, recipe=way.recipe)
    return [(image, name) for image, name in (*after, *first)]


def _matching(
    session: Session, dataset: Dataset, asked: SheetQuery
) -> Select[DatasetImage, str | None]:
    query = (
        select(DatasetImage, Class.name)
        .join(Class, Class.id == DatasetImage.class_id, isouter=True)
        .where(DatasetImage.dataset_id == dataset.id, DatasetImage.removed.is_(False))
    )
    if asked.class_name is not None:
        wanted = find_class(session, dataset.id, asked.class_name)
        query = query.where(DatasetImage.class_id == wanted.id)
    if asked.split is not None:
        query = query.where(DatasetImage.split == asked.split)
    return cast("Select[DatasetImage, str | None]", query)


def _nothing_to_draw(dataset: Dataset, asked: SheetQuery, *, recipe: Recipe) -> NothingToDrawError:
    split = asked.split or ("train" if recipe.train_on == "train" else None)
    what = " ".join(part for part in (split, "image") if part)
    of = "" if asked.class_name is None else f" of the class {asked.class_name!r}"
    return NothingToDrawError(
        f"{dataset.name} has no labelled {what}{of} to show as {recipe.name} would",
        field="recipe" if asked.run is None else "run",
        value=recipe.name if asked.run is None else asked.run,
        way_out="ask for another split or class, or for a sheet as stored, without recipe and run",
    )


def _stored(image: DatasetImage, store: Store) -> Image.Image:
    data, _ = read_thumbnail(image, store)
    return read_picture(data)


def _changed(
    session: Session, chosen: Sequence[Chosen], *, recipe: Recipe, seed: int, store: Store
) -> list[Image.Image]:
    """Show the originals as the first fit stage does in a step of this seed."""
    _, first = recipe.fits()[0]
    shown, feeding = recipe.during(first).preprocess, recipe.feeding(first)
    originals = (read_picture(read_content(session, image, store)[0]) for image, _ in chosen)
    if feeding is not None and feeding.views == 1:
        return [Image.fromarray(to_pixels(original, shown)) for original in originals]
    presize = next(stage.presize for stage in recipe.stages if isinstance(stage, CacheStage))
    presized = shown.model_copy(update={"size": presize})
    changed = change_pictures(
        (to_pixels(original, presized) for original in originals),
        recipe.augment,
        count=len(chosen),
        size=shown.size,
        seed=seed,
    )
    return [Image.fromarray(pixels) for pixels in changed]


def _drawn(tiles: Sequence[_Tile]) -> bytes:
    columns = min(COLUMNS, len(tiles)) or 1
    rows = -(-len(tiles) // columns) or 1
    width, height = TILE + GAP, TILE + LINE + GAP
    sheet = Image.new("RGB", (columns * width + GAP, rows * height + GAP), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(LINE * 0.65)
    for place, tile in enumerate(tiles):
        left, top = GAP + place % columns * width, GAP + place // columns * height
        shown = _within_tile(tile.picture)
        sheet.paste(shown, (left + (TILE - shown.width) // 2, top + (TILE - shown.height) // 2))
        pen.text((left, top + TILE + 2), _fitting(tile.title, font), fill="black", font=font)
    buffer = io.BytesIO()
    sheet.save(buffer, "PNG", compress_level=4)
    return buffer.getvalue()


def _within_tile(picture: Image.Image) -> Image.Image:
    """Scale down what is larger than its place, or up what is much smaller, all of it shown."""
    side = max(picture.size)
    if TILE / 2 < side <= TILE:
        return picture
    # A small picture's pixels stay pixels.
    way = Image.Resampling.BILINEAR if side > TILE else Image.Resampling.NEAREST
    return ImageOps.contain(picture, (TILE, TILE), way)


def _fitting(title: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> str:
    """Cut a title that is wider than its picture."""
    if font.getlength(title) <= TILE:
        return title
    return _fitting(title.removesuffix("…")[:-1] + "…", font)
