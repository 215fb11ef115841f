"""Kubernetes' way of writing numbers, and a node's way of saying that a log is gone."""

import pytest

from api.cluster.kubernetes import is_lost_log
from api.cluster.quantities import quantity


@pytest.mark.parametrize(
    ("text", "value"),
    [("2", 2), ("500m", 0.5), ("8Gi", 8 * 2**30), ("1500k", 1.5e6), ("0.5", 0.5), ("1e3", 1000)],
)
def test_quantities_are_read(text: str, value: float) -> None:
    assert quantity(text) == value


@pytest.mark.parametrize("text", ["", "much", "8 Gi", "8GB"])
def test_what_is_no_quantity_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no quantity"):
        quantity(text)


@pytest.mark.parametrize(
    "text",
    [
        (
            'failed to try resolving symlinks in path "/var/log/pods/x/main/0.log": '
            "lstat /var/log/pods/x/main/0.log: no such file or directory"
        ),
        "unable to retrieve container logs for containerd://7f3c",
    ],
)
def test_a_nodes_excuse_is_no_log(text: str) -> None:
    assert is_lost_log(text)
    assert is_lost_log(f"{text}\n")
    assert not is_lost_log(f"epoch 1\n{text}\n")
