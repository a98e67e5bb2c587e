"""What schemathesis loads beside the API's schema: every second edit becomes one that is taken in.

The schema cannot say that a prompt contains its subject, nor which methods there are, so edits
made from it alone would never get past the first checks. Whatever else is wrong with one stays.
"""

import zlib
from typing import Any

import schemathesis

TEXTS = ("prompt", "subject", "target_new")


@schemathesis.hook
def map_body(_: schemathesis.HookContext, body: Any) -> Any:
    """The body with every second edit in it made acceptable."""
    if isinstance(body, list):
        return [_mended(edit) for edit in body]
    if isinstance(body, dict) and isinstance(body.get("edits"), list):
        return body | {"edits": [_mended(edit) for edit in body["edits"]]}
    return _mended(body)


def _mended(edit: Any) -> Any:
    if not isinstance(edit, dict) or zlib.crc32(repr(edit).encode()) % 2:
        return edit
    if not all(isinstance(edit.get(name), str) for name in ("method", *TEXTS)):
        return edit
    texts = {name: _plain(edit[name]) for name in TEXTS}
    texts["prompt"] = f"{texts['prompt']} of {texts['subject']} is"
    return edit | texts | {"method": "ike"}


def _plain(text: str) -> str:
    return text[:100] if text.strip() and text.isprintable() else "Nowhere"
