"""A client that streams without pause and notes the longest gap between two tokens."""

import threading
import time
from typing import Self

import httpx
import openai

from vllm_edit.domain.errors import Unavailable


class RunningStream:
    """Streams completions one after the other in a thread while its context is open.

    Gaps are measured between chunks of one stream. ``broken`` is the first error that ended
    a stream; none is expected, whatever happens to the weights.
    """

    def __init__(self, url: str, model: str, prompt: str, tokens: int) -> None:
        self._client = openai.OpenAI(base_url=f"{url}/v1", api_key="-", max_retries=0)
        self._model, self._prompt, self._tokens = model, prompt, tokens
        self._stop = threading.Event()
        self._first = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.gaps: list[float] = []
        self.broken: Exception | None = None

    def __enter__(self) -> Self:
        self._thread.start()
        if not self._first.wait(60.0):
            raise Unavailable("The server did not stream a first token in a minute.")
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._client.close()

    def _run(self) -> None:
        try:
            while not self._stop.is_set():
                self._stream_once()
        except (openai.OpenAIError, httpx.HTTPError) as error:
            self.broken = error
            self._first.set()

    def _stream_once(self) -> None:
        last = None
        with self._client.completions.create(
            model=self._model,
            prompt=self._prompt,
            max_tokens=self._tokens,
            stream=True,
            temperature=0.0,
            extra_body={"ignore_eos": True},
        ) as chunks:
            for _ in chunks:
                now = time.perf_counter()
                if last is not None:
                    self.gaps.append(now - last)
                last = now
                self._first.set()
                if self._stop.is_set():
                    return
