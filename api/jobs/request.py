"""From a job and its specification to what the cluster is asked for."""

from collections.abc import Mapping

from api.cluster.protocol import JobRequest
from api.jobs.decide import job_name
from api.jobs.resources import Resources
from api.tables import Job
from bearloop.contract.imports import ImportSpec
from bearloop.contract.runs import RunSpec


def request_of(
    job: Job,
    spec: ImportSpec | RunSpec,
    *,
    number: int,
    program: str,
    told: Mapping[str, str],
    queue: str | None,
) -> JobRequest:
    """Ask for launch `number`; `told` is its environment, `queue` the project's in Kueue."""
    asked = Resources.model_validate(job.resources)
    return JobRequest(
        name=job_name(job.kind, str(job.id), number),
        title=_title(spec),
        program=program,
        environment=dict(told),
        gpus=spec.gpus if isinstance(spec, RunSpec) else 0,
        nodes=spec.nodes if isinstance(spec, RunSpec) else 1,
        shards=spec.shards if isinstance(spec, ImportSpec) else 1,
        cpu=asked.cpu,
        memory=asked.memory,
        deadline=asked.longest,
        queue=queue,
        project=spec.project,
    )


def _title(spec: ImportSpec | RunSpec) -> str:
    if isinstance(spec, RunSpec):
        return f"run {spec.run}"
    return f"an import into {spec.dataset}"
