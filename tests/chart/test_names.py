import json
import re

import pytest

from tests.chart.chart import PROFILES, TEMPLATES, Rendered, render, templates, without_comments

LONGEST = 53
"""Characters of a release's name that Helm allows."""


def test_no_name_should_be_built_outside_its_file() -> None:
    for template in templates():
        if template.name in {"_names.tpl", "_labels.tpl", "NOTES.txt"}:
            continue
        text = without_comments(template)
        assert "bearloop.fullname" not in text, template
        # The worker is told the release by its name.
        assert ".Release.Name }}" not in text, template
        for name in re.findall(r"^ *(?:- )?name: (.*)$", text, flags=re.MULTILINE):
            built = "{{" in name and "include" not in name and "printf" in name
            assert not built, f"{template}: {name}"


def test_every_name_should_be_used() -> None:
    names = (TEMPLATES / "_names.tpl").read_text()
    text = "".join(without_comments(template) for template in templates())
    for name in re.findall(r'define "(bearloop\.[A-Za-z.]+)"', names):
        assert f'include "{name}"' in text, name


@pytest.mark.parametrize("release", ["r" * LONGEST, "a.b", "1team", "12", "1." + "2" * 51])
@pytest.mark.parametrize("name", PROFILES)
def test_names_should_fit_whatever_the_release_is_called(
    name: str, release: str, helm_is_there: None
) -> None:
    rendered = render(PROFILES[name], release=release)

    for thing in rendered.things:
        called = thing["metadata"]["name"]
        # A StatefulSet's name and a digest are one label of its pods.
        assert len(called) <= (52 if thing["kind"] == "StatefulSet" else 63), called
        assert re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", called)
        for label in thing["metadata"]["labels"].values():
            assert len(label) <= 63
        assert thing["metadata"]["labels"]["app.kubernetes.io/instance"] == release


def test_two_long_releases_that_begin_alike_should_share_nothing(helm_is_there: None) -> None:
    one, other = (render(PROFILES["evaluation"], release="r" * 52 + end) for end in "ab")

    assert not named(one) & named(other)


def test_releases_that_are_called_alike_should_share_nothing(helm_is_there: None) -> None:
    releases = ("bear", "bearloop", "bear-bearloop", "bearloop-bearloop")
    releases += ("a.b", "a-b", "a.b.c", "a-b.c", "1a", "r1a")
    names = [named(render(PROFILES["evaluation"], release=release)) for release in releases]

    assert sum(map(len, names)) == len(set().union(*names))


def test_another_image_should_be_another_job_where_revisions_are_not_counted(
    helm_is_there: None,
) -> None:
    one, again, other = (
        {
            name
            for kind, name in named(render(PROFILES["evaluation"], values=values))
            if kind == "Job"
        }
        for values in ({}, {"image": {}}, {"image": {"tag": "0.2.0"}})
    )

    assert one == again
    assert len(one) == len(other) == 3
    assert not one & other


def test_two_namespaces_should_share_no_cluster_wide_name(evaluation: Rendered) -> None:
    (role,) = evaluation.of("ClusterRole")

    assert re.fullmatch(r"bear-bearloop-nodes-[0-9a-f]{8}", role["metadata"]["name"])


def test_another_name_should_reach_names_and_leave_labels(everything: Rendered) -> None:
    for thing in everything.things:
        assert thing["metadata"]["name"].startswith("bear-pictures-")
        # The worker's own labels say so too, and selectors must fit both.
        assert thing["metadata"]["labels"]["app.kubernetes.io/name"] == "bearloop"
    rules = json.loads(everything.one("ConfigMap", "-cluster")["data"]["cluster.json"])
    assert rules["owner"] == "bear-pictures-owner"


def named(rendered: Rendered) -> set[tuple[str, str]]:
    return {(thing["kind"], thing["metadata"]["name"]) for thing in rendered.things}
