"""Many questions put to a server at once."""

import asyncio
from collections.abc import Sequence

import openai

from tests.cases import MODEL

AT_ONCE = 16

TIMEOUT = 180.0
"""Seconds that a client waits, for a connection too: the machine may be busy."""


async def completions(url: str, prompts: Sequence[str], **more: object) -> list[str]:
    """Greedy completions, in the order of the prompts; ``more`` goes into the requests' bodies."""
    turn = asyncio.Semaphore(AT_ONCE)
    async with openai.AsyncOpenAI(
        base_url=f"{url}/v1", api_key="-", max_retries=0, timeout=TIMEOUT
    ) as client:

        async def ask(prompt: str) -> str:
            async with turn:
                said = await client.completions.create(
                    model=MODEL, prompt=prompt, max_tokens=12, temperature=0.0, extra_body=more
                )
            return said.choices[0].text

        return await asyncio.gather(*map(ask, prompts))
