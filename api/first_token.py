"""`python -m api.first_token`: the first project and its admin's token, once, into a file."""

import argparse
import json
import os
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert

from api.database import Database
from api.roles import Role
from api.settings import settings
from api.tables import Membership, Project, Token
from api.tokens import new_token, token_hash

SUBJECT = "admin"
PROJECT = "main"


def main() -> None:
    """Write `{"url", "token", "project"}` to the file, mode 0600, unless it is there."""
    parser = argparse.ArgumentParser(prog="api.first_token", description=__doc__)
    parser.add_argument("--url", required=True, help="the API's address, written beside the token")
    parser.add_argument("--file", type=Path, required=True)
    given = parser.parse_args()
    if given.file.exists():
        return
    database = Database(settings().database_url)
    content = {"url": given.url, "token": make_first_token(database), "project": PROJECT}
    database.close()
    _write_private(given.file, json.dumps(content))


def make_first_token(database: Database) -> str:
    """Make the project `main`, its admin, and a platform token for them; return the secret.

    A start that died between the commit and the file leaves a token that nobody knows: the next
    one revokes nothing and makes another.
    """
    token = new_token()
    with database.transaction() as session:
        session.execute(insert(Project).values(name=PROJECT).on_conflict_do_nothing())
        project_id = session.scalar(select(Project.id).where(Project.name == PROJECT))
        member = {"project_id": project_id, "subject": SUBJECT, "role": Role.admin}
        session.execute(insert(Membership).values(member).on_conflict_do_nothing())
        session.add(
            Token(subject=SUBJECT, name="first token", hash=token_hash(token), platform=True)
        )
    return token


def _write_private(path: Path, text: str) -> None:
    temporary = path.with_suffix(".new")
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "w") as file:
        file.write(text)
    temporary.replace(path)


if __name__ == "__main__":
    main()
