"""What `train --augment` reads, and what `contact-sheet` writes."""

from pathlib import Path

import numpy as np
import pytest
import typer
from PIL import Image

from api.database import Database
from api.stores import below_project
from api.tables import Project
from bearloop.cli.pictures import augment_of
from bearloop.contract.preprocess import Preprocess
from bearloop.contract.recipes import TOP_DOWN, Augment, CacheStage
from bearloop.store import FolderStore, image_key
from tests.api.evaluation.trained import RECIPE, add_run, bears, train
from tests.bearloop.cli.conftest import Cli
from tests.trainer.versions import picture


def test_a_preset_fields_or_both() -> None:
    assert augment_of("top-down") == "top-down"
    assert augment_of("flip=false,max_rotate=20") == {"flip": False, "max_rotate": 20}
    both = augment_of("top-down,max_warp=0.1,padding=border")
    expected = TOP_DOWN.model_copy(update={"max_warp": 0.1, "padding": "border"})
    assert Augment.model_validate(both) == expected
    over_none = Augment.model_validate(augment_of("none,max_rotate=20"))
    assert (over_none.max_rotate, over_none.p_affine, over_none.flip) == (20, 0.75, False)


@pytest.mark.parametrize("wrong", ["sideways", "turn=3", "top-down,upside-down", "", "flip"])
def test_anything_else_is_answered_with_what_there_is(wrong: str) -> None:
    with pytest.raises(typer.BadParameter, match="side-on, top-down, none, or fields as"):
        augment_of(wrong)


def test_pictures_are_drawn_as_a_run_shows_them(
    logged_in: Cli, database: Database, store: FolderStore, project: Project, tmp_path: Path
) -> None:
    trained = train(database, store, project, bears(3))
    for number, image in enumerate(trained.images):
        key = image_key(image.sha256)
        below_project(store, project.id).put(key, picture(number, 0))
    stages = (CacheStage(presize=64), *RECIPE.stages)
    turning = Augment(max_rotate=60, p_affine=1)
    told = {"stages": stages, "augment": turning, "preprocess": Preprocess(size=64)}
    add_run(database, store, trained, recipe=RECIPE.model_copy(update=told))

    def drawn(*asked: object) -> np.ndarray:
        file = tmp_path / "sheet.png"
        assert str(file) in logged_in("contact-sheet", "bears", *asked, "--to", file).err
        return np.asarray(Image.open(file))

    of_run = drawn("--run", 2)
    assert (of_run == drawn("--run", 2, "--seed", 7)).all()
    assert (of_run != drawn("--recipe", "from-scratch", "--seed", 7)).any()
    assert "no run 9" in logged_in("contact-sheet", "bears", "--run", 9, code=1).error
    both = logged_in("contact-sheet", "bears", "--run", 2, "--recipe", "fine-tune", code=1)
    assert "give one of them" in both.error
