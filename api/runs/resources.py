"""What a run may ask of the cluster: GPUs, nodes, cores, memory, time."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Final, Literal

from api.errors import UnprocessableError
from api.jobs.resources import Resources
from api.runs.schemas import NewRun
from api.settings import Settings
from api.tables import Project
from bearloop.contract.recipes import FitStage, Recipe

LEAST_SHARE: Final = 2
"""Pictures of a batch that each process takes at least: BatchNorm needs the variance of some."""


class ContradictingResourcesError(UnprocessableError):
    """What was asked for does not go together."""

    code = "contradicting_resources"
    title = "Contradicting resources"


class OverQuotaError(UnprocessableError):
    """The run asks for more GPUs than its project may ever use at once."""

    code = "over_quota"
    title = "Over quota"


@dataclass(frozen=True)
class Asked:
    """What the specification and the job are told."""

    device: Literal["cuda", "cpu", "auto"]
    gpus: int
    nodes: int
    checkpoint_every: timedelta
    of_each_pod: Resources


def check_resources(new: NewRun, recipe: Recipe, *, project: Project, settings: Settings) -> Asked:
    """Return what the run asks for, complete; refuses what contradicts itself or can never be."""
    gpus = new.gpus if new.gpus is not None else int(new.device == "cuda")
    device = new.device or ("cuda" if gpus else "auto")
    _check_device(device, gpus)
    _check_precision(recipe, device)
    _check_batch(recipe, processes=new.nodes * max(1, gpus))
    _check_quota(gpus * new.nodes, project)
    of_each_pod = Resources(cpu=new.cpu, memory=new.memory, deadline=new.deadline)
    if settings.cluster == "processes":
        _check_processes(of_each_pod)
    return Asked(device, gpus, new.nodes, new.checkpoint_every, of_each_pod)


def _check_device(device: str, gpus: int) -> None:
    if device == "cpu" and gpus:
        raise ContradictingResourcesError(
            f"a run on the CPU has no use for {gpus} GPUs",
            field="gpus",
            value=gpus,
            way_out="leave `gpus` out, or ask for the device `cuda`, or `auto` if a CPU will do",
        )
    if device == "cuda" and not gpus:
        raise ContradictingResourcesError(
            "a run on CUDA needs a GPU, and 0 are asked for",
            field="gpus",
            value=gpus,
            way_out="ask for 1 or more, or for the device `cpu`",
        )


def _check_precision(recipe: Recipe, device: str) -> None:
    if device == "cpu" and recipe.precision == "fp16":
        raise ContradictingResourcesError(
            "a run on the CPU cannot train in fp16",
            field="precision",
            value=recipe.precision,
            way_out="take `bf16` or `fp32`, or ask for the device `cuda`",
        )


def _check_batch(recipe: Recipe, *, processes: int) -> None:
    """Refuse batches too small to share: the recipe's first, then each stage's own."""
    sizes = {"batch_size": recipe.batch_size} | {
        f"recipe.stages.{place}.batch_size": stage.batch_size
        for place, stage in enumerate(recipe.stages)
        if isinstance(stage, FitStage) and stage.batch_size is not None
    }
    for field, size in sizes.items():
        if processes > 1 and size < LEAST_SHARE * processes:
            raise ContradictingResourcesError(
                f"{processes} processes cannot share batches of {size} pictures: each takes "
                f"{LEAST_SHARE} at least",
                field=field,
                value=size,
                way_out=f"take batches of {LEAST_SHARE * processes} or more (a recipe's are those "
                "of all processes together), or fewer GPUs and nodes",
            )


def _check_quota(gpus: int, project: Project) -> None:
    if project.queue is None and project.gpu_quota is not None and gpus > project.gpu_quota:
        raise OverQuotaError(
            f"the run asks for {gpus} GPUs in all, and the project {project.name} may use "
            f"{project.gpu_quota} at once",
            field="gpus",
            value=gpus,
            way_out="ask for fewer GPUs or nodes, or have the operator raise the project's quota",
        )


def _check_processes(resources: Resources) -> None:
    for field, value in resources.model_dump(exclude_none=True).items():
        raise ContradictingResourcesError(
            f"this installation runs jobs as processes of one machine, whose {field} it does not "
            "limit",
            field=field,
            value=value,
            way_out=f"leave `{field}` out; it takes a cluster",
        )
