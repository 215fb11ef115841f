"""`python -m api.first_token`: the first project and its admin's token, made once.

On one machine the token goes into a file; in a cluster into the Secret that the chart made for it,
or it is the operator's own. Whatever is done may be repeated.
"""

import argparse
import base64
import json
import os
from datetime import timedelta
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert

from api.cluster.kubernetes import KubernetesApi
from api.database import Database
from api.roles import Role
from api.settings import settings
from api.tables import Membership, Project, Token
from api.tokens import looks_right, new_token, token_hash

SUBJECT = "admin"
PROJECT = "main"
CALL = timedelta(seconds=10)
"""How long the API server may take for one answer."""


class TokenError(Exception):
    """The token that was given is none: says where it was found, and the way out."""


def main() -> None:
    """Let in the token of the file, of the Secret or of the operator; make it where there is none.

    The file holds `{"url", "token", "project"}`, mode 0600; the Secret the keys `token`, `project`.
    """
    parser = argparse.ArgumentParser(prog="api.first_token", description=__doc__)
    place = parser.add_mutually_exclusive_group(required=True)
    place.add_argument("--file", type=Path, help="where to write the token; goes with --url")
    place.add_argument("--secret", help="the Secret to write it to; goes with --namespace")
    place.add_argument("--given", type=Path, help="a file with a token of the operator's own")
    parser.add_argument("--url", default="", help="the API's address, written beside the token")
    parser.add_argument("--namespace", default="default", help="where the Secret is")
    given = parser.parse_args()
    if given.file:
        token = _token_of_file(given.file, given.url)
    elif given.secret:
        token = token_of_secret(KubernetesApi(given.namespace, timeout=CALL), given.secret)
    else:
        token = token_of_operator(given.given)
    database = Database(settings().database_url)
    let_in(database, token)
    database.close()


def token_of_secret(cluster: KubernetesApi, name: str) -> str:
    """Return the Secret's token; one is made where it has none.

    Written before the database knows it: who dies between the two finds it again.
    """
    secret = cluster.get("Secret", name)
    if secret is None:
        raise TokenError(f"there is no Secret {name} in {cluster.namespace}: install the chart")
    held = (secret.get("data") or {}).get("token")
    if held:
        return checked(base64.b64decode(held).decode(), f"Secret {name}, key token")
    token = new_token()
    cluster.patch("Secret", name, {"stringData": {"token": token, "project": PROJECT}})
    return token


def token_of_operator(path: Path) -> str:
    """Return the token in the operator's file."""
    return checked(path.read_text().strip(), str(path))


def checked(token: str, where: str) -> str:
    """Return the token; raises TokenError for what is none."""
    if not looks_right(token):
        raise TokenError(
            f"{where}: what is there is no token of bearloop; make one with "
            "`python -c 'from api.tokens import new_token; print(new_token())'`"
        )
    return token


def let_in(database: Database, token: str) -> None:
    """Make the platform token, and with it the project `main` and its admin.

    A token that the database knows changes nothing: one that was revoked stays revoked.
    """
    made = {"subject": SUBJECT, "name": "first token", "hash": token_hash(token), "platform": True}
    with database.transaction() as session:
        add = insert(Token).values(made).on_conflict_do_nothing().returning(Token.id)
        if session.scalar(add) is None:
            return
        session.execute(insert(Project).values(name=PROJECT).on_conflict_do_nothing())
        project_id = session.scalar(select(Project.id).where(Project.name == PROJECT))
        member = {"project_id": project_id, "subject": SUBJECT, "role": Role.admin}
        session.execute(insert(Membership).values(member).on_conflict_do_nothing())


def _token_of_file(path: Path, url: str) -> str:
    if path.exists():
        return str(json.loads(path.read_text())["token"])
    token = new_token()
    _write_private(path, json.dumps({"url": url, "token": token, "project": PROJECT}))
    return token


def _write_private(path: Path, text: str) -> None:
    temporary = path.with_suffix(".new")
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "w") as file:
        file.write(text)
    temporary.replace(path)


if __name__ == "__main__":
    main()
