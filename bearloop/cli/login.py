"""Which API, which token, which project: from the environment, a login, or `bearloop up` here."""

import json
import os
from dataclasses import dataclass
from pathlib import Path

from bearloop.client import Client
from bearloop.environment import read_environment


class NotLoggedInError(Exception):
    """No token is known."""


@dataclass(frozen=True)
class Login:
    """What a client needs."""

    url: str
    token: str
    project: str


def find_login() -> Login:
    """Take BEARLOOP_URL/TOKEN/PROJECT over `bearloop login`, and that over a local platform's."""
    known = read_environment()
    stored = _read(known.login_file) or _read(known.folder / "login.json") or {}
    url = known.url or stored.get("url")
    # A kept token is for the API that it was kept for, and goes to no other.
    token = known.token or (stored.get("token") if url == stored.get("url") else None)
    project = known.project or stored.get("project") or "main"
    if not url or not token:
        raise NotLoggedInError(
            "no API is known; run `bearloop up` here, `bearloop login URL` for another machine, "
            "or set BEARLOOP_URL and BEARLOOP_TOKEN"
        )
    return Login(url, token, project)


def connect() -> Client:
    """Return a client of the project that the user is logged in to."""
    login = find_login()
    return Client(login.url, login.token, project=login.project)


def read_login(path: Path) -> Login:
    """Read what `bearloop up` wrote at its first start."""
    return Login(**json.loads(path.read_text()))


def save_login(login: Login) -> Path:
    """Keep the login in a file that only its owner may read; return the file."""
    path = read_environment().login_file
    content = {"url": login.url, "token": login.token, "project": login.project}
    write_private(path, content)
    return path


def write_private(path: Path, content: dict[str, str]) -> None:
    """Write JSON that only its owner may read."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "w") as file:
        json.dump(content, file)
    path.chmod(0o600)


def _read(path: Path) -> dict[str, str] | None:
    try:
        content: dict[str, str] = json.loads(path.read_text())
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise NotLoggedInError(f"{path} is damaged; `bearloop login URL` writes it anew") from error
    return content
