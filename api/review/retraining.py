"""The run that follows a review: the reviewed run's recipe and seed on the cleaned version."""

from sqlalchemy.orm import Session

from api.access import Caller
from api.jobs.new import new_job_id
from api.jobs.resources import Resources
from api.runs.queueing import next_number, queue_run
from api.runs.trainable import check_version
from api.tables import Job, Run, Version
from bearloop.contract.runs import RunSpec


def retrain_on(session: Session, caller: Caller, *, run: Run, version: Version) -> Run:
    """Queue the run again on another version of its dataset; only labels and images differ.

    Raises UntrainableVersionError when cleaning left a class without images to train or validate.
    """
    classes = check_version(version)
    job = session.get_one(Job, run.job_id)
    before = RunSpec.model_validate(job.spec)
    spec = before.model_copy(
        update={
            "job": str(new_job_id()),
            "run": next_number(session, caller),
            "version_digest": version.digest,
            "manifest_key": version.manifest_key,
            "classes": classes,
            # The worker makes a new one: this is another run.
            "tracking": None,
        }
    )
    resources = Resources.model_validate(job.resources)
    return queue_run(session, caller, version, spec=spec, resources=resources)
