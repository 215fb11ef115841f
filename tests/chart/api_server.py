"""As much of a Kubernetes API server as a chart's `lookup` asks: what there is, as JSON."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from tests.chart.chart import NAMESPACE
from tests.fixtures.web import Web, web_server

KINDS = {
    "/api/v1": {
        "configmaps": "ConfigMap",
        "secrets": "Secret",
        "serviceaccounts": "ServiceAccount",
    },
    "/apis/apps/v1": {"deployments": "Deployment"},
}
"""By the address of their group: plural -> kind."""
Thing = Mapping[str, Any]


@contextmanager
def api_server(*things: Thing) -> Iterator[str]:
    """Serve a cluster whose one namespace holds these things; yield its address."""
    verbs = {"singularName": "", "namespaced": True, "verbs": ["get", "list"]}
    with web_server() as pages:
        for group, kinds in KINDS.items():
            version = group.removeprefix("/api/").removeprefix("/apis/")
            named = [{"name": plural, "kind": kind, **verbs} for plural, kind in kinds.items()]
            known = {"kind": "APIResourceList", "groupVersion": version, "resources": named}
            _serve(pages, group, known)
            for plural, kind in kinds.items():
                place = f"{group}/namespaces/{NAMESPACE}/{plural}"
                items = [thing for thing in things if thing["kind"] == kind]
                _serve(pages, place, {"kind": f"{kind}List", "apiVersion": version, "items": items})
                for thing in items:
                    _serve(pages, f"{place}/{thing['metadata']['name']}", thing)
        yield pages.url


def _serve(pages: Web, path: str, body: Thing) -> None:
    pages.serve(path, json.dumps(body).encode(), content_type="application/json")
