"""What the review page's forms send, read into decisions."""

from dataclasses import dataclass
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from api.review.schemas import DecisionAsked, Verb

VERB = "verb-"
"""Radio buttons of an image: `verb-<sha256>`."""
CLASS = "class-"
"""Its menu of classes: `class-<sha256>`."""

_verbs = TypeAdapter(Verb)


class SignInForm(BaseModel):
    """A token, and where to go with it."""

    token: str
    to: str = ""


class UndoForm(BaseModel):
    """How many decisions to take back."""

    count: int = Field(default=1, ge=1, le=50)


class CloseForm(BaseModel):
    """Whether to train again on the cleaned version."""

    retrain: bool = False


class ScreenForm(BaseModel):
    """One screen's form; an image's fields are named by its sha256, so they are extra."""

    model_config = ConfigDict(extra="allow")

    screen: UUID


@dataclass(frozen=True)
class Choice:
    """What was chosen for one image."""

    verb: str
    label: str | None

    @property
    def unclear(self) -> str | None:
        """Say what must be asked again; None when the choice is clear."""
        if self.verb == "relabel" and self.label is None:
            return "Relabel was chosen without a class: choose the class too."
        if self.verb != "relabel" and self.label is not None:
            return (
                f"The class {self.label} was chosen together with {self.verb}: choose Relabel, "
                "or take the class back."
            )
        return None

    def asked(self, sha256: str) -> DecisionAsked:
        """Return it as the decision asked for; raises pydantic's error for an unknown verb."""
        verb = _verbs.validate_python(self.verb)
        return DecisionAsked.model_validate({"sha256": sha256, "verb": verb, "class": self.label})


def read_choices(form: ScreenForm) -> dict[str, Choice]:
    """Read the choices by sha256; an image without a verb is left undecided."""
    fields = {name: str(value) for name, value in (form.model_extra or {}).items()}
    return {
        name.removeprefix(VERB): Choice(
            verb=value, label=fields.get(CLASS + name.removeprefix(VERB)) or None
        )
        for name, value in fields.items()
        if name.startswith(VERB)
    }
