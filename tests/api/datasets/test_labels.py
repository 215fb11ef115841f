"""Label events and the state that follows from them, decided by a rule and derived by SQL."""

import random
from concurrent.futures import ThreadPoolExecutor
from time import monotonic

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select, text

from api.classes import UnknownClassError, classes_of, ensure_classes, find_class
from api.database import Database
from api.label_state import Event, LabelState, current_label
from api.labels import NewEvent, append_events
from api.tables import Dataset, DatasetImage, Project
from tests.api.imports.pictures import sha

CLAIMS = st.lists(st.builds(Event, st.just("claim"), st.integers(1, 3)), max_size=6)
EVENTS = st.lists(
    st.one_of(
        st.builds(Event, st.sampled_from(("claim", "label")), st.integers(1, 3)),
        st.builds(Event, st.sampled_from(("remove", "restore"))),
    ),
    max_size=8,
)


@pytest.fixture
def dataset(database: Database, project: Project) -> Dataset:
    with database.transaction() as session:
        made = Dataset(project_id=project.id, name="bears", created_by="admin")
        session.add(made)
    return made


def test_claims_of_one_class_label_and_of_two_conflict() -> None:
    assert current_label([]) is None
    assert current_label([Event("claim", 1), Event("claim", 1)]) == LabelState("labelled", 1)
    assert current_label([Event("claim", 1), Event("claim", 2)]) == LabelState("conflict", None)


@given(CLAIMS, st.randoms())
def test_the_order_of_claims_does_not_matter(claims: list[Event], chance: random.Random) -> None:
    shuffled = list(claims)
    chance.shuffle(shuffled)
    assert current_label(shuffled) == current_label(claims)


@given(EVENTS, st.integers(1, 3), CLAIMS)
def test_a_decision_stands_whatever_is_claimed_later(
    before: list[Event], decided: int, later: list[Event]
) -> None:
    state = current_label([*before, Event("label", decided), *later])
    assert state is not None
    assert (state.state, state.class_id) == ("labelled", decided)


@given(EVENTS)
def test_removing_and_restoring_touch_no_label(events: list[Event]) -> None:
    labels = [event for event in events if event.kind in ("claim", "label")]
    plain, mixed = current_label(labels), current_label(events)
    if plain is None or mixed is None:
        assert plain is mixed is None
        return
    assert (plain.state, plain.class_id) == (mixed.state, mixed.class_id)
    removed = current_label([*events, Event("remove")])
    restored = current_label([*events, Event("remove"), Event("restore")])
    assert removed == plain._replace(removed=True)
    assert restored == plain._replace(removed=False)


def test_the_tables_say_what_the_rule_says_after_every_batch(
    database: Database, dataset: Dataset
) -> None:
    chance = random.Random(7)
    logs: dict[str, list[Event]] = {sha(str(n)): [] for n in range(300)}
    with database.transaction() as session:
        ids = list(ensure_classes(session, dataset.id, ["a", "b", "c"]).values())
    for batch in range(4):
        new = []
        for image in chance.choices(list(logs), k=250):
            kind = chance.choice(["claim", "claim", "claim", "label", "remove", "restore"])
            event = Event(kind, chance.choice(ids) if kind in ("claim", "label") else None)  # type: ignore[arg-type]
            logs[image].append(event)
            new.append(NewEvent(image, event.kind, event.class_id))
        with database.transaction() as session:
            append_events(session, dataset.id, new, actor="admin", origin=f"import {batch}")
        assert _states(database) == {
            image: state for image, log in logs.items() if (state := current_label(log))
        }
    assert {state.state for state in _states(database).values()} == {"labelled", "conflict"}


def test_two_at_once_who_contradict_each_other_make_a_conflict(
    database: Database, dataset: Dataset
) -> None:
    with database.transaction() as session:
        first, second = ensure_classes(session, dataset.id, ["a", "b"]).values()

    def claim_second() -> None:
        with database.transaction() as session:
            event = NewEvent(sha("x"), "claim", second)
            append_events(session, dataset.id, [event], actor="b", origin="import 2")

    with ThreadPoolExecutor(1) as pool:
        with database.transaction() as session:
            event = NewEvent(sha("x"), "claim", first)
            append_events(session, dataset.id, [event], actor="a", origin="import 1")
            other = pool.submit(claim_second)
            _until_somebody_waits(database)
        other.result(timeout=30)
    assert _states(database) == {sha("x"): LabelState("conflict", None)}


def test_new_classes_are_appended_by_name_and_keep_their_ids(
    database: Database, dataset: Dataset
) -> None:
    with database.transaction() as session:
        first = ensure_classes(session, dataset.id, ["teddy", "black"])
        second = ensure_classes(session, dataset.id, ["teddy", "alpaca", "grizzly"])
        names = [(entry.name, entry.position) for entry in classes_of(session, dataset.id)]
        with pytest.raises(UnknownClassError) as refused:
            find_class(session, dataset.id, "polar")
    assert names == [("black", 0), ("teddy", 1), ("alpaca", 2), ("grizzly", 3)]
    assert second["teddy"] == first["teddy"]
    assert refused.value.way_out == "name one of: black, teddy, alpaca, grizzly"


def _until_somebody_waits(database: Database) -> None:
    deadline = monotonic() + 30
    waiting = text("select count(*) from pg_locks where not granted")
    while monotonic() < deadline:
        with database.transaction() as session:
            if session.scalar(waiting):
                return
    raise AssertionError("nobody waits for the first one's transaction")


def _states(database: Database) -> dict[str, LabelState]:
    with database.transaction() as session:
        rows = session.scalars(select(DatasetImage)).all()
    return {row.sha256: LabelState(row.state, row.class_id, row.removed) for row in rows}  # type: ignore[arg-type]
