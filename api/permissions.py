"""The permission matrix: every route, and the least that its caller must be."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

from api.roles import Role


class Outside(StrEnum):
    """Who may call where no role in a project is asked for."""

    anyone = "anyone"
    """Without a token."""
    subject = "subject"
    """Whoever has a valid token; the answer holds no more than the caller's own."""
    platform = "platform"
    """Who runs the installation."""


MATRIX: Final[Mapping[str, Role | Outside]] = {
    "GET /review/sign-in": Outside.anyone,
    "POST /review/sign-in": Outside.anyone,
    "POST /review/sign-out": Outside.anyone,
    "GET /healthz": Outside.anyone,
    "GET /readyz": Outside.anyone,
    "GET /metrics": Outside.anyone,
    "POST /v1/projects": Outside.platform,
    "GET /v1/projects": Outside.subject,
    "PATCH /v1/projects/{project}": Outside.platform,
    "GET /v1/projects/{project}/members": Role.viewer,
    "PUT /v1/projects/{project}/members/{subject}": Role.admin,
    "DELETE /v1/projects/{project}/members/{subject}": Role.admin,
    "GET /v1/projects/{project}/audit": Role.admin,
    "POST /v1/tokens": Outside.subject,
    "GET /v1/tokens": Outside.subject,
    "DELETE /v1/tokens/{token}": Outside.subject,
    "POST /v1/projects/{project}/datasets/{dataset}/uploads": Role.trainer,
    "POST /v1/projects/{project}/datasets/{dataset}/imports": Role.trainer,
    "GET /v1/projects/{project}/datasets/{dataset}/imports": Role.viewer,
    "GET /v1/projects/{project}/datasets/{dataset}/imports/{number}": Role.viewer,
    "GET /v1/projects/{project}/datasets/{dataset}/imports/{number}/sources": Role.viewer,
    "POST /v1/projects/{project}/datasets/{dataset}/imports/{number}/retry": Role.trainer,
    "POST /v1/projects/{project}/datasets/{dataset}/imports/{number}/cancel": Role.trainer,
    "POST /v1/projects/{project}/datasets": Role.trainer,
    "GET /v1/projects/{project}/datasets": Role.viewer,
    "GET /v1/projects/{project}/datasets/{dataset}": Role.viewer,
    "GET /v1/projects/{project}/datasets/{dataset}/profile": Role.viewer,
    "GET /v1/projects/{project}/datasets/{dataset}/contact-sheet.png": Role.viewer,
    "GET /v1/projects/{project}/datasets/{dataset}/classes": Role.viewer,
    "PATCH /v1/projects/{project}/datasets/{dataset}/classes/{class_id}": Role.trainer,
    "POST /v1/projects/{project}/datasets/{dataset}/classes/{class_id}/merge": Role.trainer,
    "GET /v1/projects/{project}/datasets/{dataset}/images": Role.viewer,
    "GET /v1/projects/{project}/datasets/{dataset}/images/{sha}": Role.viewer,
    "GET /v1/projects/{project}/datasets/{dataset}/images/{sha}/content": Role.viewer,
    "GET /v1/projects/{project}/datasets/{dataset}/images/{sha}/thumbnail": Role.viewer,
    "GET /v1/projects/{project}/datasets/{dataset}/images/{sha}/history": Role.viewer,
    "POST /v1/projects/{project}/datasets/{dataset}/images/{sha}/label": Role.trainer,
    "POST /v1/projects/{project}/datasets/{dataset}/images/{sha}/remove": Role.trainer,
    "POST /v1/projects/{project}/datasets/{dataset}/images/{sha}/restore": Role.trainer,
    "POST /v1/projects/{project}/datasets/{dataset}/versions": Role.trainer,
    "GET /v1/projects/{project}/datasets/{dataset}/versions": Role.viewer,
    "GET /v1/projects/{project}/datasets/{dataset}/versions/{version}": Role.viewer,
    "GET /v1/projects/{project}/datasets/{dataset}/versions/{version}/manifest": Role.viewer,
    "GET /v1/projects/{project}/datasets/{dataset}/versions/{version}/diff": Role.viewer,
    "GET /v1/projects/{project}/runs/compare": Role.viewer,
    "GET /v1/projects/{project}/runs/{run}/report": Role.viewer,
    "GET /v1/projects/{project}/runs/{run}/spread": Role.viewer,
    "GET /v1/projects/{project}/runs/{run}/confusion": Role.viewer,
    "GET /v1/projects/{project}/runs/{run}/most-confused": Role.viewer,
    "GET /v1/projects/{project}/runs/{run}/images": Role.viewer,
    "GET /v1/projects/{project}/runs/{run}/noise": Role.viewer,
    "GET /v1/projects/{project}/runs/{run}/diagnosis": Role.viewer,
    "POST /v1/projects/{project}/runs": Role.trainer,
    "GET /v1/projects/{project}/runs": Role.viewer,
    "GET /v1/projects/{project}/runs/{run}": Role.viewer,
    "POST /v1/projects/{project}/runs/{run}/cancel": Role.trainer,
    "GET /v1/projects/{project}/runs/{run}/logs": Role.viewer,
    "GET /v1/projects/{project}/runs/{run}/spec": Role.viewer,
    "GET /v1/projects/{project}/runs/{run}/files": Role.viewer,
    "GET /v1/projects/{project}/runs/{run}/curves": Role.viewer,
    "GET /v1/projects/{project}/runs/{run}/lr-finder": Role.viewer,
    "GET /v1/projects/{project}/runs/{run}/lr-finder.png": Role.viewer,
    "GET /v1/projects/{project}/runs/{run}/events": Role.viewer,
    "GET /v1/projects/{project}/recipes": Role.viewer,
    "GET /v1/projects/{project}/recipes/{recipe}": Role.viewer,
    "POST /v1/projects/{project}/recipes": Role.trainer,
    "POST /v1/projects/{project}/reviews": Role.trainer,
    "GET /v1/projects/{project}/reviews": Role.viewer,
    "GET /v1/projects/{project}/reviews/{review}": Role.viewer,
    "POST /v1/projects/{project}/reviews/{review}/claim": Role.reviewer,
    "GET /v1/projects/{project}/reviews/{review}/screen": Role.reviewer,
    "POST /v1/projects/{project}/reviews/{review}/screens/{screen}/decisions": Role.reviewer,
    "GET /v1/projects/{project}/reviews/{review}/decisions": Role.viewer,
    "POST /v1/projects/{project}/reviews/{review}/undo": Role.reviewer,
    "POST /v1/projects/{project}/reviews/{review}/release": Role.reviewer,
    "GET /v1/projects/{project}/reviews/{review}/progress": Role.viewer,
    "POST /v1/projects/{project}/reviews/{review}/close": Role.trainer,
    "POST /v1/projects/{project}/endpoints": Role.promoter,
    "GET /v1/projects/{project}/endpoints": Role.viewer,
    "GET /v1/projects/{project}/endpoints/{endpoint}": Role.viewer,
    "PATCH /v1/projects/{project}/endpoints/{endpoint}": Role.promoter,
    "DELETE /v1/projects/{project}/endpoints/{endpoint}": Role.promoter,
    "GET /v1/projects/{project}/endpoints/{endpoint}/status": Role.viewer,
    "POST /v1/projects/{project}/endpoints/{endpoint}/tokens": Role.promoter,
    "GET /v1/projects/{project}/endpoints/{endpoint}/tokens": Role.promoter,
    "DELETE /v1/projects/{project}/endpoints/{endpoint}/tokens/{token}": Role.promoter,
    "POST /v1/projects/{project}/endpoints/{endpoint}/promotions": Role.promoter,
    "GET /v1/projects/{project}/endpoints/{endpoint}/promotions": Role.viewer,
    "GET /v1/projects/{project}/endpoints/{endpoint}/promotions/{promotion}": Role.viewer,
    "POST /v1/projects/{project}/endpoints/{endpoint}/rollback": Role.promoter,
    # The review pages; who is not signed in is sent to the sign-in page.
    "GET /review/": Outside.subject,
    "GET /review/{project}": Role.viewer,
    "GET /review/{project}/{review}": Role.reviewer,
    "POST /review/{project}/{review}/claim": Role.reviewer,
    "POST /review/{project}/{review}/decisions": Role.reviewer,
    "POST /review/{project}/{review}/undo": Role.reviewer,
    "POST /review/{project}/{review}/release": Role.reviewer,
    "POST /review/{project}/{review}/close": Role.trainer,
    # MLflow's pages and reads: the answers hold no more than the caller's projects.
    "GET /mlflow/{path:path}": Outside.subject,
    "POST /mlflow/{path:path}": Outside.subject,
}
"""Method and path -> the least caller. A route says the same by the type of its caller's parameter;
a test holds the two together, and tries every cell."""
