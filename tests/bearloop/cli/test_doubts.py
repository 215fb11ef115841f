"""What `train` says of a run that has ended: its error, and whether that can be trusted."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
from sqlalchemy import select

from api.database import Database
from api.tables import Project, Run
from bearloop.store import FolderStore, Store
from tests.api.evaluation.trained import Trained, bears, end_run, train
from tests.bearloop.cli.conftest import Cli
from tests.fixtures.cluster import until


@contextmanager
def ended_when_asked_for(
    database: Database, store: Store, trained: Trained, *, number: int
) -> Iterator[None]:
    """End a run as soon as it is there, as a worker and a trainer would."""

    def is_there() -> bool:
        with database.transaction() as session:
            return number in session.scalars(select(Run.number))

    def end() -> None:
        until(is_there)
        end_run(database, store, trained, number=number)

    with ThreadPoolExecutor(1) as beside:
        ending = beside.submit(end)
        yield
        ending.result()


@pytest.mark.parametrize(("images", "valid", "too_few"), [(12, 5, True), (200, 80, False)])
def test_train_says_that_the_valid_split_is_too_small_to_tell(
    logged_in: Cli,
    database: Database,
    store: FolderStore,
    project: Project,
    *,
    images: int,
    valid: int,
    too_few: bool,
) -> None:
    trained = train(database, store, project, bears(images))
    logged_in("freeze", "bears")
    with ended_when_asked_for(database, store, trained, number=2):
        said = logged_in("train", "bears", "--weights", "none")
    assert "95 % interval" in said.out
    assert (f"of {valid} valid images" in said.err) == too_few
    assert ("bring in images until some" in said.err) == too_few
    assert said.next.startswith("bearloop report 2")
