import re
from collections.abc import Mapping
from typing import Any

import pytest

from tests.chart.chart import PROFILES, RefusedError, render

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
    ("production", {"image": {"registry": ""}}, "image.registry"),
    ("every-value", {"gateway": {"enabled": True}}, "ingress.enabled and gateway.enabled"),
    ("production", {"ingress": {"enabled": True}}, "ingress.host"),
    ("production", {"gateway": {"enabled": True}}, "gateway.parents"),
    (
        "production",
        {"api": {"autoscaling": {"enabled": True, "minReplicas": 9}}},
        "api.autoscaling.minReplicas",
    ),
]


@pytest.mark.parametrize(("name", "values", "key"), REFUSED)
def test_values_that_contradict_each_other_should_be_refused_by_their_key(
    name: str, values: Mapping[str, Any], key: str, helm_is_there: None
) -> None:
    with pytest.raises(RefusedError, match=rf"NOTES.txt.*: {re.escape(key)} "):
        render(PROFILES[name], values=values)
