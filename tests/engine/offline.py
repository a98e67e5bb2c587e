"""Greedy answers of vLLM's offline engine, one engine after another in a process of its own.

Run as a program: reads jobs as JSON from standard input, writes the answers to the file named.
"""

import gc
import json
import os
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

Answer = list[tuple[int, float]]
"""Token ids with their log-probabilities."""


@dataclass(frozen=True)
class Job:
    """A model folder, the adapters to ask besides the base (None), and prompts as token ids."""

    model: str
    adapters: tuple[str | None, ...]
    prompts: tuple[tuple[int, ...], ...]
    tokens: int
    max_rank: int = 8


def answers(jobs: list[Job], output: Path) -> list[list[list[Answer]]]:
    """By job, adapter and prompt."""
    environment = os.environ | {"VLLM_ENABLE_V1_MULTIPROCESSING": "0"}
    text = json.dumps([asdict(job) for job in jobs])
    command = [sys.executable, __file__, str(output)]
    subprocess.run(command, input=text, text=True, env=environment, check=True)
    found: list[list[list[Answer]]] = json.loads(output.read_text())
    return found


def _answers(job: dict[str, Any]) -> list[list[Answer]]:
    from vllm import LLM, SamplingParams
    from vllm.lora.request import LoRARequest

    lora = any(job["adapters"])
    llm = LLM(
        model=job["model"],
        dtype="float32",
        enforce_eager=True,
        max_model_len=256,
        kv_cache_memory_bytes=1 << 28,
        enable_lora=lora,
        **({"max_lora_rank": job["max_rank"]} if lora else {}),
    )
    params = SamplingParams(temperature=0.0, max_tokens=job["tokens"], logprobs=1, ignore_eos=True)
    prompts = [{"prompt_token_ids": prompt} for prompt in job["prompts"]]
    found = []
    for number, adapter in enumerate(job["adapters"], start=1):
        request = LoRARequest(adapter, number, adapter) if adapter else None
        outputs = llm.generate(prompts, params, lora_request=request, use_tqdm=False)
        found.append([_answer(output.outputs[0]) for output in outputs])
    return found


def _answer(completion: Any) -> Answer:
    steps = zip(completion.token_ids, completion.logprobs, strict=True)
    return [(token, step[token].logprob) for token, step in steps]


def main() -> None:
    found = []
    for job in json.load(sys.stdin):
        found.append(_answers(job))
        from vllm.distributed import cleanup_dist_env_and_memory

        gc.collect()
        cleanup_dist_env_and_memory()
    Path(sys.argv[1]).write_text(json.dumps(found))


if __name__ == "__main__":
    main()
