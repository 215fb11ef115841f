"""What `lr-finder` writes and says of a run's search of a rate."""

from collections.abc import Callable
from pathlib import Path

import pytest

from api.database import Database
from api.stores import below_project
from api.tables import Project, Run
from bearloop.contract.runs import Curves, LrFind
from bearloop.store import FolderStore
from tests.api.evaluation.trained import FOUND, bears, train
from tests.bearloop.cli.conftest import Cli
from trainer.plots import draw_lr_find

NOTHING = FOUND.model_copy(
    update={"stage": "whole", "suggestions": {}, "lr": None, "reason": "the loss falls by 0.1 %"}
)
Leave = Callable[..., None]


@pytest.fixture
def leave(database: Database, store: FolderStore, project: Project) -> Leave:
    """Let run 1 have searched."""

    def searched(*finds: LrFind) -> None:
        train(database, store, project, bears(3))
        own = below_project(store, project.id)
        with database.transaction() as session:
            curves = session.query(Run).one().curves_key or ""
        own.put(curves, Curves(epochs=(), steps=(), lr_finds=finds).canonical())
        for find in finds:
            place = curves.replace("curves.json", f"lr-finder-{find.stage}.png")
            own.put(place, draw_lr_find(find))

    return searched


def test_a_search_is_written_and_its_suggestions_are_said(
    logged_in: Cli, leave: Leave, tmp_path: Path
) -> None:
    leave(FOUND, NOTHING)
    file = tmp_path / "lr-finder.png"
    said = logged_in("lr-finder", 1, "--to", file)
    assert file.read_bytes() == draw_lr_find(FOUND)
    assert "lr-find before head" in said.out
    assert "taken for auto" in next(line for line in said.out.splitlines() if "valley" in line)
    assert str(file) in said.err
    told = logged_in("lr-finder", 1, "--to", file, "--json").json
    assert (told["file"], told["stage"], told["lr"]) == (str(file), "head", 8e-3)
    assert told["bytes"] == file.stat().st_size

    none = logged_in("lr-finder", 1, "--to", file, "--stage", "whole")
    assert file.read_bytes() == draw_lr_find(NOTHING)
    assert "lr-find before whole: no rate, the loss falls by 0.1 %" in none.err
    assert "suggestion" not in none.out


def test_a_run_without_searches_leaves_no_file(
    logged_in: Cli, leave: Leave, tmp_path: Path
) -> None:
    leave()
    refused = logged_in("lr-finder", 1, "--to", tmp_path / "none.png", code=1)
    assert "--lr auto" in refused.error
    assert not (tmp_path / "none.png").exists()
