import base64
import json
import threading
from collections.abc import Iterator
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select, update

from api.cluster.kubernetes import KubernetesApi
from api.database import Database
from api.first_token import TokenError, let_in, token_of_operator, token_of_secret
from api.tables import Membership, Token
from api.tokens import looks_right, new_token, token_hash

SECRET = "first-token"


class Secrets:
    """An API server that knows one Secret, to be read and changed as the chart's Role allows."""

    def __init__(self, folder: Path) -> None:
        self.secret: dict[str, Any] = {"metadata": {"name": SECRET}}
        self.changes = 0
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._answers())
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.kubeconfig = folder / "kubeconfig"
        self.kubeconfig.write_text(json.dumps(self._config()))

    def opened(self) -> KubernetesApi:
        return KubernetesApi("team", timeout=timedelta(seconds=5), kubeconfig=str(self.kubeconfig))

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _change(self, asked: dict[str, Any]) -> None:
        self.changes += 1
        plain = asked["stringData"]
        kept = {name: base64.b64encode(value.encode()).decode() for name, value in plain.items()}
        self.secret["data"] = self.secret.get("data", {}) | kept

    def _answers(self) -> type[BaseHTTPRequestHandler]:
        secrets = self

        class Answers(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.answer()

            def do_PATCH(self) -> None:
                length = int(self.headers["Content-Length"])
                secrets._change(json.loads(self.rfile.read(length)))
                self.answer()

            def answer(self) -> None:
                known = self.path == f"/api/v1/namespaces/team/secrets/{SECRET}"
                body = json.dumps(secrets.secret if known else {"message": "not found"}).encode()
                self.send_response(200 if known else 404)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        return Answers

    def _config(self) -> dict[str, Any]:
        server = f"http://127.0.0.1:{self._server.server_port}"
        return {
            "current-context": "it",
            "clusters": [{"name": "it", "cluster": {"server": server}}],
            "users": [{"name": "it", "user": {}}],
            "contexts": [{"name": "it", "context": {"cluster": "it", "user": "it"}}],
        }


@pytest.fixture
def secrets(tmp_path: Path) -> Iterator[Secrets]:
    opened = Secrets(tmp_path)
    yield opened
    opened.close()


def test_the_token_is_written_to_the_secret_once(secrets: Secrets) -> None:
    first = token_of_secret(secrets.opened(), SECRET)
    again = token_of_secret(secrets.opened(), SECRET)

    assert looks_right(first)
    assert again == first
    assert secrets.changes == 1
    assert base64.b64decode(secrets.secret["data"]["project"]) == b"main"


def test_a_missing_secret_is_named(secrets: Secrets) -> None:
    with pytest.raises(TokenError, match="no Secret other in team: install the chart"):
        token_of_secret(secrets.opened(), "other")


def test_an_operators_token_with_a_typing_error_is_refused(tmp_path: Path) -> None:
    (tmp_path / "token").write_text(new_token()[:-1] + "!\n")

    with pytest.raises(TokenError, match=r"token: what is there is no token of bearloop; make one"):
        token_of_operator(tmp_path / "token")


def test_letting_in_again_changes_nothing_and_revives_nothing(database: Database) -> None:
    token = new_token()
    let_in(database, token)
    with database.transaction() as session:
        session.execute(update(Token).values(revoked_at=func.now()))
    let_in(database, token)

    with database.transaction() as session:
        (row,) = session.scalars(select(Token))
        assert row.hash == token_hash(token)
        assert row.platform
        assert row.revoked_at is not None
        assert session.scalar(select(func.count()).select_from(Membership)) == 1
