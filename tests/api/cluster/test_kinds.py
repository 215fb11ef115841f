"""The kinds of objects that the worker knows are those that it asks for."""

from pathlib import Path

import pytest

from api import cluster
from api.cluster.kubernetes import KINDS

CODE = "".join(path.read_text() for path in Path(cluster.__path__[0]).glob("*.py"))


@pytest.mark.parametrize("kind", KINDS)
def test_no_kind_is_known_that_nobody_asks_for(kind: str) -> None:
    assert CODE.count(f'"{kind}"') > 1, f"drop {kind} from KINDS: one right less to grant"
