"""The map's rules, one function each: which file may import which."""

import sys
from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath

from tests.house.source import PROGRAMS, Finding, Import, Source

Findings = Iterator[Finding]

MUST_NOT_IMPORT = {
    "api": ("torch", "torchvision", "onnxruntime"),
    "importer": ("fastapi", "sqlalchemy", "torch", "kubernetes", "mlflow"),
    "trainer": ("fastapi", "sqlalchemy", "kubernetes"),
    "inference": ("torch", "sqlalchemy", "mlflow", "kubernetes"),
    "bearloop": ("torch", "fastapi", "sqlalchemy", "kubernetes", "mlflow"),
}
"""What would make an image too big, or give a job what it must not have."""

STAGES = ("projects", "imports", "datasets", "runs", "evaluation", "review", "promotion")
"""The life of an image, left to right: a stage of `api` imports only stages to its left."""
SHARED = ("tables", "jobs", "cluster")
"""Folders of `api` that every stage may import."""
WIRING = {"api/app.py", "api/worker.py"}

PURE_FOLDERS = ("bearloop/contract/",)
PURE_FILES = {
    "bearloop/confusion.py",
    "bearloop/diagnosis.py",
    "bearloop/intervals.py",
    "bearloop/mlflow_pages.py",
    "bearloop/spread.py",
    "bearloop/transforms.py",
    "api/refused_fields.py",
    "api/ways_out.py",
    "api/imports/plan.py",
    "api/datasets/splits.py",
    "api/datasets/duplicates.py",
    "api/cluster/protocol.py",
    "api/cluster/kubernetes_rules.py",
    "api/cluster/pod_objects.py",
    "api/cluster/server_objects.py",
    "api/cluster/server_status.py",
    "api/cluster/job_objects.py",
    "api/cluster/job_reasons.py",
    "api/cluster/pod_reasons.py",
    "api/cluster/quantities.py",
    "api/cluster/waiting_reasons.py",
    "api/jobs/states.py",
    "api/jobs/decide.py",
    "api/jobs/quota.py",
    "api/runs/named_recipes.py",
    "api/runs/rates.py",
    "api/runs/recipe_faults.py",
    "api/runs/recipes.py",
    "api/runs/tracking_reads.py",
    "api/runs/twins.py",
    "api/evaluation/noise.py",
    "api/evaluation/comparison.py",
    "api/review/stopping.py",
    "api/review/settlement.py",
    "api/label_state.py",
    "api/review/agreement.py",
    "api/promotion/gates.py",
    "api/promotion/deployments.py",
    "bearloop/addresses.py",
    "importer/problems.py",
    "importer/labels.py",
    "importer/sources.py",
    "importer/fingerprints.py",
    "trainer/schedule.py",
    "trainer/label_issues.py",
    "trainer/lr_suggestions.py",
    "trainer/stopping.py",
}
PURE_LIBRARIES = {"numpy", "scipy", "pydantic", "pydantic_core", "PIL"}
WORLD = {
    "asyncio",
    "http",
    "multiprocessing",
    "os",
    "shutil",
    "socket",
    "sqlite3",
    "ssl",
    "subprocess",
    "tempfile",
    "threading",
    "time",
    "urllib.request",
}
"""Modules of the standard library that talk to the world, the clock included."""


def foreign_programs(sources: Sequence[Source]) -> Findings:
    """Programs that import each other: what they share is `bearloop`."""
    for source in sources:
        allowed = {source.program, "bearloop"} | (
            {"api"} if source.program == "migrations" else set()
        )
        for found in source.imports:
            program = found.module.split(".")[0]
            if program in PROGRAMS and program not in allowed:
                says = f"{source.program} imports {program}: share it through bearloop"
                yield Finding(source.path, found.line, says)


def foreign_libraries(sources: Sequence[Source]) -> Findings:
    """Programs that import a library which their image must not carry."""
    for source in sources:
        for found in source.imports:
            library = found.module.split(".")[0]
            if library in MUST_NOT_IMPORT.get(source.program, ()) and not found.typing:
                says = f"{source.program} must not import {library}: let another program do it"
                yield Finding(source.path, found.line, says)


def backward_stages(sources: Sequence[Source]) -> Findings:
    """Imports in `api` that point to a stage on the right, or from a shared part to a stage."""
    for source in sources:
        if source.program != "api" or source.path in WIRING:
            continue
        own = _stage(source)
        for found in source.imports:
            other = _stage_of(found)
            if other is None or other == own:
                continue
            if own is None:
                says = f"imports the stage {other}: only {' and '.join(sorted(WIRING))} wire stages"
                yield Finding(source.path, found.line, says)
            elif STAGES.index(other) > STAGES.index(own):
                says = f"{own} imports {other}, a later stage: go through a table"
                yield Finding(source.path, found.line, says)


def unknown_folders(sources: Sequence[Source]) -> Findings:
    """Folders of `api` that are no stage of the life."""
    for source in sources:
        parts = PurePosixPath(source.path).parts
        if parts[0] == "api" and len(parts) > 2 and parts[1] not in (*STAGES, *SHARED):
            says = f"api/{parts[1]} is no stage: move it, or give it a place in STAGES"
            yield Finding(source.path, 1, says)


def impure_files(sources: Sequence[Source]) -> Findings:
    """Rules that could talk to the world."""
    for source in sources:
        if source.path in PURE_FILES or source.path.startswith(PURE_FOLDERS):
            for found in source.imports:
                if not _is_pure(found):
                    says = f"a pure file imports {found.module}: decide here, act in its caller"
                    yield Finding(source.path, found.line, says)


def _stage(source: Source) -> str | None:
    folder = source.path.split("/")[1]
    return folder if folder in STAGES else None


def _stage_of(found: Import) -> str | None:
    parts = found.module.split(".")
    return parts[1] if parts[0] == "api" and len(parts) > 1 and parts[1] in STAGES else None


def _is_pure(found: Import) -> bool:
    top = found.module.split(".")[0]
    if any(found.is_within(module) for module in WORLD):
        return False
    if top in PROGRAMS:
        return _is_pure_file(found.module)
    return top in PURE_LIBRARIES or top in sys.stdlib_module_names


def _is_pure_file(module: str) -> bool:
    # `from api.runs.states import State` is seen as `api.runs.states` and as
    # `api.runs.states.State`: one of the two names the file.
    files = {f"{name.replace('.', '/')}.py" for name in (module, module.rpartition(".")[0])}
    folder = f"{module.replace('.', '/')}/"
    return bool(files & PURE_FILES) or folder.startswith(PURE_FOLDERS)
