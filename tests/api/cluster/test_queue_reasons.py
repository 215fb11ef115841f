"""Why a job waits in Kueue's queue, from Kueue's own account of it."""

from typing import Any

from api.cluster.job_reasons import Question, question, see
from api.cluster.waiting_reasons import Around

QUOTA = "insufficient unused quota for nvidia.com/gpu in flavor default, 1 more needed"
JOB: dict[str, Any] = {
    "metadata": {"uid": "u", "labels": {"kueue.x-k8s.io/queue-name": "team-a"}},
    "spec": {"suspend": True},
}


def account(said: str, *, uid: str = "u", status: str = "False") -> dict[str, Any]:
    """Return a Workload as Kueue writes it."""
    reserved = {"type": "QuotaReserved", "status": status, "reason": "Pending", "message": said}
    return {
        "metadata": {"labels": {"kueue.x-k8s.io/job-uid": uid}},
        "status": {"conditions": [reserved]},
    }


def reason(*accounts: dict[str, Any]) -> str | None:
    seen = see("run-j-1", JOB, [], around=Around("nvidia.com/gpu", workloads=accounts))
    assert seen is not None
    return seen.reason


def test_it_is_told_in_kueue_s_words() -> None:
    assert question(JOB, []) is Question.workload
    said = account(f"couldn't assign flavors to pod set main: {QUOTA}")
    assert reason(said) == f"waits in queue team-a: {QUOTA}"
    assert reason(account("LocalQueue team-a doesn't exist")) == (
        "waits in queue team-a: LocalQueue team-a doesn't exist"
    )


def test_what_kueue_says_of_another_job_or_does_not_say_is_not_told() -> None:
    assert reason() == "waits in queue team-a"
    assert reason(account(QUOTA, uid="v")) == "waits in queue team-a"
    assert reason(account(QUOTA, status="True")) == "waits in queue team-a"
    assert reason({"metadata": {}}) == "waits in queue team-a"
