"""What an installation says; `helm template` leaves it out, so a copy of the chart renders it."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.chart.chart import CHART, KUBERNETES, NAMESPACE, PROFILES, RELEASE, helm, render

Notes = Callable[..., str]


@pytest.fixture
def notes(tmp_path: Path, helm_is_there: None) -> Notes:
    chart = tmp_path / "bearloop"
    shutil.copytree(CHART, chart)
    said = (chart / "templates/NOTES.txt").read_text()
    (chart / "templates/NOTES.txt").unlink()
    (chart / "templates/_notes.tpl").write_text(f'{{{{ define "notes" }}}}{said}{{{{ end }}}}')
    (chart / "templates/notes.yaml").write_text('said: {{ include "notes" . | quote }}\n')

    def rendered(name: str, **values: Any) -> str:
        words = ("--values", str(PROFILES[name]), "--values", "-", "--namespace", NAMESPACE)
        show = ("--show-only", "templates/notes.yaml", "--kube-version", KUBERNETES)
        text = helm("template", RELEASE, str(chart), *words, *show, given=yaml.safe_dump(values))
        return str(yaml.safe_load(text)["said"])

    return rendered


@pytest.mark.parametrize("name", PROFILES)
def test_the_notes_should_name_what_is_there(name: str, notes: Notes) -> None:
    things = render(PROFILES[name]).things
    there = {f"{thing['kind'].lower()}/{thing['metadata']['name']}" for thing in things}

    named = set(re.findall(r"\b(?:job|deployment|service)/\S+", notes(name)))
    assert named <= there
    assert {"job/", "deployment/"} <= {word.partition("/")[0] + "/" for word in named}


def test_the_notes_should_tell_how_to_reach_what_is_in_the_chart(notes: Notes) -> None:
    evaluation, production = notes("evaluation"), notes("production")

    for said in (evaluation, production):
        assert "MLflow: $BEARLOOP_URL/mlflow" in said
    assert "port-forward service/bear-bearloop-minio 9000:9000" in evaluation
    assert "Secret bear-bearloop-minio:" in evaluation
    assert "port-forward service/bear-bearloop-minio" not in production


def test_the_notes_should_tell_what_an_upgrade_mends(notes: Notes) -> None:
    said = notes("production")

    assert re.search(r"logs job/bear-bearloop-migrations-1-[0-9a-f]{5} --all-containers", said)
    assert "logs deployment/bear-bearloop-api --container schema" in said
    assert "waited for without end" in said
    assert "`helm upgrade` again" in said
    assert "makes another admin's token" in said
    assert "makes another admin's token" not in notes("every-value")


def test_the_notes_should_tell_how_to_delete_what_stays(notes: Notes) -> None:
    staying = notes("production", inference={"outliveRelease": True})

    assert "delete serviceaccount bear-bearloop-powerless" in staying
    endpoints = "--selector bearloop.io/endpoint,app.kubernetes.io/instance=bear"
    assert endpoints in staying
    assert endpoints not in notes("production")
    assert "Their bundles are in MinIO" in notes("every-value")
