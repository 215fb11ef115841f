"""From a source to complete specifications, and what is worth another try."""

import pytest

from api.imports.plan import Terms, may_pass, plan, worth_retrying
from bearloop.contract.imports import UrlSource

SOURCE = UrlSource(urls={"black": ("https://example.org/1.jpg",)})
TERMS = Terms("zoo", "bears", allow_private_addresses=False)


def test_one_job_takes_the_source_whole() -> None:
    (spec,) = plan(SOURCE, TERMS, jobs=["one"])
    assert (spec.job, spec.source, spec.only) == ("one", SOURCE, None)


def test_known_positions_are_dealt_once_each() -> None:
    specs = plan(SOURCE, TERMS, jobs=["a", "b", "c"], only=tuple(range(10)))
    dealt = [position for spec in specs for position in spec.only or ()]
    assert sorted(dealt) == list(range(10))
    assert [spec.job for spec in specs] == ["a", "b", "c"]


def test_a_source_of_unknown_length_is_not_dealt() -> None:
    with pytest.raises(ValueError, match="unknown length"):
        plan(SOURCE, TERMS, jobs=["a", "b"])
    with pytest.raises(ValueError, match="needs a job"):
        plan(SOURCE, TERMS, jobs=[])


def test_only_what_may_pass_by_itself_is_tried_again() -> None:
    passing = ["timeout", "connection", "dns", "http_429", "http_500", "http_503"]
    lasting = ["http_404", "http_403", "private_address", "truncated", "no_class", "http_x", None]
    assert all(map(may_pass, passing))
    assert not any(map(may_pass, lasting))
    assert worth_retrying([(9, "timeout"), (2, "http_502"), (1, "truncated")]) == (2, 9)
