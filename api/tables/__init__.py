"""Every table, in life order: read from top to bottom, this folder is the product."""

from api.tables.declarative import Table, Leased
from api.tables.access import Project, Token, Membership
from api.tables.images import (
    Dataset,
    Class,
    Image,
    Import,
    ImportSource,
    LabelEvent,
    DatasetImage,
    Version,
)
from api.tables.training import JobState, Recipe, Job, Run, Report
from api.tables.review import Review, Screen, QueuedImage, Decision
from api.tables.serving import Endpoint, EndpointToken, Promotion
from api.tables.record import AuditEvent, IdempotencyKey
from api.tables.schema import SchemaRevision

__all__ = [
    "Table",
    "Leased",
    "Project",
    "Token",
    "Membership",
    "Dataset",
    "Class",
    "Image",
    "Import",
    "ImportSource",
    "LabelEvent",
    "DatasetImage",
    "Version",
    "JobState",
    "Recipe",
    "Job",
    "Run",
    "Report",
    "Review",
    "Screen",
    "QueuedImage",
    "Decision",
    "Endpoint",
    "EndpointToken",
    "Promotion",
    "AuditEvent",
    "IdempotencyKey",
    "SchemaRevision",
]
