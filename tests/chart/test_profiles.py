import json
import re
import shutil
from pathlib import Path

import pytest

from api.cluster.kubernetes_rules import read_rules
from tests.chart.chart import (
    CHART,
    KUBERNETES,
    NAMESPACE,
    PROFILES,
    RELEASE,
    TEMPLATES,
    Rendered,
    component_of,
    containers,
    helm,
    render,
    templates,
)


@pytest.mark.parametrize("name", PROFILES)
def test_helm_should_find_nothing_wrong_with_a_profile(name: str, helm_is_there: None) -> None:
    said = helm("lint", str(CHART), "--strict", "--values", str(PROFILES[name]))

    assert "1 chart(s) linted, 0 chart(s) failed" in said


def test_every_template_should_make_something_in_some_profile(helm_is_there: None) -> None:
    text = "".join(render(file).text for file in PROFILES.values())
    made = set(re.findall(r"^# Source: bearloop/templates/(\S+)", text, flags=re.MULTILINE))

    objects = {str(path.relative_to(TEMPLATES)) for path in templates() if path.suffix == ".yaml"}
    assert made == objects


def test_a_things_component_should_be_its_folder_or_be_said(profile: Rendered) -> None:
    said = {"first-token", "identities"}
    for document in profile.text.split("\n---\n"):
        source = re.search(r"^# Source: bearloop/templates/([a-z-]+)/", document, re.MULTILINE)
        component = re.search(r"app.kubernetes.io/component: (\S+)", document)
        if source and component:
            assert component[1] in {source[1], *said}


def test_everything_should_carry_the_recommended_labels(profile: Rendered) -> None:
    wanted = {"name", "instance", "component", "version", "managed-by"}
    for thing in profile.things:
        labels = thing["metadata"]["labels"]
        assert {f"app.kubernetes.io/{label}" for label in wanted} <= set(labels), thing["metadata"]
        assert labels["app.kubernetes.io/instance"] == RELEASE


def test_a_selector_should_select_the_pods_of_its_component_alone(profile: Rendered) -> None:
    pods = [pod["metadata"]["labels"] for _, pod in profile.pods()]
    for thing in (*profile.of("Service"), *profile.of("PodDisruptionBudget")):
        selector = thing["spec"]["selector"]
        labels = selector.get("matchLabels", selector)
        chosen = [pod for pod in pods if labels.items() <= pod.items()]
        assert {pod["app.kubernetes.io/component"] for pod in chosen} == {component_of(thing)}


def test_the_workers_file_should_be_what_the_worker_reads(
    profile: Rendered, tmp_path: Path
) -> None:
    content = profile.one("ConfigMap", "-cluster")["data"]["cluster.json"]
    (tmp_path / "cluster.json").write_text(content)
    rules = read_rules(tmp_path / "cluster.json")

    assert rules.namespace == NAMESPACE
    assert rules.release == RELEASE
    assert profile.one("ConfigMap", "-owner")["metadata"]["name"] == rules.owner
    assert profile.one("ServiceAccount", "-powerless")["metadata"]["name"] == rules.service_account
    assert rules.importer.secrets[0] == rules.trainer.secrets[0] != rules.inference.secrets[0]
    assert rules.importer.image != rules.trainer.image != rules.inference.image


def test_the_workers_file_should_say_what_the_operator_said(everything: Rendered) -> None:
    rules = json.loads(everything.one("ConfigMap", "-cluster")["data"]["cluster.json"])

    assert rules["gpu_resource"] == "amd.com/gpu"
    assert rules["grace"] == "PT300S"
    assert rules["endpoints_outlive"] is True
    assert rules["pull_secrets"] == ["registry"]
    trainer = rules["trainer"]
    assert trainer["image"] == f"registry.example.org/team/bearloop-trainer@sha256:{'b' * 64}"
    assert (trainer["cpu"], trainer["memory"], trainer["shared_memory"]) == (8, "32Gi", "8Gi")
    assert trainer["environment"] == {
        "AWS_DEFAULT_REGION": "eu-central-1",
        "AWS_ENDPOINT_URL": "http://bear-pictures-minio:9000",
        "NCCL_DEBUG": "WARN",
    }
    assert rules["inference"]["target_cpu"] == 50


def test_images_should_come_from_one_registry_by_tag_or_by_digest(everything: Rendered) -> None:
    images = {container["image"] for _, pod in everything.pods() for container in containers(pod)}

    assert images == {
        f"registry.example.org/team/bearloop-api@sha256:{'a' * 64}",
        "registry.example.org/team/bearloop-mlflow:0.1.0-rc1",
        "registry.example.org/postgres:17",
        "registry.example.org/minio:1",
    }


def test_migrations_should_be_a_job_of_the_revision_and_no_hook(profile: Rendered) -> None:
    (job,) = profile.of("Job", "migrations")

    assert re.search(r"-migrations-1-[0-9a-f]{5}$", job["metadata"]["name"])
    assert "annotations" not in job["metadata"]
    (migrating,) = job["spec"]["template"]["spec"]["containers"]
    assert migrating["command"] == ["python", "-m", "migrations"]


@pytest.mark.parametrize("program", ["api", "worker"])
def test_a_program_should_wait_for_the_schema(profile: Rendered, program: str) -> None:
    (deployment,) = profile.of("Deployment", program)
    (gate,) = deployment["spec"]["template"]["spec"]["initContainers"]

    assert gate["command"] == ["python", "-m", "migrations.wait"]
    told = {variable["name"]: variable["value"] for variable in gate["env"]}
    assert told["BEARLOOP_DATABASE_URL_FILE"] == "/database/program-url"


def test_who_waits_for_the_database_should_have_no_end_and_read_the_secret_as_it_is(
    evaluation: Rendered, everything: Rendered
) -> None:
    waiting = {"BEARLOOP_SCHEMA_WAIT", "BEARLOOP_DATABASE_WAIT"}
    for rendered, ends in ((evaluation, set()), (everything, waiting)):
        pods = [pod for _, pod in rendered.pods()]
        variables = [entry for pod in pods for c in containers(pod) for entry in c.get("env", ())]
        assert {entry["name"] for entry in variables} & waiting == ends
    for _, pod in evaluation.pods():
        for container in pod["spec"].get("initContainers", []):
            if container["name"] == "upgrade":
                # MLflow's own program, which begins when the one before has found the database.
                continue
            assert not any("valueFrom" in entry for entry in container.get("env", ()))
            assert {"name": "database", "mountPath": "/database", "readOnly": True} in container[
                "volumeMounts"
            ]


def test_a_change_of_settings_should_restart_who_reads_them(helm_is_there: None) -> None:
    before = render(PROFILES["production"])
    after = render(PROFILES["production"], values={"settings": {"lease": "PT5M"}})

    for program in ("api", "worker"):
        (one,), (other,) = before.of("Deployment", program), after.of("Deployment", program)
        marks = [d["spec"]["template"]["metadata"]["annotations"] for d in (one, other)]
        assert marks[0]["checksum/settings"] != marks[1]["checksum/settings"]
        assert marks[0]["checksum/cluster"] == marks[1]["checksum/cluster"]


def test_the_next_release_should_leave_the_servers_of_data_alone(
    evaluation: Rendered, tmp_path: Path
) -> None:
    chart = shutil.copytree(CHART, tmp_path / "bearloop")
    named = (chart / "Chart.yaml").read_text()
    (chart / "Chart.yaml").write_text(re.sub(r"(?m)^(version|appVersion): .*", r"\1: 9.9.9", named))
    place = ("--namespace", NAMESPACE, "--kube-version", KUBERNETES)
    values = ("--values", str(PROFILES["evaluation"]))
    later = Rendered(helm("template", RELEASE, str(chart), *place, *values))

    for component in ("postgresql", "minio"):
        (before,), (after,) = (r.of("StatefulSet", component) for r in (evaluation, later))
        assert before["metadata"]["labels"] != after["metadata"]["labels"]
        assert before["spec"] == after["spec"], "its pod is not started anew"


def test_mlflow_should_answer_to_its_names_in_the_cluster(everything: Rendered) -> None:
    (deployment,) = everything.of("Deployment", "mlflow")
    (server,) = deployment["spec"]["template"]["spec"]["containers"]
    told = {entry["name"]: entry.get("value") for entry in server["env"]}

    service = everything.of("Service", "mlflow")[0]["metadata"]["name"]
    hosts = told["MLFLOW_SERVER_ALLOWED_HOSTS"].split(",")
    for ending in ("", ".team", ".team.svc", ".team.svc.example.internal"):
        assert f"{service}{ending}:*" in hosts
    assert told["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] == "false"


def test_what_opens_the_data_should_outlive_an_uninstall(evaluation: Rendered) -> None:
    kept = {
        secret["metadata"]["name"]
        for secret in evaluation.of("Secret")
        if (secret["metadata"].get("annotations") or {}).get("helm.sh/resource-policy") == "keep"
    }

    store = {f"bear-bearloop-store-{identity}" for identity in ("api", "jobs", "inference")}
    assert kept == {"bear-bearloop-database", "bear-bearloop-minio", *store}
    for secret in evaluation.of("Secret", "first-token"):
        assert "data" not in secret
        assert "stringData" not in secret


def test_the_account_of_endpoints_should_outlive_the_release_as_they_do(
    evaluation: Rendered, everything: Rendered
) -> None:
    (going,), (staying,) = (
        [a for a in r.of("ServiceAccount") if a["metadata"]["name"].endswith("-powerless")]
        for r in (evaluation, everything)
    )

    assert "annotations" not in going["metadata"]
    assert staying["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}


def test_the_owner_should_hold_nothing_that_could_change(profile: Rendered) -> None:
    owner = profile.one("ConfigMap", "-owner")

    assert set(owner) == {"apiVersion", "kind", "metadata"}
    assert set(owner["metadata"]) == {"name", "labels"}


def test_the_life_should_be_told_by_helm_test(everything: Rendered) -> None:
    (life,) = everything.of("Pod", "tests")

    assert life["metadata"]["annotations"]["helm.sh/hook"] == "test"
    assert life["spec"]["containers"][0]["args"] == ["--train"]
