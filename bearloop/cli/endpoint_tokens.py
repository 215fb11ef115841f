"""The tokens for endpoints that this user's CLI made, kept beside the login, mode 0600."""

import json
import time
from pathlib import Path
from typing import Any

from bearloop.cli.login import write_private
from bearloop.client import ApiProblem, Client
from bearloop.client.endpoints import OutOfReachError, classify
from bearloop.environment import read_environment

SPREAD_LIMIT = 30.0
"""Seconds within which a new token reaches the endpoint's servers."""


class EndpointCaller:
    """One endpoint's address and token, found or made once."""

    def __init__(
        self, client: Client, endpoint: str, *, token: str | None = None, url: str | None = None
    ) -> None:
        """Ask at `url`; None: at the address by which the platform itself reaches it."""
        found = client.endpoints.get(endpoint)
        address = url or found.url
        if address is None:
            detail = f"endpoint {endpoint} serves nothing yet"
            way_out = f"bearloop promote RUN {endpoint}"
            raise ApiProblem(409, {"code": "not_serving", "detail": detail, "way_out": way_out})
        self._client, self._endpoint, self._url = client, endpoint, address.rstrip("/")
        self._token = token
        self._own = token is None and not found.public
        self._deadline = 0.0
        if self._own:
            self._token = kept_token(client, endpoint) or self._renew()

    def ask(self, picture: Path) -> dict[str, Any]:
        """Classify one picture; a kept token that was revoked is replaced."""
        while True:
            try:
                return classify(self._url, picture.read_bytes(), token=self._token)
            except OutOfReachError as error:
                way_out = (
                    "if it runs on a cluster, name with --url an address at which this machine "
                    "reaches it, e.g. of `kubectl port-forward`"
                )
                raise OutOfReachError(f"{error}; {way_out}") from error
            except ApiProblem as problem:
                if problem.status != 401 or not self._own:
                    raise
                if not self._deadline:
                    self._token = self._renew()
                if time.monotonic() >= self._deadline:
                    raise
            time.sleep(0.5)

    def _renew(self) -> str:
        self._deadline = time.monotonic() + SPREAD_LIMIT
        return make_token(self._client, self._endpoint)


def kept_token(client: Client, endpoint: str) -> str | None:
    """Return the token that this user's CLI made for the endpoint before."""
    return _kept().get(_name(client, endpoint))


def make_token(client: Client, endpoint: str) -> str:
    """Make a token for the endpoint, and keep it."""
    made = client.endpoints.create_token(endpoint, "bearloop CLI")
    write_private(_file(), {**_kept(), _name(client, endpoint): made})
    return made


def _kept() -> dict[str, str]:
    try:
        kept: dict[str, str] = json.loads(_file().read_text())
    except (FileNotFoundError, ValueError):
        return {}  # a lost token is made anew
    return kept


def _file() -> Path:
    return read_environment().login_file.with_name("endpoints.json")


def _name(client: Client, endpoint: str) -> str:
    return f"{client.connection.url} {client.project} {endpoint}"
