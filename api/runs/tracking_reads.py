"""What of MLflow's API a member may read, and whose ids a read must name.

An allow-list: what is not in it is refused, and so is a field that is not listed (MLflow takes
some under two spellings). Every id that a read names is told to the caller, who looks it up.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final, NamedTuple


class Of(Enum):
    """What a field names."""

    experiment = "experiment"
    run = "run"
    model = "model"
    path = "path"
    """A path below a run's or a model's artifacts."""
    nothing = "nothing"
    """No object: a limit, an order, a filter within what other fields name."""


class Listing(NamedTuple):
    """An answer that names objects of everybody: only the caller's are kept."""

    rows: str
    id: str
    of: Of


@dataclass(frozen=True)
class Read:
    """One read: its fields, and what is cut from its answer."""

    fields: Mapping[str, Of]
    listing: Listing | None = None


class Named(NamedTuple):
    """An object that a read names."""

    of: Of
    id: str


class RefusedReadError(Exception):
    """The read says too little, or too much."""


class NoReadError(Exception):
    """The request is none of the listed reads."""


PAGE = {"max_results": Of.nothing, "page_token": Of.nothing}
SEARCH = {**PAGE, "filter": Of.nothing, "order_by": Of.nothing}
WITHIN = {"experiment_ids": Of.experiment}
ONE_RUN = {"run_id": Of.run, "run_uuid": Of.run}
ONE_MODEL = {"name": Of.model}
ONE_VERSION = {**ONE_MODEL, "version": Of.nothing}

EXPERIMENTS = Read(
    {**SEARCH, "view_type": Of.nothing}, Listing("experiments", "experiment_id", Of.experiment)
)
MODELS = Read(SEARCH, Listing("registered_models", "name", Of.model))
VERSIONS = Read(SEARCH, Listing("model_versions", "name", Of.model))
RUNS = Read({**WITHIN, **SEARCH, "run_view_type": Of.nothing})
HISTORY = Read({**ONE_RUN, **PAGE, "metric_key": Of.nothing})
HISTORIES = {**PAGE, "metric_key": Of.nothing}

READS: Final[Mapping[str, Read]] = {
    "POST 2.0/experiments/search": EXPERIMENTS,
    "GET 2.0/experiments/search": EXPERIMENTS,
    "GET 2.0/experiments/get": Read({"experiment_id": Of.experiment}),
    "POST 2.0/experiments/search-datasets": Read(WITHIN),
    "POST 2.0/runs/search": RUNS,
    "GET 2.0/runs/get": Read(ONE_RUN),
    "GET 2.0/metrics/get-history": HISTORY,
    "GET 2.0/metrics/get-history-bulk": Read({**HISTORIES, "run_id": Of.run}),
    "GET 2.0/metrics/get-history-bulk-interval": Read(
        {
            **HISTORIES,
            "run_ids": Of.run,
            "start_step": Of.nothing,
            "end_step": Of.nothing,
        }
    ),
    "GET 2.0/artifacts/list": Read({**ONE_RUN, "path": Of.path, "page_token": Of.nothing}),
    "POST 2.0/logged-models/search": Read({**WITHIN, **SEARCH, "datasets": Of.nothing}),
    "GET 2.0/registered-models/search": MODELS,
    "GET 2.0/registered-models/get": Read(ONE_MODEL),
    "GET 2.0/registered-models/alias": Read({**ONE_MODEL, "alias": Of.nothing}),
    "GET 2.0/registered-models/get-latest-versions": Read({**ONE_MODEL, "stages": Of.nothing}),
    "POST 2.0/registered-models/get-latest-versions": Read({**ONE_MODEL, "stages": Of.nothing}),
    "GET 2.0/model-versions/search": VERSIONS,
    "GET 2.0/model-versions/get": Read(ONE_VERSION),
    "GET 2.0/model-versions/get-download-uri": Read(ONE_VERSION),
    "GET 3.0/server-info": Read({}),
}
"""Method, version of MLflow's API and path -> the read."""

PAGES: Final[Mapping[str, Read]] = {
    "get-artifact": Read({**ONE_RUN, "path": Of.path}),
    "model-versions/get-artifact": Read({**ONE_VERSION, "path": Of.path}),
}
"""Files that the pages show, beside the API."""

GRAPHQL: Final[Mapping[str, Read]] = {
    "mlflowGetExperiment": Read({"experimentId": Of.experiment}),
    "mlflowGetRun": Read({"runId": Of.run, "runUuid": Of.run}),
    "mlflowSearchRuns": Read(
        {
            "experimentIds": Of.experiment,
            "filter": Of.nothing,
            "runViewType": Of.nothing,
            "maxResults": Of.nothing,
            "orderBy": Of.nothing,
            "pageToken": Of.nothing,
        }
    ),
    "mlflowGetMetricHistoryBulkInterval": Read(
        {
            "runIds": Of.run,
            "metricKey": Of.nothing,
            "startStep": Of.nothing,
            "endStep": Of.nothing,
            "maxResults": Of.nothing,
        }
    ),
}
"""The pages' queries; all their fields are those of the reads above, in the other spelling."""

_API = re.compile(r"(?:ajax-)?api/(2\.0|3\.0)/mlflow/([a-z/-]+)")
_OPEN = re.compile(r"static-files/[\w./-]+|version|health|")
_UNSAFE = re.compile(r"(^|[/\\])\.\.([/\\]|$)|^[/\\~]|%|[\x00-\x1f]|^\w+:")


@dataclass(frozen=True)
class Asked:
    """A request that may be passed on once all that it names is the caller's."""

    named: Sequence[Named] = ()
    listing: Listing | None = None
    given: Mapping[str, Any] = field(default_factory=dict)


def asked_of(method: str, path: str, given: Mapping[str, Any]) -> Asked:
    """Read the request; raises NoReadError or RefusedReadError for what is not listed."""
    if method == "GET" and _OPEN.fullmatch(path) and not _UNSAFE.search(path):
        return Asked()
    found = _API.fullmatch(path)
    read = READS.get(f"{method} {found[1]}/{found[2]}") if found else None
    if read is None and method == "GET":
        read = PAGES.get(path)
    if read is None:
        raise NoReadError(f"{method} /{path} is none of the reads that are passed on")
    return Asked(list(named_in(read, given)), read.listing, given)


def named_in(read: Read, given: Mapping[str, Any]) -> Iterator[Named]:
    """Yield the objects that a read names; one that must name some, and does not, is refused."""
    owned = 0
    for name, value in given.items():
        of = read.fields.get(name)
        if of is None:
            raise RefusedReadError(f"field {name!r} is not passed on: leave it out")
        if of is Of.nothing:
            continue
        for item in value if isinstance(value, list) else [value]:
            if not isinstance(item, str):
                raise RefusedReadError(f"field {name!r}: expected text, got {item!r}")
            if of is not Of.path:
                owned += 1
                yield Named(of, item)
            elif _UNSAFE.search(item):
                raise RefusedReadError(f"field {name!r}: {item!r} is no path below the artifacts")
    must = [name for name, of in read.fields.items() if of not in (Of.nothing, Of.path)]
    if must and not owned:
        raise RefusedReadError(f"name what you look for by {' or '.join(must)}")
