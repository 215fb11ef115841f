"""Tables and migrations agree; migrating is safe to repeat; older code lives with the result."""

import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import partial
from itertools import count
from pathlib import Path
from shutil import copytree
from time import monotonic

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import create_engine, inspect, text
from sqlalchemy.exc import ProgrammingError

from api.database import Database
from api.tables import Project, SchemaRevision, Table
from bearloop.embedded_postgres import OWNER, PROGRAM, EmbeddedPostgres
from migrations.history import VERSIONS, Fit, own_history
from migrations.patience import MigrationError, RefusedError, await_none
from migrations.rights import READ_ONLY
from migrations.upgrade import absence, upgrade
from migrations.wait import wait_for_schema
from tests.fixtures.cluster import until

SOON = timedelta(seconds=0.5)
LATER = '''"""{what}."""

import sqlalchemy as sa
from alembic import op

revision = "{revision}"
down_revision = "{after}"
branch_labels = None
depends_on = None
{serves}

def upgrade() -> None:
    {does}
'''
EXPAND = 'op.add_column("project", sa.Column("colour", sa.String(), nullable=True))'
CONTRACT = 'op.drop_column("project", "colour")'

_numbers = count(1)


@pytest.fixture
def fresh(postgres: EmbeddedPostgres) -> Iterator[str]:
    """The name of an empty database."""
    name = f"fresh_{next(_numbers)}"
    postgres.create_database(name)
    yield name
    postgres.drop_database(name)


class Images:
    """Images of three releases: today's, one that expands the schema, one that contracts it."""

    def __init__(self, folder: Path) -> None:
        own = own_history().own
        self.today = VERSIONS
        self.expanded = copytree(VERSIONS, folder / "expanded")
        later = LATER.format(what="Later", revision="aaaa", after=own, serves="", does=EXPAND)
        (self.expanded / "later.py").write_text(later)
        self.contracted = copytree(self.expanded, folder / "contracted")
        last = LATER.format(
            what="Last", revision="bbbb", after="aaaa", serves='serves = "aaaa"\n', does=CONTRACT
        )
        (self.contracted / "last.py").write_text(last)


@pytest.fixture
def images(tmp_path: Path) -> Images:
    return Images(tmp_path)


def run(module: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a program of the image as its container does."""
    return subprocess.run(
        [sys.executable, "-m", module],
        env={"PATH": os.environ["PATH"], **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_the_migrated_schema_is_what_the_tables_say(
    postgres: EmbeddedPostgres, database_name: str
) -> None:
    engine = create_engine(postgres.url(database_name, role=OWNER))
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_server_default": True})
        differences = compare_metadata(context, Table.metadata)
    engine.dispose()
    assert differences == []


def test_three_migrations_at_once_upgrade_once(postgres: EmbeddedPostgres, fresh: str) -> None:
    url = postgres.url(fresh, role=OWNER)
    with ThreadPoolExecutor(3) as threads:
        found = list(threads.map(lambda _: upgrade(url, program_role=PROGRAM), range(3)))
    assert sorted(found) == [Fit.behind, Fit.same, Fit.same]
    engine = create_engine(url)
    assert "label_event" in inspect(engine).get_table_names()
    engine.dispose()


def test_the_owner_is_no_superuser(postgres: EmbeddedPostgres, fresh: str) -> None:
    engine = create_engine(postgres.url(fresh, role=OWNER))
    with engine.connect() as connection:
        rights = "select rolsuper or rolcreaterole or rolcreatedb from pg_roles where rolname = :r"
        assert connection.scalar(text(rights), {"r": OWNER}) is False
    engine.dispose()
    assert upgrade(postgres.url(fresh, role=OWNER), program_role=PROGRAM) is Fit.behind


@pytest.mark.parametrize("table", READ_ONLY)
def test_the_program_cannot_change_the_schema_s_history(database: Database, table: str) -> None:
    with (
        pytest.raises(ProgrammingError, match="permission denied"),
        database.transaction() as session,
    ):
        session.execute(text(f"delete from {table}"))


def test_old_code_lives_on_a_newer_schema_that_serves_it(
    postgres: EmbeddedPostgres, fresh: str, images: Images
) -> None:
    owner, program = postgres.url(fresh, role=OWNER), postgres.url(fresh, role=PROGRAM)
    assert upgrade(owner, program_role=PROGRAM, versions=images.today) is Fit.behind
    assert upgrade(owner, program_role=PROGRAM, versions=images.expanded) is Fit.behind
    # `helm rollback` runs the older image's migration, and then its programs.
    assert upgrade(owner, program_role=PROGRAM, versions=images.today) is Fit.ahead
    wait_for_schema(lambda: program, within=SOON, versions=images.today)
    database = Database(program)
    with database.transaction() as session:
        session.add(Project(name="zoo"))
    with database.transaction() as session:
        assert session.query(Project).one().name == "zoo"
        rows = session.query(SchemaRevision).order_by(SchemaRevision.number).all()
    database.close()
    assert [row.number for row in rows] == list(range(1, len(rows) + 1))
    assert rows[-1].revision == "aaaa"
    assert rows[-1].serves == rows[0].revision
    assert upgrade(owner, program_role=PROGRAM, versions=images.expanded) is Fit.same


def test_a_contracted_schema_refuses_the_code_that_it_serves_no_more(
    postgres: EmbeddedPostgres, fresh: str, images: Images
) -> None:
    owner, program = postgres.url(fresh, role=OWNER), postgres.url(fresh, role=PROGRAM)
    for image in (images.today, images.expanded, images.contracted):
        upgrade(owner, program_role=PROGRAM, versions=image)
    assert upgrade(owner, program_role=PROGRAM, versions=images.expanded) is Fit.ahead
    wait_for_schema(lambda: program, within=SOON, versions=images.expanded)
    with pytest.raises(RefusedError, match="at bbbb, which serves code from aaaa on"):
        upgrade(owner, program_role=PROGRAM, versions=images.today)
    with pytest.raises(RefusedError, match="use a newer image"):
        wait_for_schema(lambda: program, within=timedelta(hours=1), versions=images.today)


def test_a_program_waits_for_its_schema(
    postgres: EmbeddedPostgres, fresh: str, images: Images, capfd: pytest.CaptureFixture[str]
) -> None:
    owner, program = postgres.url(fresh, role=OWNER), postgres.url(fresh, role=PROGRAM)
    with pytest.raises(MigrationError, match=r"gave up after .* the schema is older"):
        wait_for_schema(lambda: program, within=SOON, versions=images.today)
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(wait_for_schema, lambda: program, within=timedelta(seconds=30))
        upgrade(owner, program_role=PROGRAM)
        waiting.result(30)
    with pytest.raises(MigrationError, match="older than aaaa"):
        wait_for_schema(lambda: program, within=SOON, versions=images.expanded)
    assert "waiting: the schema is older" in capfd.readouterr().err


def test_a_database_of_something_else_is_refused(postgres: EmbeddedPostgres, fresh: str) -> None:
    engine = create_engine(postgres.url(fresh, role=OWNER))
    with engine.begin() as connection:
        connection.execute(text("create table alembic_version (version_num varchar)"))
        connection.execute(text("insert into alembic_version values ('someone else')"))
    engine.dispose()
    with pytest.raises(RefusedError, match="is this the right database"):
        upgrade(postgres.url(fresh, role=OWNER), program_role=PROGRAM)


def test_a_failed_migration_leaves_nothing(
    postgres: EmbeddedPostgres, fresh: str, images: Images
) -> None:
    owner = postgres.url(fresh, role=OWNER)
    upgrade(owner, program_role=PROGRAM)
    broken = (images.expanded / "later.py").read_text() + "    raise RuntimeError('no power')\n"
    (images.expanded / "later.py").write_text(broken)
    with pytest.raises(RuntimeError, match="no power"):
        upgrade(owner, program_role=PROGRAM, versions=images.expanded)
    assert upgrade(owner, program_role=PROGRAM) is Fit.same


def test_a_table_that_is_held_is_waited_for_and_read_meanwhile(
    postgres: EmbeddedPostgres, fresh: str, images: Images, capfd: pytest.CaptureFixture[str]
) -> None:
    owner, program = postgres.url(fresh, role=OWNER), postgres.url(fresh, role=PROGRAM)
    upgrade(owner, program_role=PROGRAM)
    engine = create_engine(program)
    said: list[str] = []

    def waits() -> bool:
        said.append(capfd.readouterr().err)
        return "waiting: a transaction holds a table" in "".join(said)

    with ThreadPoolExecutor(1) as threads, engine.connect() as long, engine.connect() as other:
        long.scalar(text("select count(*) from project"))
        later = partial(upgrade, within=None, versions=images.expanded)
        migrating = threads.submit(later, owner, program_role=PROGRAM)
        until(waits)
        other.execute(text("set statement_timeout = '30s'"))
        assert other.scalar(text("select count(*) from project")) == 0
        for reader in (other, long):
            reader.rollback()
        assert migrating.result(60) is Fit.behind
    engine.dispose()


def test_the_owner_is_refused_as_the_program_s_role(postgres: EmbeddedPostgres, fresh: str) -> None:
    with pytest.raises(RefusedError, match="could change the record"):
        upgrade(postgres.url(fresh, role=OWNER), program_role=OWNER)


def test_a_role_that_is_not_there_yet_is_waited_for(postgres: EmbeddedPostgres, fresh: str) -> None:
    url, role = postgres.url(fresh, role=OWNER), "made_later"
    with pytest.raises(MigrationError, match=r"'made_later'.* no such role") as given_up:
        upgrade(url, program_role=role, within=SOON)
    assert given_up.value.exit_code != RefusedError.exit_code
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(upgrade, url, program_role=role, within=None)
        postgres.server.psql(f"create role {role} login")
        assert waiting.result(30) is Fit.behind
    postgres.server.psql(f"drop owned by {role}; drop role {role}")


def test_the_job_waits_for_a_database_and_says_so() -> None:
    nowhere = "postgresql+psycopg://owner:secret@127.0.0.1:9/bearloop"
    began = monotonic()
    done = run("migrations", BEARLOOP_OWNER_URL=nowhere, BEARLOOP_DATABASE_WAIT="PT2S")
    assert done.returncode == 1
    assert monotonic() - began >= 2
    assert "waiting: the database does not let us in" in done.stderr
    assert "gave up after 2 s" in done.stderr
    assert "Traceback" not in done.stderr
    assert "secret" not in done.stderr


def test_a_missing_or_wrong_setting_is_named() -> None:
    for module, name in (
        ("migrations", "BEARLOOP_OWNER_URL"),
        ("migrations.wait", "BEARLOOP_DATABASE_URL"),
    ):
        done = run(module)
        assert done.returncode == 42
        assert f"set {name}, or {name}_FILE" in done.stderr
    vague = run(
        "migrations", BEARLOOP_OWNER_URL="postgresql+psycopg://", BEARLOOP_DATABASE_WAIT="5"
    )
    assert "BEARLOOP_DATABASE_WAIT" in vague.stderr
    assert "PT5M" in vague.stderr


def test_job_and_init_container_as_programs(postgres: EmbeddedPostgres, fresh: str) -> None:
    program = {
        "BEARLOOP_DATABASE_URL": postgres.url(fresh, role=PROGRAM),
        "BEARLOOP_SCHEMA_WAIT": "PT1S",
    }
    early = run("migrations.wait", **program)
    assert early.returncode == 1, early.stderr
    owner = {
        "BEARLOOP_OWNER_URL": postgres.url(fresh, role=OWNER),
        "BEARLOOP_PROGRAM_ROLE": PROGRAM,
    }
    assert run("migrations", **owner).returncode == 0
    ready = run("migrations.wait", **program)
    assert ready.returncode == 0, ready.stderr


def test_waiting_tells_each_new_reason(capfd: pytest.CaptureFixture[str]) -> None:
    reasons = iter(["no database", "no database", "no rights", None])
    await_none(lambda: next(reasons), within=timedelta(seconds=10), pause=timedelta())
    assert capfd.readouterr().err == "waiting: no database\nwaiting: no rights\n"


def test_waiting_without_end_tells_the_same_reason_again(capfd: pytest.CaptureFixture[str]) -> None:
    reasons = iter(["no database", "no database", None])
    at_once = timedelta()
    await_none(lambda: next(reasons), within=None, pause=at_once, reminder=at_once)
    assert capfd.readouterr().err == "waiting: no database\n" * 2


def test_an_address_that_is_mended_while_it_is_waited_for_counts(
    postgres: EmbeddedPostgres, fresh: str, tmp_path: Path
) -> None:
    url = postgres.url(fresh, role=OWNER)
    wrong = ("", "no address", "postgresql+psycopg://owner:secret@127.0.0.1:9/bearloop")
    said: list[str] = []
    mended = iter([*wrong, url])
    file = tmp_path / "owner-url"
    assert "cannot be read" in (absence(file.read_text) or "")

    def mend() -> str | None:
        file.write_text(next(mended))
        reason = absence(file.read_text)
        said.append(reason or "there")
        return reason

    await_none(mend, within=None, pause=timedelta())
    assert said[0] == said[1]
    assert "address is none" in said[0]
    assert "does not let us in" in said[2]
    assert said[3:] == ["there"]
    assert "secret" not in "".join(said)
    owner = {"BEARLOOP_OWNER_URL_FILE": str(file), "BEARLOOP_PROGRAM_ROLE": PROGRAM}
    assert run("migrations", **owner).returncode == 0
    program = tmp_path / "program-url"
    program.write_text(postgres.url(fresh, role=PROGRAM) + "\n")
    assert run("migrations.wait", BEARLOOP_DATABASE_URL_FILE=str(program)).returncode == 0


def test_each_revision_serves_one_that_is_known() -> None:
    history = own_history()
    assert {step.serves for step in history.steps} <= history.known
