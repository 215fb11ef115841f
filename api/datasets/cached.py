"""Answers whose address names their content: a client may keep them for ever."""

from fastapi import Request, Response


def immutable(request: Request, data: bytes, *, media_type: str, tag: str) -> Response:
    """Answer with bytes that never change under this address; 304 to who has them."""
    headers = {
        "ETag": f'"{tag}"',
        # Private: what a project's members may see is not for caches on the way.
        "Cache-Control": "private, max-age=31536000, immutable",
        # Bytes that users brought are shown, never run.
        "X-Content-Type-Options": "nosniff",
        "Content-Security-Policy": "sandbox; default-src 'none'",
    }
    if f'"{tag}"' in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    return Response(data, media_type=media_type, headers=headers)
