"""A commit that fails is a 500: no success leaves before the database has it."""

from fastapi.testclient import TestClient
from sqlalchemy import create_engine, text

from bearloop.embedded_postgres import OWNER, EmbeddedPostgres

REFUSE_AT_COMMIT = """
create function refuse() returns trigger language plpgsql as
  $$ begin raise exception 'the disk is full'; end $$;
create constraint trigger refuse after insert on membership
  deferrable initially deferred for each row execute function refuse();
"""


def test_a_commit_that_fails_is_a_500_and_leaves_nothing(
    client: TestClient, postgres: EmbeddedPostgres, database_name: str
) -> None:
    owner = create_engine(postgres.url(database_name, role=OWNER))
    with owner.begin() as connection:
        connection.execute(text(REFUSE_AT_COMMIT))
    owner.dispose()
    answer = client.put("/v1/projects/zoo/members/eve", json={"role": "viewer"})
    assert answer.status_code == 500
    assert answer.json()["code"] == "internal_error"
    members = client.get("/v1/projects/zoo/members").json()["items"]
    assert "eve" not in {member["subject"] for member in members}
