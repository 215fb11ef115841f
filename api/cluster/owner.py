"""The ConfigMap that owns what the worker makes in its namespace, so that all goes with it."""

from api.cluster.kubernetes import ClusterError, KubernetesApi
from api.cluster.kubernetes_rules import KubernetesRules


def owner_uid(api: KubernetesApi, rules: KubernetesRules) -> str:
    """Return its uid, read anew each time; raises ClusterError where there is none.

    Upgrades never make it anew. Where somebody deleted it and an upgrade did, what names the old
    uid is taken away by the cluster as soon as it is made.
    """
    found = api.get("ConfigMap", rules.owner)
    if found is None:
        which = f"ConfigMap {rules.owner} in namespace {rules.namespace}"
        why = "the release has none: `helm upgrade` makes it again; or correct `owner`"
        raise ClusterError("read", which, why)
    return str(found["metadata"]["uid"])
