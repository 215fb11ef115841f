"""Where a run is shown in MLflow's pages; below the address of the server, or within a page."""

from typing import Final

VIEW: Final = "?workflowType=machine_learning"
"""Behind every link: without it MLflow's pages open as those of GenAI, whatever the experiment's
tag."""


def run_place(experiment_id: str, run_id: str) -> str:
    """Return the place of a run, from `#` on; `/artifacts/…` and then VIEW may follow."""
    return f"#/experiments/{experiment_id}/runs/{run_id}"
