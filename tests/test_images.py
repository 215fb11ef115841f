"""What every image of docker/ must be, read from its Dockerfile: whom it runs as, how it ends."""

import json
import re
import shlex
import subprocess
import sys
import tomllib
from configparser import RawConfigParser
from functools import cached_property
from pathlib import Path

import pytest

from tests.house.source import ROOT

NAMES = ("api", "inference", "mlflow", "trainer")
LABELS = ("title", "description", "version", "revision", "source", "licenses")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


class Dockerfile:
    """The instructions of one file, and those of its last stage: of what is left."""

    def __init__(self, text: str) -> None:
        lines = [line for line in text.splitlines() if not line.startswith("#")]
        joined = "\n".join(lines).replace("\\\n", " ")
        self.instructions = [
            (word, rest.strip())
            for word, _, rest in (line.strip().partition(" ") for line in joined.splitlines())
            if word
        ]

    @cached_property
    def last_stage(self) -> list[tuple[str, str]]:
        begins = [at for at, (word, _) in enumerate(self.instructions) if word == "FROM"]
        return self.instructions[begins[-1] :]

    def left(self, word: str) -> list[str]:
        """Return what the last stage says with an instruction."""
        return [rest for found, rest in self.last_stage if found == word]

    def all(self, word: str) -> list[str]:
        """Return what all stages say with an instruction."""
        return [rest for found, rest in self.instructions if found == word]


@pytest.fixture(params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def dockerfile(name: str) -> Dockerfile:
    return Dockerfile((ROOT / "docker" / f"{name}.Dockerfile").read_text(encoding="utf-8"))


def test_every_image_has_a_test_here() -> None:
    there = {path.name.split(".")[0] for path in (ROOT / "docker").glob("*.Dockerfile")}
    assert there == set(NAMES)


def test_an_image_runs_as_a_user_by_number(dockerfile: Dockerfile) -> None:
    # By number: Kubernetes cannot tell whether a name is root's, and refuses it (runAsNonRoot).
    assert dockerfile.left("USER") == ["10001:10001"]


def test_signals_reach_the_program(dockerfile: Dockerfile) -> None:
    # The exec form: a shell as first process would keep SIGTERM to itself.
    entrypoint, command = (json.loads(*dockerfile.left(word)) for word in ("ENTRYPOINT", "CMD"))
    assert entrypoint in (["python", "-m"], ["mlflow"])
    assert command


def test_only_scratch_is_written_to(dockerfile: Dockerfile) -> None:
    settings = dict(pair.split("=", 1) for pair in shlex.split(dockerfile.left("ENV")[0]))
    assert (settings["HOME"], settings["TMPDIR"]) == ("/scratch", "/scratch")
    assert dockerfile.left("WORKDIR") == ["/scratch"]
    # What was written there must not become a module of the program.
    assert settings["PYTHONSAFEPATH"] == settings["PYTHONDONTWRITEBYTECODE"] == "1"


def test_nobody_outside_is_told_of_its_use(name: str, dockerfile: Dockerfile) -> None:
    settings = dict(pair.split("=", 1) for pair in shlex.split(dockerfile.left("ENV")[0]))
    (command,) = (rest for rest in dockerfile.all("RUN") if "requirements.py" in rest)
    asked = _requirements(*command.split(" > ")[0].split()[2:])
    if any(requirement.startswith("mlflow") for requirement in asked):
        assert settings["MLFLOW_DISABLE_TELEMETRY"] == "true"
    else:
        assert name == "inference"


def test_an_image_says_what_it_is(name: str, dockerfile: Dockerfile) -> None:
    labels = dict(pair.split("=", 1) for pair in shlex.split(dockerfile.left("LABEL")[0]))
    assert sorted(labels) == sorted(f"org.opencontainers.image.{label}" for label in LABELS)
    assert labels["org.opencontainers.image.title"] == f"bearloop-{name}"
    assert labels["org.opencontainers.image.licenses"] == PROJECT["license"]
    for argument in ("VERSION", "REVISION", "SOURCE"):
        assert labels[f"org.opencontainers.image.{argument.lower()}"] == f"${{{argument}}}"
        assert argument in dockerfile.left("ARG")


def test_every_stage_stands_on_one_python_with_a_version(dockerfile: Dockerfile) -> None:
    assert {stage.split()[0] for stage in dockerfile.all("FROM")} == {
        "${PYTHON_IMAGE}",
        "dependencies",
    }
    assert dockerfile.left("FROM") == ["dependencies"]
    (python,) = (rest for rest in dockerfile.all("ARG") if rest.startswith("PYTHON_IMAGE="))
    assert re.fullmatch(r"PYTHON_IMAGE=\S+/python:3\.\d+-slim-\w+", python), python


def test_what_is_left_installs_nothing(dockerfile: Dockerfile) -> None:
    assert not re.search(r"apt|curl|wget|pip +install", " ".join(dockerfile.left("RUN")))
    # Wheels need no compiler; what was downloaded, and from where, stays in the mounts.
    for command in (rest for rest in dockerfile.all("RUN") if "pip --python" in rest):
        assert "--mount=type=cache,target=/root/.cache/pip " in command
        assert "--mount=type=secret,id=pip.conf," in command
        assert "--only-binary :all:" in command or "--no-deps" in command


def test_a_change_of_code_leaves_the_layer_of_dependencies_alone(name: str) -> None:
    # That layer has 5 GB for the trainer; it may depend on the requirements and constraints alone.
    text = (ROOT / "docker" / f"{name}.Dockerfile").read_text(encoding="utf-8")
    stages = re.split(r"^(?=FROM )", text, flags=re.MULTILINE)
    (stage,) = (stage for stage in stages if " AS dependencies" in stage.splitlines()[0])
    assert Dockerfile(stage).all("COPY") == [
        "constraints.txt ./",
        "--from=requirements /source/requirements.txt ./",
    ]


def test_the_server_of_endpoints_stays_small() -> None:
    text = (ROOT / "docker/inference.Dockerfile").read_text(encoding="utf-8")
    (measured,) = (rest for rest in Dockerfile(text).all("RUN") if "du --summarize" in rest)
    # Megabytes of Python packages; a build of more fails.
    assert re.search(r'if \[ "\$size" -gt 300 \]; then .* && exit 1; fi$', measured)


def test_no_image_pins_what_pyproject_does_not(name: str, dockerfile: Dockerfile) -> None:
    (command,) = (rest for rest in dockerfile.all("RUN") if "requirements.py" in rest)
    extras = command.split(" > ")[0].split()[2:]
    asked = _requirements(*extras)
    known = {line for lines in PROJECT["optional-dependencies"].values() for line in lines}
    assert set(asked) <= known | set(PROJECT["dependencies"])
    assert set(PROJECT["dependencies"]) <= set(asked)
    heavy = [line for line in asked if re.match(r"torch|pandas|mlflow>", line)]
    assert bool(heavy) == (name in {"trainer", "mlflow"}), heavy


def test_an_unknown_extra_is_refused_by_name() -> None:
    done = _print_requirements("inferense")
    assert done.returncode == 1
    assert "no extra inferense in pyproject.toml: there are store, " in done.stderr


def test_an_unknown_image_is_refused_by_name() -> None:
    done = _build("inferense", REGISTRY="registry.example.org/team", BUILDER="echo")
    assert done.returncode == 1
    assert "no image 'inferense': the images are api inference mlflow trainer" in done.stderr


def test_no_registry_is_refused_with_the_way_out() -> None:
    done = _build("api", REGISTRY="", BUILDER="echo")
    assert done.returncode == 1
    assert "REGISTRY is empty: say where the images belong" in done.stderr


def test_a_build_names_the_image_and_its_version() -> None:
    team = "registry.example.org/team"
    done = _build("trainer", REGISTRY=f"{team}/", TAG="7", BUILDER="echo build", REVISION="abc")
    assert done.returncode == 0, done.stderr
    assert f"--tag {team}/bearloop-trainer:7 --file docker/trainer.Dockerfile " in done.stdout
    assert f"--build-arg VERSION={PROJECT['version']} --build-arg REVISION=abc" in done.stdout


def test_a_build_mounts_pips_own_file(tmp_path: Path) -> None:
    settings = tmp_path / "pip.conf"
    settings.touch()
    done = _build("api", REGISTRY="team", BUILDER="echo", PIP_CONFIG_FILE=str(settings))
    assert f"--secret id=pip.conf,src={settings} " in done.stdout


def test_a_build_tells_pip_an_address_that_nobody_else_sees(tmp_path: Path) -> None:
    builder = tmp_path / "builder"
    builder.write_text(
        '#!/bin/bash\nfor word in "$@"; do [[ $word == *,src=* ]] && cat "${word#*,src=}"; done\n'
        'echo "$@" >&2\n'
    )
    builder.chmod(0o700)
    index = "https://somebody:sec%40ret@packages.example.org/simple"
    done = _build("api", REGISTRY="team", BUILDER=str(builder), PIP_INDEX_URL=index)
    told = RawConfigParser()
    told.read_string(done.stdout)
    assert dict(told["global"]) == {"index-url": index}
    assert "somebody" not in done.stderr
    (settings,) = re.findall(r"id=pip.conf,src=(\S+)", done.stderr)
    assert not Path(settings).exists()


def test_a_push_names_what_a_build_named() -> None:
    done = _build(
        "--push", "api", "trainer", REGISTRY="registry.example.org/team", BUILDER="echo x"
    )
    version = PROJECT["version"]
    assert done.stdout.splitlines() == [
        f"push registry.example.org/team/bearloop-{name}:{version}" for name in ("api", "trainer")
    ]


def _requirements(*extras: str) -> list[str]:
    done = _print_requirements(*extras)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def _print_requirements(*extras: str) -> subprocess.CompletedProcess[str]:
    return _run([sys.executable, "docker/requirements.py", *extras], {})


def _build(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return _run(["docker/build", *arguments], environment)


def _run(command: list[str], environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    given = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": "/nowhere", **environment}
    return subprocess.run(
        command, env=given, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
