"""What every record of the contract is: frozen, closed, and with one canonical encoding."""

import hashlib
import json

from pydantic import BaseModel, ConfigDict


class Record(BaseModel):
    """An immutable value; unknown fields are refused, so a spec never carries what nobody reads."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        ser_json_inf_nan="constants",
        # What stands below a field is its description in the API's documents.
        use_attribute_docstrings=True,
    )

    def canonical(self) -> bytes:
        """Encode as UTF-8 JSON with sorted keys and no blanks: equal records give equal bytes."""
        content = self.model_dump(mode="json")
        return json.dumps(
            content, sort_keys=True, separators=(",", ":"), ensure_ascii=False
        ).encode()

    def digest(self) -> str:
        """Return the sha256 (hex) of the canonical encoding."""
        return hashlib.sha256(self.canonical()).hexdigest()


class ClassEntry(Record):
    """One class of a dataset: its id is for ever, its name may change, its place only grows."""

    id: int
    name: str
    position: int
    """Place in the order, from 0; the index of the model's output."""
