"""Which of MLflow's objects a subject may see: those of the projects it is a member of."""

from collections import defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from sqlalchemy import ColumnElement, select
from sqlalchemy.orm import Session

from api.access import Subject
from api.database import Database
from api.runs.tracking_reads import Named, Of
from api.tables import Dataset, Membership, Project, Run
from api.tracking import model_name


@dataclass(frozen=True)
class Sight:
    """What one subject sees; each look is one short transaction, none while MLflow answers."""

    database: Database
    subject: Subject

    def sees(self, named: Iterable[Named]) -> bool:
        """Tell whether all of these are the subject's."""
        wanted: dict[Of, set[str]] = defaultdict(set)
        for one in named:
            wanted[one.of].add(one.id)
        return all(ids <= self.among(of, ids) for of, ids in wanted.items())

    def among(self, of: Of, ids: Collection[str]) -> set[str]:
        """Return those of the ids that the subject sees."""
        with self.database.transaction() as session:
            if of is Of.model:
                return self._models(session) & set(ids)
            column = Run.mlflow_experiment_id if of is Of.experiment else Run.mlflow_run_id
            query = (
                select(column)
                .distinct()
                .join(Project, Project.id == Run.project_id)
                .where(column.in_(ids), self._is_member)
            )
            return {found for found in session.scalars(query) if found is not None}

    def _models(self, session: Session) -> set[str]:
        query = (
            select(Project.name, Dataset.name)
            .join(Dataset, Dataset.project_id == Project.id)
            .where(self._is_member)
        )
        return {model_name(project, dataset) for project, dataset in session.execute(query)}

    @property
    def _is_member(self) -> ColumnElement[bool]:
        own = select(Membership.project_id).where(Membership.subject == self.subject.name)
        reaches = Project.id == Project.id if self.subject.platform else Project.id.in_(own)
        if self.subject.project_id is None:
            return reaches
        return reaches & (Project.id == self.subject.project_id)
