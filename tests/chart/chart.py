"""The chart as tests see it: what Helm makes of it, and what its own files say."""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import yaml

CHART = Path(__file__).parents[2] / "charts/bearloop"
TEMPLATES = CHART / "templates"
HELM = shutil.which("helm")
KUBERNETES = "1.36.0"
"""A Helm that was built without one thinks that every cluster is 1.20."""
PROFILES = {
    "evaluation": CHART / "values-evaluation.yaml",
    "production": CHART / "ci/production.yaml",
    "external": CHART / "ci/external.yaml",
    "every-value": CHART / "ci/every-value.yaml",
}
RELEASE, NAMESPACE = "bear", "team"
Thing = dict[str, Any]
Path_ = tuple[str, ...]


class RefusedError(Exception):
    """Helm did not render: what it said."""


@dataclass(frozen=True)
class Rendered:
    """What one set of values becomes."""

    text: str

    @cached_property
    def things(self) -> list[Thing]:
        """Every object."""
        return [thing for thing in yaml.safe_load_all(self.text) if thing]

    def of(self, kind: str, component: str | None = None) -> list[Thing]:
        """Return the objects of a kind, of one component or of all."""
        return [
            thing
            for thing in self.things
            if thing["kind"] == kind and component in (None, component_of(thing))
        ]

    def one(self, kind: str, ending: str) -> Thing:
        """Return the one object of this kind whose name ends so."""
        (found,) = (t for t in self.of(kind) if t["metadata"]["name"].endswith(ending))
        return found

    def pods(self) -> Iterator[tuple[str, Thing]]:
        """Yield the name of whatever makes a pod, and the pod's metadata and spec."""
        for thing in self.things:
            if thing["kind"] == "Pod":
                yield thing["metadata"]["name"], thing
            elif "template" in thing.get("spec", {}):
                yield thing["metadata"]["name"], thing["spec"]["template"]


def render(
    *files: Path,
    values: Mapping[str, Any] | None = None,
    release: str = RELEASE,
    checked: bool = True,
    cluster: str = "",
) -> Rendered:
    """Render the chart with these files, and these values after them.

    Not `checked`: no schema is asked; `cluster`: the address of what it looks things up in.
    """
    words: tuple[str, ...] = () if checked else ("--skip-schema-validation",)
    words += ("--dry-run=server", "--kube-apiserver", cluster) if cluster else ()
    return Rendered(_rendered(files, json.dumps(values or {}), release, words))


def helm(*words: str, given: str | None = None) -> str:
    """Run Helm; raises RefusedError."""
    assert HELM, "the tests are skipped where there is no helm"
    # Without a cluster: what it would look up there is not there.
    alone = {**os.environ, "KUBECONFIG": os.devnull}
    done = subprocess.run(
        [HELM, *words], input=given, capture_output=True, text=True, env=alone, check=False
    )
    if done.returncode:
        raise RefusedError(done.stderr or done.stdout)
    return done.stdout


def component_of(thing: Thing) -> str:
    """Return the component that the object's labels name."""
    return str(thing["metadata"]["labels"]["app.kubernetes.io/component"])


def containers(pod: Thing) -> list[Thing]:
    """Return a pod's containers, those of its beginning first."""
    return [*pod["spec"].get("initContainers", []), *pod["spec"]["containers"]]


def leaves(values: Mapping[str, Any], path: Path_ = ()) -> Iterator[tuple[Path_, Any]]:
    """Yield every value by its path; `resources`, maps and lists are values of their own."""
    for key, value in values.items():
        inner = (*path, key)
        if isinstance(value, dict) and value and not is_free(inner):
            yield from leaves(value, inner)
        else:
            yield inner, value


def is_free(path: Path_) -> bool:
    """Tell whether the operator chooses the names below it, or Kubernetes does."""
    free = ("resources", "nodeSelector", "annotations", "environment", "labels")
    return path[-1] in free


@lru_cache
def values_of(file: Path) -> dict[str, Any]:
    """Read a file of values."""
    read: dict[str, Any] = yaml.safe_load(file.read_text())
    return read


def templates() -> Sequence[Path]:
    """List the chart's templates."""
    return sorted(path for path in TEMPLATES.rglob("*") if path.is_file())


def without_comments(template: Path) -> str:
    """Return a template's text without what it says to its reader."""
    text = re.sub(r"\{\{-?\s*/\*.*?\*/\s*-?\}\}", "", template.read_text(), flags=re.DOTALL)
    return re.sub(r"^\s*#.*$", "", text, flags=re.MULTILINE)


@lru_cache(maxsize=256)
def _rendered(files: Sequence[Path], values: str, release: str, further: tuple[str, ...]) -> str:
    words = [word for file in files for word in ("--values", str(file))]
    place = ("--namespace", NAMESPACE, "--kube-version", KUBERNETES, *further)
    return helm("template", release, str(CHART), *place, *words, "--values", "-", given=values)
