"""`charts/up`, beside a kubectl and a helm that only write down what they are asked."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.chart.chart import CHART, Rendered

UP = CHART.parent / "up"
TOLD = 'echo "${0##*/} $*" >> "$ASKED"'
KUBECTL = f"""#!/bin/bash
{TOLD}
case "$*" in
  "get namespace "*) [[ -n $LABELS ]] && echo "$LABELS" ;;
esac
"""
HELM = f"#!/bin/bash\n{TOLD}\n"
LABEL = "kubectl label namespace here pod-security.kubernetes.io/enforce=restricted"
Up = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def asked(tmp_path: Path) -> Path:
    return tmp_path / "asked"


@pytest.fixture
def up(tmp_path: Path, asked: Path) -> Up:
    for name, program in (("kubectl", KUBECTL), ("helm", HELM)):
        (tmp_path / name).write_text(program)
        (tmp_path / name).chmod(0o700)

    def run(*words: str, **told: str) -> subprocess.CompletedProcess[str]:
        place = {"PATH": f"{tmp_path}:/usr/bin:/bin", "ASKED": str(asked), "LABELS": ""}
        return subprocess.run(
            [str(UP), *words],
            env={**place, "NAMESPACE": "here", **told},
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )

    return run


def test_a_namespace_that_it_makes_takes_restricted_pods_only(up: Up, asked: Path) -> None:
    up("--set", "image.tag=7", RELEASE="bearloop")

    lines = asked.read_text().splitlines()
    assert lines[2:4] == ["kubectl create namespace here", LABEL]
    assert lines[4].startswith("helm upgrade --install bearloop charts/bearloop --namespace here ")
    assert lines[4].endswith(" --set image.tag=7")


def test_a_namespace_that_was_there_stays_as_it_is(up: Up, asked: Path) -> None:
    labels = {"kubernetes.io/metadata.name": "here"}
    said = up(LABELS=json.dumps(labels, separators=(",", ":")))

    assert "kubectl label" not in asked.read_text()
    assert LABEL in said.stderr
    labels["pod-security.kubernetes.io/enforce"] = "restricted"
    assert LABEL not in up(LABELS=json.dumps(labels, separators=(",", ":"))).stderr


def test_the_token_is_found_by_labels_that_its_secret_alone_has(
    up: Up, asked: Path, evaluation: Rendered
) -> None:
    up(RELEASE="bear")

    words = asked.read_text().splitlines()[-1].split()
    selector = words[words.index("--selector") + 1]
    wanted = dict(pair.split("=") for pair in selector.split(","))
    found = [
        secret["metadata"]["name"]
        for secret in evaluation.of("Secret")
        if wanted.items() <= secret["metadata"]["labels"].items()
    ]
    assert found == ["bear-bearloop-first-token"]
