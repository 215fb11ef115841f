"""What to do about a field that pydantic refused; pure."""

from collections.abc import Mapping
from typing import Any, Final

from bearloop.contract.clashes import CLASH

BOUNDS: Final = {
    "greater_than": ("gt", "give a number above {}"),
    "greater_than_equal": ("ge", "give {} or more"),
    "less_than": ("lt", "give a number below {}"),
    "less_than_equal": ("le", "give {} or less"),
    "literal_error": ("expected", "give {}"),
    "enum": ("expected", "give {}"),
    "union_tag_invalid": ("expected_tags", "give one of {}"),
    "string_pattern_mismatch": ("pattern", "give a text that matches {}"),
    "string_too_short": ("min_length", "give {} characters or more"),
    "string_too_long": ("max_length", "give {} characters or less"),
    "too_short": ("min_length", "give {} entries or more"),
    "too_long": ("max_length", "give {} entries or less"),
}
"""By pydantic's type of error: the number or names that it tells, and what to do with them."""
OTHERS: Final = {
    "missing": "give this field",
    "extra_forbidden": "leave this field out: nothing has it here",
    "union_tag_not_found": "say what it is by the field that tells kinds apart: {}",
    "finite_number": "give a finite number",
}
KINDS: Final = {
    "int": "a whole number",
    "float": "a number",
    "time_delta": "a duration such as PT10M",
    "string": "a text",
    "bool": "true or false",
    "list": "a list",
    "tuple": "a list",
    "dict": "an object",
    "model": "an object",
    "model_attributes": "an object",
}


def way_out(error: Mapping[str, Any]) -> str:
    """Say what to send instead, from an entry of pydantic's `errors()`."""
    kind, told = str(error["type"]), error.get("ctx", {})
    if kind == CLASH:
        return str(told["way_out"])
    if kind in BOUNDS:
        name, says = BOUNDS[kind]
        return says.format(told.get(name, "what the description asks for"))
    if kind in OTHERS:
        return OTHERS[kind].format(told.get("discriminator", "kind"))
    wanted = KINDS.get(kind.removesuffix("_type").removesuffix("_parsing"))
    return f"give {wanted}" if wanted else "send what the description at /docs asks for"
