"""Swaps in vLLM's offline engine, one model after another in a process of its own.

Run as a program: reads jobs as JSON from standard input, writes what was found to the file named.
"""

import gc
import json
import os
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from vllm_edit.engine.payload import Content, Live, pack
from weight_patchers import Delta

PROMPT = [5, 17, 3, 42, 9, 11]


@dataclass(frozen=True)
class Job:
    """A model folder, engine options, and the lists of delta files to serve in turn.

    ``in_place`` is for an engine that leaves weights as they are, as on a GPU; ``adapter`` is a
    LoRA adapter's folder. Before the swap of the number ``spoiled_before`` the checkpoint's
    values are changed. The layer ``spare_layer`` has ``spare`` inner units.
    """

    model: str
    options: dict[str, Any]
    swaps: tuple[tuple[str, ...], ...] = ()
    in_place: bool = False
    adapter: str | None = None
    spoiled_before: int | None = None
    spare: int = 0
    spare_layer: int = 1


def found(jobs: list[Job], output: Path) -> list[list[dict[str, Any]]]:
    """By job what was served at first and after each swap: digests, answers, adapters, faults."""
    environment = os.environ | {
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "VLLM_PLUGINS": "vllm_edit",
        # Plugins are loaded once, before the first job; each job then has its own number.
        "VLLM_EDIT_SPARE_UNITS": "1",
    }
    text = json.dumps([asdict(job) for job in jobs])
    command = [sys.executable, __file__, str(output)]
    subprocess.run(command, input=text, text=True, env=environment, check=True)
    found: list[list[dict[str, Any]]] = json.loads(output.read_text())
    return found


def _run(job: dict[str, Any]) -> list[dict[str, Any]]:
    from vllm import LLM

    options = {"enforce_eager": True, "enable_lora": job["adapter"] is not None, **job["options"]}
    llm = LLM(
        model=job["model"],
        skip_tokenizer_init=True,
        max_model_len=64,
        kv_cache_memory_bytes=1 << 26,
        **options,
    )
    seen = [_seen(llm, job["adapter"])]
    live = Live()
    for number, files in enumerate(job["swaps"], start=1):
        if number == job["spoiled_before"]:
            _spoil(Path(job["model"]) / "model.safetensors")
        fault, live = _swap(llm, number, files, live)
        seen.append(_seen(llm, job["adapter"]) | {"fault": fault})
    return seen


def _spoil(path: Path) -> None:
    from safetensors.torch import load_file, save_file

    save_file({name: tensor + 1 for name, tensor in load_file(path).items()}, path)


def _swap(llm: Any, number: int, files: list[str], live: Live) -> tuple[str, Live]:
    """Every step of a swap on the one rank there is; returns the first fault, and what is live."""

    def step(name: str, *args: Any) -> dict[str, Any]:
        (reply,) = llm.collective_rpc(name, args=(number, *args))
        found: dict[str, Any] = reply
        return found

    content = Content.of([Delta.load(Path(file)) for file in files], live)
    names = sorted(content.sums), sorted(content.neurons)
    reply = step("edit_stage", pack(content.sums, content.neurons), *names)
    while not reply["ready"]:
        reply = step("edit_built")
    if reply["fault"]:
        step("edit_finish", sorted(live.parameters))
        return reply["fault"], live
    replies = [step("edit_commit"), step("edit_finish", sorted(content.live.parameters))]
    llm.reset_prefix_cache()
    return " ".join(reply["fault"] or "" for reply in replies).strip(), content.live


def _seen(llm: Any, adapter: str | None) -> dict[str, Any]:
    from vllm.lora.request import LoRARequest

    request = LoRARequest("adapter", 1, adapter) if adapter else None
    loaded = sorted(llm.llm_engine.list_loras()) if adapter else []
    return {
        "digests": llm.collective_rpc("edit_digests")[0],
        "answer": _answer(llm, None),
        "adapted": _answer(llm, request) if request else None,
        "loaded": loaded,
        "addresses": llm.collective_rpc(_addresses)[0],
    }


def _answer(llm: Any, request: Any) -> list[tuple[int, float]]:
    from vllm import SamplingParams

    params = SamplingParams(
        temperature=0.0, max_tokens=6, logprobs=1, ignore_eos=True, detokenize=False
    )
    prompt = {"prompt_token_ids": PROMPT}
    (output,) = llm.generate([prompt], params, lora_request=request, use_tqdm=False)
    completion = output.outputs[0]
    steps = zip(completion.token_ids, completion.logprobs, strict=True)
    return [(token, step[token].logprob) for token, step in steps]


def _addresses(worker: Any) -> list[int]:
    return [p.data_ptr() for p in worker.model_runner.get_model().parameters()]


def main() -> None:
    from vllm import _custom_ops
    from vllm.distributed import cleanup_dist_env_and_memory
    from vllm.plugins import load_general_plugins

    results = []
    load_general_plugins()
    for job in json.load(sys.stdin):
        os.environ["VLLM_EDIT_SPARE_UNITS"] = str(job["spare"])
        os.environ["VLLM_EDIT_SPARE_LAYERS"] = str(job["spare_layer"])
        packs = _custom_ops._supports_onednn
        _custom_ops._supports_onednn = packs and not job["in_place"]
        results.append(_run(job))
        _custom_ops._supports_onednn = packs
        gc.collect()
        cleanup_dist_env_and_memory()
    Path(sys.argv[1]).write_text(json.dumps(results))


if __name__ == "__main__":
    main()
