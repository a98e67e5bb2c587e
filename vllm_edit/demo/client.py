"""The demo's view of a server: ask over the OpenAI API, edit over /v1/edits."""

from typing import Any, Self

import httpx
import openai

from vllm_edit.domain.errors import EditError
from vllm_edit.security.access import ADMIN_HEADER

MODEL = "factworld"


class DemoClient:
    """Talks to one server over HTTP as any user would; a context manager.

    ``admin_key`` is what the server wants from those who change edits, if it wants any.
    """

    def __init__(self, url: str, admin_key: str = "") -> None:
        self._openai = openai.OpenAI(base_url=f"{url}/v1", api_key="-", max_retries=0)
        headers = {ADMIN_HEADER: admin_key} if admin_key else {}
        self._http = httpx.Client(base_url=url, headers=headers, timeout=120.0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._openai.close()
        self._http.close()

    def ask(self, prompt: str) -> str:
        """The greedy continuation of a prompt, up to its first full stop."""
        answer = self._openai.completions.create(
            model=MODEL, prompt=prompt, max_tokens=12, temperature=0.0, stop=["\n"]
        )
        return answer.choices[0].text.partition(".")[0].strip()

    def post(self, **edit: Any) -> str:
        """Post an edit without waiting for it; returns its id."""
        reply = self._http.post("/v1/edits", json=edit)
        return str(_checked(reply)["id"])

    def status(self, edit_id: str) -> str:
        """The status of an edit; raises EditError with the reason if it failed."""
        edit = _checked(self._http.get(f"/v1/edits/{edit_id}"))
        if edit["error"]:
            raise EditError(edit["error"]["message"], code=edit["error"]["code"])
        return str(edit["status"])

    def roll_back(self, edit_id: str) -> None:
        """Take an edit back."""
        _checked(self._http.delete(f"/v1/edits/{edit_id}"))


def _checked(reply: httpx.Response) -> dict[str, Any]:
    body: dict[str, Any] = reply.json()
    if reply.is_error:
        raise EditError(body["error"]["message"], code=str(body["error"]["code"]))
    return body
