"""The command line as a shell runs it, for a user of its own."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from bearloop.cli.main import main


@dataclass(frozen=True)
class Said:
    """What a command left: its exit code and both streams."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Standard output, which is JSON and nothing else."""
        return json.loads(self.out)

    @property
    def next(self) -> str:
        """The line that says what comes next."""
        (line,) = [line for line in self.err.splitlines() if line.startswith("next: ")]
        return line.removeprefix("next: ")

    @property
    def error(self) -> str:
        """The one line of the error."""
        (line,) = [line for line in self.err.splitlines() if line.startswith("error: ")]
        return line.removeprefix("error: ")


Cli = Callable[..., Said]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home: no login, no platform."""
    folder = tmp_path / "home"
    folder.mkdir()
    for name in ("BEARLOOP_URL", "BEARLOOP_TOKEN", "BEARLOOP_PROJECT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(folder / "config"))
    monkeypatch.setenv("BEARLOOP_FOLDER", str(folder / "data"))
    return folder


@pytest.fixture
def cli(home: Path, capsys: pytest.CaptureFixture[str]) -> Cli:
    """Run a command in this process, and return what it said."""

    def run(*words: object, code: int = 0) -> Said:
        capsys.readouterr()
        with pytest.raises(SystemExit) as left:
            main([str(word) for word in words])
        streams = capsys.readouterr()
        said = Said(int(left.value.code or 0), streams.out, streams.err)
        assert said.code == code, f"{words}: {said}"
        assert "Traceback" not in said.err
        return said

    return run


@pytest.fixture
def logged_in(cli: Cli, url: str, token: str) -> Cli:
    cli("login", url, "--token", token, "--project", "zoo")
    return cli
