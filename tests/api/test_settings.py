"""Settings under which nothing would ever happen are refused at the start."""

from datetime import timedelta
from typing import Any

import pytest
from pydantic import ValidationError

from api.settings import Settings

GIVEN: dict[str, Any] = {
    "database_url": "postgresql+psycopg://bearloop:secret@127.0.0.1/none",
    "store_url": "file:///nowhere",
    "tracking_url": "http://127.0.0.1:9",
    "work_folder": "/nowhere",
}


@pytest.mark.parametrize(("lease", "call_deadline"), [("PT30S", "PT30S"), ("PT10S", "PT1M")])
def test_a_call_that_outlasts_its_lease_is_refused(lease: str, call_deadline: str) -> None:
    with pytest.raises(ValidationError) as refused:
        Settings(**GIVEN, lease=lease, call_deadline=call_deadline)
    said = str(refused.value)
    for named in ("`call_deadline` is 0:", "`lease` 0:", "BEARLOOP_LEASE", "BEARLOOP_CALL_DEADLI"):
        assert named in said
    assert "secret" not in said
    assert Settings(**GIVEN, lease="PT30S", call_deadline="PT29S").lease == timedelta(seconds=30)


@pytest.mark.parametrize("name", ["lease", "poll", "call_deadline", "sweep", "endpoint_poll"])
@pytest.mark.parametrize("span", ["PT0S", "-PT1S"])
def test_no_time_at_all_is_refused(name: str, span: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"BEARLOOP_{name.upper()}", span)
    way_out = f"`{name}` is .*: set BEARLOOP_{name.upper()} to more, e.g. PT1M"
    with pytest.raises(ValidationError, match=way_out):
        Settings(**GIVEN)
