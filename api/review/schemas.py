"""What the review routes take and answer; classes go by name."""

from datetime import datetime
from typing import Literal
from uuid import UUID

from pydantic import BaseModel, Field

from bearloop.contract.report import Metric, SplitName

Verb = Literal["keep", "relabel", "remove", "unsure"]


class NewReview(BaseModel):
    """A queue to be made over a run's report."""

    run: int
    order: Literal["label_issue", "loss"] = "label_issue"
    """label_issue: out-of-fold doubt; loss: the lesson's way, valid before train before test."""
    splits: list[SplitName] | None = Field(default=None, min_length=1)
    """Absent: all."""
    limit: int = Field(default=10_000, ge=1, le=10_000)
    """Most images in the queue."""
    screen_size: int = Field(default=5, ge=1, le=50)


class ReviewView(BaseModel):
    """A review."""

    number: int
    run: int
    dataset: str
    version: int
    """The reviewed one."""
    order: str
    screen_size: int
    state: str
    images: int
    decided: int
    created_at: datetime
    created_by: str
    closed_at: datetime | None
    closed_by: str | None
    cleaned_version: int | None
    """Number of the version that closing made."""
    retraining_run: int | None


class DecisionAsked(BaseModel):
    """What the reviewer says of one image."""

    sha256: str
    verb: Verb
    label: str | None = Field(default=None, alias="class")
    """Name of the right class; with `relabel` only."""


class DecisionsAsked(BaseModel):
    """Decisions on one screen, taken together or not at all."""

    decisions: list[DecisionAsked] = Field(min_length=1, max_length=50)


class UndoAsked(BaseModel):
    """How many of the caller's last decisions to take back."""

    count: int = Field(default=1, ge=1, le=50)


class CloseAsked(BaseModel):
    """How to close a review."""

    retrain: bool = False
    """Queue a run of the same recipe and seed on the cleaned version."""


class Decided(BaseModel):
    """The standing decision on an image."""

    verb: Verb
    label: str | None = Field(default=None, serialization_alias="class")


class ScreenImage(BaseModel):
    """One image of a screen, as the run saw it."""

    rank: int
    sha256: str
    split: SplitName
    label: str | None
    """None for a conflict: sources contradict each other."""
    predicted: str
    confidence: float
    p_label: float | None
    loss: float | None
    label_issue: float
    thumbnail: str
    content: str
    decision: Decided | None


class ScreenView(BaseModel):
    """A claimed screen; without images when none is free."""

    review: int
    screen: UUID | None
    lease_until: datetime | None
    choices: list[str]
    """The classes that an image may be given."""
    images: list[ScreenImage]


class DecisionView(BaseModel):
    """A decision on record; undone ones stay."""

    id: int
    sha256: str
    verb: Verb
    label: str | None = Field(default=None, serialization_alias="class")
    seen: str | None
    """The label that the reviewer saw."""
    reviewer: str
    at: datetime
    undone_at: datetime | None


class ScreenShare(BaseModel):
    """What was found on one decided screen."""

    reviewer: str
    first_rank: int
    decided: int
    wrong: int
    unsure: int


class AdviceView(BaseModel):
    """Whether the review may stop."""

    stop: bool
    right_screens: int
    wrong_share: Metric | None
    says: str


class ProgressView(BaseModel):
    """How far a review is."""

    images: int
    decided: int
    left: int
    claimed: int
    """Undecided, on somebody's screen just now."""
    verbs: dict[Verb, int]
    reviewers: dict[str, int]
    """Decisions by name."""
    screens: list[ScreenShare]
    """Wholly decided ones, the deepest in the queue first; at most 20."""
    advice: AdviceView


class ChangedSince(BaseModel):
    """A decision that was not written, because the label is not the one that the reviewer saw."""

    sha256: str
    verb: Verb
    label: str | None = Field(default=None, serialization_alias="class")
    seen: str | None
    now: str | None
    """None for a conflict."""
    removed: bool
    """Removed since."""
    reviewer: str


class ClosedView(BaseModel):
    """What closing did."""

    review: ReviewView
    version: int
    """Number of the cleaned version."""
    digest: str
    written: dict[Verb, int]
    """Decisions that became label events."""
    conflicts: list[ChangedSince]
    retraining_run: int | None
