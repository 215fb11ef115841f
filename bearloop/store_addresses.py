"""Storage addresses as text: which lie below a prefix, and which lead elsewhere than they say."""

from urllib.parse import unquote


def climbs(uri: str) -> bool:
    """Tell whether an address leads elsewhere than its text: up, or by letters that are dropped.

    urlsplit leaves out tabs and ends of lines, so that `.<tab>.` would be opened as `..`.
    """
    text = unquote(uri)
    dropped = any(letter < " " or letter == "\x7f" for letter in text)
    return dropped or bool({".", ".."} & set(text.replace("\\", "/").split("/")))


def is_within(uri: str, prefix: str) -> bool:
    """Tell whether an address lies below a prefix or is it.

    On whole segments: `s3://b/team` admits nothing of `s3://b/team-2`.
    """
    return (unquote(uri).rstrip("/") + "/").startswith(unquote(prefix).rstrip("/") + "/")
