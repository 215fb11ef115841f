import re
from collections.abc import Mapping
from typing import Any

import pytest

from tests.chart.api_server import api_server
from tests.chart.chart import PROFILES, RefusedError, Rendered, render

CALL, UPLOAD = "settings.callDeadline", "settings.maxUpload"
REFUSED: list[tuple[str, Mapping[str, Any], str]] = [
    ("evaluation", {"database": {"existingSecret": "mine"}}, "database.existingSecret"),
    ("evaluation", {"database": {"programRole": "mlflow"}}, "database.programRole"),
    ("production", {"database": {"existingSecret": ""}}, "database.existingSecret"),
    ("evaluation", {"store": {"url": "s3://mine"}}, "store.url"),
    ("evaluation", {"store": {"endpoint": "https://s3.example.org"}}, "store.endpoint"),
    ("evaluation", {"store": {"existingSecrets": {"api": "a"}}}, "store.existingSecrets.api"),
    ("production", {"store": {"url": ""}}, "store.url"),
    ("production", {"store": {"existingSecrets": {"jobs": ""}}}, "store.existingSecrets.jobs"),
    ("production", {"mlflow": {"url": "http://mlflow:5000"}}, "mlflow.url"),
    ("production", {"mlflow": {"enabled": False}}, "mlflow.url"),
    ("production", {"mlflow": {"existingSecret": "sign-in"}}, "mlflow.existingSecret"),
    ("external", {"mlflow": {"url": "http://me:pw@mlflow:5000"}}, "mlflow.url"),
    ("external", {"store": {"endpoint": "https://key:pw@s3.example.org"}}, "store.endpoint"),
    ("production", {"image": {"registry": ""}}, "image.registry"),
    ("every-value", {"gateway": {"enabled": True}}, "ingress.enabled and gateway.enabled"),
    ("production", {"ingress": {"enabled": True}}, "ingress.host"),
    ("production", {"gateway": {"enabled": True}}, "gateway.parents"),
    (
        "production",
        {"api": {"autoscaling": {"enabled": True, "minReplicas": 9}}},
        "api.autoscaling.minReplicas",
    ),
    ("production", {"settings": {"maxUpload": 10 * 1024**3 + 1}}, UPLOAD),
    ("production", {"api": {"scratch": "4.29G"}}, UPLOAD),
    ("production", {"api": {"scratch": "4194303Ki"}}, UPLOAD),
    ("production", {"settings": {"callDeadline": "PT60S"}}, CALL),
    ("production", {"settings": {"lease": "PT9.5S"}}, CALL),
    ("production", {"settings": {"callDeadline": "P1DT1S", "lease": "PT24H"}}, CALL),
    ("production", {"settings": {"callDeadline": "PT0S"}}, CALL),
    ("production", {"inference": {"scaleInAfter": "PT1H0.5S"}}, "inference.scaleInAfter"),
    ("production", {"inference": {"scaleInAfter": "P1D"}}, "inference.scaleInAfter"),
    ("production", {"settings": {"poll": "P0DT0H0M0.0S"}}, "settings.poll"),
]


@pytest.mark.parametrize(("name", "values", "key"), REFUSED)
def test_values_that_contradict_each_other_should_be_refused_by_their_key(
    name: str, values: Mapping[str, Any], key: str, helm_is_there: None
) -> None:
    with pytest.raises(RefusedError, match=rf"NOTES.txt.*: {re.escape(key)} ") as refused:
        render(PROFILES[name], values=values)
    assert ":pw@" not in str(refused.value)


def test_a_name_that_leaves_the_owner_behind_should_be_refused(evaluation: Rendered) -> None:
    bruin = {"nameOverride": "bruin"}
    bare = {"kind": "ConfigMap", "metadata": {"name": "kube-root-ca.crt"}}
    with api_server(bare, *evaluation.of("ConfigMap")) as cluster:
        with pytest.raises(RefusedError, match=r'nameOverride is "bruin".* bear-bearloop-owner '):
            render(PROFILES["evaluation"], values=bruin, cluster=cluster)
        again = render(PROFILES["evaluation"], cluster=cluster)
        other = render(PROFILES["evaluation"], values=bruin, cluster=cluster, release="cub")

    assert again.one("ConfigMap", "-owner")["metadata"]["name"] == "bear-bearloop-owner"
    assert other.one("ConfigMap", "-owner")["metadata"]["name"] == "cub-bruin-owner"


@pytest.mark.parametrize("scratch", ["4Gi", "4.295G", "4194304Ki", "4294967296", "1T", "1Ei"])
def test_an_upload_that_fits_should_be_taken(scratch: str, helm_is_there: None) -> None:
    rendered = render(PROFILES["production"], values={"api": {"scratch": scratch}})

    for name, size in (("api", scratch), ("worker", "10Gi")):
        (deployment,) = rendered.of("Deployment", name)
        (volume, *_) = deployment["spec"]["template"]["spec"]["volumes"]
        assert str(volume["emptyDir"]["sizeLimit"]) == size


@pytest.mark.parametrize(("lease", "call"), [("P1D", "PT23H59M59.9S"), ("PT2M", "PT119S")])
def test_a_call_that_is_shorter_than_the_lease_should_be_taken(
    lease: str, call: str, helm_is_there: None
) -> None:
    settings = {"lease": lease, "callDeadline": call}

    assert render(PROFILES["production"], values={"settings": settings}).things
