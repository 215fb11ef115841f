import re
from collections.abc import Iterator
from pathlib import Path

from api.cluster.kubernetes import KINDS
from api.cluster.kubernetes_cluster import WATCHED
from tests.chart.chart import PROFILES, TEMPLATES, Rendered, containers, render, templates

CLUSTER = Path(__file__).parents[2] / "api/cluster"

POWERFUL = {"worker", "first-token"}
"""Who asks Kubernetes for something; nobody else has a token of its API."""


def test_every_pod_should_be_what_pod_security_calls_restricted(profile: Rendered) -> None:
    for name, pod in profile.pods():
        security = pod["spec"]["securityContext"]
        assert security["runAsNonRoot"] is True, name
        assert security["runAsUser"] > 0
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in containers(pod):
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }, name


def test_every_container_should_say_what_it_needs(profile: Rendered) -> None:
    for name, pod in profile.pods():
        for container in containers(pod):
            assert set(container["resources"]["requests"]) >= {"cpu", "memory"}, name
            assert "memory" in container["resources"]["limits"], name


def test_every_server_should_have_its_probes(profile: Rendered) -> None:
    for kind in ("Deployment", "StatefulSet"):
        for thing in profile.of(kind):
            (container,) = thing["spec"]["template"]["spec"]["containers"]
            wanted = {"startupProbe", "readinessProbe", "livenessProbe"}
            assert wanted <= set(container) or container["name"] == "worker"


def test_nobody_but_the_worker_and_the_token_should_reach_kubernetes(profile: Rendered) -> None:
    for _, pod in profile.pods():
        component = pod["metadata"]["labels"]["app.kubernetes.io/component"]
        given = pod["spec"]["automountServiceAccountToken"]
        assert given is (component in POWERFUL) or component == "first-token"
        if not given:
            assert pod["spec"]["serviceAccountName"].endswith("-powerless")
    for account in profile.of("ServiceAccount"):
        assert account["automountServiceAccountToken"] is False


def test_the_worker_should_ask_for_no_more_of_secrets_than_it_uses(profile: Rendered) -> None:
    (role,) = profile.of("Role", "worker")
    may = {resource: rule["verbs"] for rule in role["rules"] for resource in rule["resources"]}

    # A patch answers with the whole Secret: this saves no Secret of the namespace from the worker.
    assert may["secrets"] == ["create", "patch", "delete"]
    assert "*" not in {verb for verbs in may.values() for verb in verbs}
    (owner,) = (rule for rule in role["rules"] if rule["resources"] == ["configmaps"])
    assert (owner["verbs"], len(owner["resourceNames"])) == (["get"], 1)


def test_the_worker_should_be_allowed_what_it_asks_for(production: Rendered) -> None:
    rules = [r for kind in ("Role", "ClusterRole") for r in production.of(kind, "worker")]
    may = {
        (resource, verb)
        for role in rules
        for rule in role["rules"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }

    assert set(asked()) <= may
    # Whatever is applied may have to be made.
    assert {r for r, verb in may if verb == "patch"} <= {
        "pods",
        *(r for r, verb in may if verb == "create"),
    }


def test_the_cluster_should_be_asked_for_nodes_alone_and_for_nothing_where_that_is_too_much(
    profile: Rendered, helm_is_there: None
) -> None:
    (role,) = profile.of("ClusterRole")
    namespaced = render(PROFILES["production"], values={"rbac": {"readNodes": False}})

    assert role["rules"] == [{"apiGroups": [""], "resources": ["nodes"], "verbs": ["list"]}]
    for kind in ("ClusterRole", "ClusterRoleBinding"):
        assert not namespaced.of(kind)


def test_every_rule_of_a_network_policy_should_say_who_talks_to_whom() -> None:
    policies = [path for path in templates() if path.name == "networkpolicy.yaml"]
    assert len(policies) == 8
    for policy in policies:
        lines = policy.read_text().splitlines()
        for number, line in enumerate(lines):
            is_rule = re.match(r'^    (- |\{\{- include "bearloop.network)', line)
            if is_rule or re.match(r"^  (in|e)gress: \[\]", line):
                above = lines[number - 1]
                who = rf"# .*({policy.parent.name} -->|--> {policy.parent.name}\b)"
                assert re.search(who, above), f"{policy.relative_to(TEMPLATES)}: {line}"


def test_mlflow_should_be_reached_from_inside_alone(evaluation: Rendered) -> None:
    (policy,) = evaluation.of("NetworkPolicy", "mlflow")

    (rule,) = policy["spec"]["ingress"]
    assert peers(rule["from"]) == {"api", "worker", "trainer"}
    for kind in ("Ingress", "HTTPRoute"):
        assert not evaluation.of(kind)


def test_each_server_of_data_should_be_reached_by_its_readers(evaluation: Rendered) -> None:
    (database,) = evaluation.of("NetworkPolicy", "postgresql")
    (store,) = evaluation.of("NetworkPolicy", "minio")

    programs = {"api", "worker", "mlflow"}
    assert peers(database["spec"]["ingress"][0]["from"]) == {
        *programs,
        "migrations",
        "first-token",
    }
    jobs = {"importer", "trainer", "inference", "identities"}
    assert peers(store["spec"]["ingress"][0]["from"]) == {*programs, *jobs}


def test_who_fetches_should_reach_the_world_and_no_private_network(production: Rendered) -> None:
    for component in ("importer", "trainer", "inference"):
        (policy,) = production.of("NetworkPolicy", component)
        world = policy["spec"]["egress"][-1]["to"][0]["ipBlock"]
        assert world["cidr"] == "0.0.0.0/0"
        assert {"10.0.0.0/8", "169.254.0.0/16", "192.168.0.0/16"} <= set(world["except"])


def asked() -> Iterator[tuple[str, str]]:
    """Yield what the worker's code asks for by name, as resource and verb."""
    text = "".join(path.read_text() for path in CLUSTER.glob("kubernetes_*.py"))
    for verb, kind in re.findall(r'api\.(get|list|patch|delete)\(\s*"(\w+)"', text):
        yield KINDS[kind][1], verb
    for kind in WATCHED:
        yield KINDS[kind][1], "list"
        yield KINDS[kind][1], "watch"
    yield "events", "list"
    yield "pods/log", "get"


def peers(rules: list[dict[str, dict[str, dict[str, str]]]]) -> set[str]:
    label = "app.kubernetes.io/component"
    return {rule["podSelector"]["matchLabels"][label] for rule in rules}
