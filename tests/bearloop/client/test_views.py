"""What the SDK reads is what the API says that it answers."""

from collections.abc import Iterator
from typing import Any

import pytest

from bearloop.client import views
from bearloop.client.views import View
from tests.house.routes import described_app

ANSWERS: dict[str, type[View]] = {
    "datasets_show_dataset": views.DatasetView,
    "datasets_create_dataset": views.DatasetView,
    "imports_show_import": views.ImportView,
    "imports_start_import": views.ImportView,
    "imports_list_sources": views.LedgerLineView,
    "datasets_show_version": views.VersionView,
    "datasets_list_versions": views.VersionView,
    "datasets_freeze": views.VersionView,
    "runs_list_recipes": views.RecipeView,
    "runs_show_recipe": views.RecipeView,
    "runs_add_recipe": views.RecipeView,
    "runs_show_run": views.RunView,
    "runs_start_runs": views.RunView,
    "runs_list_runs": views.RunView,
    "runs_cancel_run": views.RunView,
    "evaluation_show_report": views.ReportView,
    "runs_show_files": views.RunFilesView,
    "runs_show_lr_finder": views.LrFindsView,
    "evaluation_show_spread": views.SpreadView,
    "evaluation_show_diagnosis": views.DiagnosisView,
    "evaluation_compare_runs": views.ComparisonView,
    "review_create_review": views.ReviewView,
    "review_list_reviews": views.ReviewView,
    "review_claim": views.ScreenView,
    "review_close_review": views.ClosedView,
    "promotion_show_endpoint": views.EndpointView,
    "promotion_show_status": views.EndpointStatus,
    "promotion_promote": views.PromotionView,
    "promotion_show_promotion": views.PromotionView,
    "promotion_roll_back": views.PromotionView,
}
"""The operation, and what the SDK reads its answer (or each item of its page) as."""
DESCRIPTION = described_app().openapi()
Schema = dict[str, Any]


@pytest.mark.parametrize("operation", ANSWERS)
def test_a_view_agrees_with_the_answer(operation: str) -> None:
    view = ANSWERS[operation].model_json_schema()
    answer = resolved(answer_of(operation), DESCRIPTION)
    if "items" in answer.get("properties", {}):
        answer = resolved(answer["properties"]["items"]["items"], DESCRIPTION)
    found = list(differences(view, answer, root=view, at=ANSWERS[operation].__name__))
    assert not found, "\n".join(found)


def test_a_field_that_the_api_lacks_is_found() -> None:
    class Dreamt(views.DatasetView):
        owner: str

    answer = answer_of("datasets_show_dataset")
    schema = Dreamt.model_json_schema()
    found = list(differences(schema, answer, root=schema, at="Dreamt"))
    assert found == ["Dreamt.owner: not in the answer"]


def answer_of(operation: str) -> Schema:
    """Return the schema of an operation's good answer."""
    for methods in DESCRIPTION["paths"].values():
        for described in methods.values():
            if described["operationId"] == operation:
                good = min(status for status in described["responses"] if status[0] == "2")
                schema: Schema = described["responses"][good]["content"]["application/json"]
                return schema["schema"]
    raise AssertionError(f"no operation {operation}")


def differences(view: Schema, answer: Schema, *, root: Schema, at: str) -> Iterator[str]:
    """Yield where an answer of the API could not be read as the view."""
    view, answer = resolved(view, root), resolved(answer, DESCRIPTION)
    wanted, told = view.get("anyOf", [view]), answer.get("anyOf", [answer])
    if {"type": "null"} in told and {"type": "null"} not in wanted and view:
        yield f"{at}: the answer may be null"
    wanted = [resolved(one, root) for one in wanted if one != {"type": "null"}]
    told = [resolved(one, DESCRIPTION) for one in told if one != {"type": "null"}]
    if len(wanted) == len(told) == 1 and wanted[0]:
        yield from _differences(wanted[0], told[0], root=root, at=at)


def _differences(view: Schema, answer: Schema, *, root: Schema, at: str) -> Iterator[str]:
    kinds = {"integer": {"integer", "number"}}.get(answer.get("type", ""), {answer.get("type")})
    if view.get("type") not in kinds and "type" in answer:
        yield f"{at}: {answer['type']} is read as {view.get('type')}"
    for name, field in view.get("properties", {}).items():
        if name not in answer.get("properties", {}):
            yield f"{at}.{name}: not in the answer"
        else:
            inner = answer["properties"][name]
            yield from differences(field, inner, root=root, at=f"{at}.{name}")
    for inside in ("items", "additionalProperties"):
        if isinstance(view.get(inside), dict) and isinstance(answer.get(inside), dict):
            yield from differences(view[inside], answer[inside], root=root, at=f"{at}[]")


def resolved(schema: Schema, root: Schema) -> Schema:
    """Follow a reference inside its document."""
    while "$ref" in schema:
        found: Any = root
        for name in schema["$ref"].removeprefix("#/").split("/"):
            found = found[name]
        schema = found
    return schema
