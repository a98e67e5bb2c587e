"""A whole training run: from a base to a checkpoint folder and a report."""

import json
import shutil
import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from vllm_edit.domain.errors import InvalidTrainingData, Unavailable
from vllm_edit.processes.load_model import load
from vllm_edit.serac.training.data import TrainingData
from vllm_edit.serac.training.evaluate import evaluate
from vllm_edit.serac.training.train import Progress, Recipe, Training

REPORT = "report.json"


@dataclass(frozen=True)
class Report:
    """The result of a run. `before` and `after` are shares of right answers by kind of rows."""

    base: str
    parameters: int
    rows: int
    validation_rows: int
    recipe: Mapping[str, Any]
    seconds: float
    cpu_seconds: float
    loss: float
    before: Mapping[str, float]
    after: Mapping[str, float]


def run(
    base: Path,
    data: TrainingData,
    output: Path,
    recipe: Recipe,
    progress: Progress,
    device: str = "cpu",
) -> Report:
    """Train `base` and write it to the folder `output`.

    The file `output`.state lets the same call resume an interrupted run. The weights are stored as
    bfloat16; the report's `after` is measured with these.

    Raises:
        Unavailable: the base cannot be loaded, or `output` exists but is not from such a run.
        InvalidTrainingData: there are no rows to train on.
    """
    if output.exists() and not (output / REPORT).exists():
        raise Unavailable(f"{output} is there already and no output of this: name another folder.")
    if not data.train:
        raise InvalidTrainingData("There are no rows to train on.")
    torch.manual_seed(recipe.seed)
    model, tokenizer = load(base, device)
    if tokenizer.eos_token_id is None:
        raise Unavailable("The base's tokenizer has no end-of-sequence token: take another base.")
    before = evaluate(model, tokenizer, data.validation)
    output.parent.mkdir(parents=True, exist_ok=True)
    started, computed = time.monotonic(), time.process_time()
    state = output.with_name(output.name + ".state")
    loss = Training(model, tokenizer, data.train, recipe, state).run(progress)
    seconds, computed = time.monotonic() - started, time.process_time() - computed
    _write(output, model, tokenizer)
    report = Report(
        base=base.name,
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        rows=len(data.train),
        validation_rows=len(data.validation),
        recipe=asdict(recipe),
        seconds=round(seconds, 1),
        cpu_seconds=round(computed, 1),
        loss=round(loss, 5),
        before=before,
        after=evaluate(*load(output, device), data.validation),
    )
    (output / REPORT).write_text(json.dumps(asdict(report), indent=2) + "\n")
    return report


def _write(output: Path, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Write the folder, replacing an existing one at the end."""
    staged = Path(tempfile.mkdtemp(dir=output.parent, prefix=f".{output.name}-"))
    staged.chmod(0o755)
    model.to(torch.bfloat16)  # type: ignore[arg-type]
    model.save_pretrained(staged)
    tokenizer.save_pretrained(staged)
    for file in staged.glob("*.safetensors"):
        file.chmod(0o644)
    if output.exists():
        shutil.rmtree(output)
    staged.rename(output)
