"""What the routes of endpoints and promotions take and give."""

from datetime import datetime
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from api.promotion.gates import Gate, GateResult
from api.promotion.sizes import Replicas, Size
from api.promotion.states import PromotionState

EndpointName = Annotated[
    str, Field(pattern=r"^[a-z]([a-z0-9-]{0,38}[a-z0-9])?$", examples=["bears"])
]
"""A DNS label of at most 40 characters that begins with a letter, as a service's name must."""
Gates = Annotated[list[Gate], Field(max_length=16)]


def without_default(schema: dict[str, Any]) -> None:
    """Leave the default out of a field's description."""
    schema.pop("default", None)


STAYS: Any = Field(default=None, validate_default=False, json_schema_extra=without_default)
"""A field that stays as it is when it is not sent, and cannot be null."""


class NewEndpoint(Size):
    """An endpoint to make; it answers once a run is promoted to it."""

    model_config = ConfigDict(extra="forbid")
    name: EndpointName
    public: bool = False
    """Anybody who reaches it may ask; else holders of its tokens."""
    gates: Gates = Field(default=[])
    """What a model must pass; parity always applies, named or not."""


class EndpointChange(Size):
    """What should change of an endpoint; a field that is not sent stays as it is."""

    model_config = ConfigDict(extra="forbid")
    gates: Gates = STAYS
    """The new gates, all of them."""
    replicas: Replicas = STAYS
    """Servers at least."""


class EndpointView(Size):
    """An endpoint as a member sees it."""

    name: str
    public: bool
    gates: list[Gate]
    bundle: str | None
    """Digest of what should answer; null before the first promotion."""
    ready: bool
    url: str | None
    created_at: datetime
    created_by: str


class NewEndpointToken(BaseModel):
    """A token to make."""

    model_config = ConfigDict(extra="forbid")
    name: str = Field(min_length=1, max_length=80)
    """Who will use it."""


class EndpointTokenView(BaseModel):
    """A token without its secret."""

    id: int
    name: str
    created_at: datetime
    created_by: str
    revoked_at: datetime | None


class MadeEndpointToken(EndpointTokenView):
    """A new token; the secret is shown this once."""

    secret: str


class NewPromotion(BaseModel):
    """The run whose bundle should answer."""

    model_config = ConfigDict(extra="forbid")
    run: int = Field(ge=1)
    """The run's number in the project."""


class PromotionView(BaseModel):
    """A promotion, the judgement of the gates included."""

    number: int
    run: int
    bundle: str
    state: PromotionState
    results: list[GateResult]
    """One per gate, once they judged; a rollback passes none, its bundle passed them before."""
    reason: str | None
    """Why it waits, was refused or failed, in plain words."""
    rollback_of: int | None
    """Number of the promotion that this one takes back."""
    created_at: datetime
    created_by: str
    finished_at: datetime | None
    """When it was live, refused or failed."""


class EndpointStatus(BaseModel):
    """What should answer, what really does, and what happened last."""

    name: str
    should_serve: str | None
    """Digest of the bundle that should answer."""
    serves: str | None
    """Digest that stood in the endpoint's newest answer; null while it does not answer."""
    ready: bool
    """What should answer does."""
    url: str | None
    reason: str | None
    """Why it is not ready, or not as asked for, in plain words."""
    promotions: list[PromotionView]
    """The last five, newest first."""
