"""What people see while a job runs."""

import pytest

from bearloop.cli.output import job_bar
from bearloop.client.views import JobProgress, RunView


def run(*, done: int, message: str) -> RunView:
    progress = JobProgress(stage="whole", done=done, total=9, message=message)
    return RunView(
        number=7,
        state="running",
        progress=progress,
        dataset="bears",
        version=1,
        recipe="fine-tune",
        seed=1,
    )


def test_what_happens_beside_the_plan_is_told_once(capsys: pytest.CaptureFixture[str]) -> None:
    with job_bar("run 7") as show:
        for done, message in (
            (1, ""),
            (2, "out of memory at step 2"),
            (3, "out of memory at step 2"),
        ):
            show(run(done=done, message=message))
    assert capsys.readouterr().err.count("run 7: out of memory at step 2") == 1
