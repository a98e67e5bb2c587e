"""Zero edits cost nothing and change nothing: the same tokens and log-probabilities as vLLM."""

from pathlib import Path

import httpx

from tests.cases import MODEL, PLAIN_VLLM, all_cases, complete
from vllm_edit import factworld
from vllm_edit.cli.serve import FACTWORLD_FLAGS
from vllm_edit.processes.server import ServerProcess


def test_no_edits_give_what_plain_vllm_gives(http: httpx.Client, log: Path) -> None:
    prompts = [case.prompt for case in all_cases(12)]
    flags = [f"--model={factworld.checkpoint()}", *FACTWORLD_FLAGS]
    with (
        ServerProcess(flags, log, command=PLAIN_VLLM) as plain,
        httpx.Client(base_url=plain.url, timeout=60.0) as client,
    ):
        assert client.get("/v1/edits").status_code == httpx.codes.NOT_FOUND
        for prompt in prompts:
            expected = complete(client, prompt, logprobs=5)
            found = complete(http, prompt, logprobs=5)
            assert "x-edit-ids" not in expected.headers
            assert found.headers["x-edit-ids"] == ""
            assert found.json()["choices"] == expected.json()["choices"]
            chat = {"model": MODEL, "messages": [{"role": "user", "content": prompt}]}
            chat |= {"temperature": 0.0, "max_tokens": 12, "logprobs": True}
            one, other = (
                c.post("/v1/chat/completions", json=chat).json()["choices"] for c in (client, http)
            )
            assert one == other
