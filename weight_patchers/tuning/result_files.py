"""What a search found, as a table and as files of hyperparameters."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml
from transformers import PretrainedConfig

from weight_patchers.tuning.judging import Scores
from weight_patchers.tuning.search import Found
from weight_patchers.tuning.space import Settings
from weight_patchers.tuning.trial import Trial

_IDENTITY = ("model_type", "hidden_size", "num_hidden_layers", "intermediate_size", "vocab_size")
_FIGURES = ("told", "chat", "reworded", "kept_word", "kept_six", "leak")
BEFORE = "as before"
"""What the table calls the settings in force."""

_HEAD = (
    "", "method", "made", "n", "told", "chat", "reworded", "kept 1", "kept 6", "leak", "drift",
    "s/edit", "settings",
)  # fmt: skip


def table(found: Sequence[Found]) -> str:
    """A Markdown table: each method's trials, the best first, with what differs from `before`.

    `*` marks those that no other of the method is better than in told, reworded and kept.
    """
    lines = [" | ".join(_HEAD), " | ".join("---" for _ in _HEAD)]
    for result in found:
        pairs = zip(result.trials, result.on_front, strict=True)
        for trial, ahead in sorted(pairs, key=lambda pair: -pair[0].value):
            name = difference(result.before, trial.settings)
            lines += [" | ".join(row) for row in _rows(result.method, trial, ahead, name)]
    return "".join(f"| {line} |\n" for line in lines)


def _rows(method: str, trial: Trial, ahead: bool, name: str) -> Iterator[tuple[str, ...]]:
    mark = "*" if ahead else ""
    if trial.failure is not None:
        yield (mark, method, "", *("" for _ in range(9)), f"{name}: {trial.failure}")
    for regime, scores in trial.scores.items():
        figures = [_share(getattr(scores, field)) for field in _FIGURES]
        numbers = (str(scores.count), *figures, f"{scores.drift:.3f}", f"{scores.seconds:.1f}")
        yield (mark, method, regime, *numbers, name)


def difference(before: Settings, after: Settings) -> str:
    """The hyperparameters that differ, as YAML on one line."""
    changed = {name: value for name, value in after.items() if value != before.get(name)}
    return _flow(changed).strip("{}") or BEFORE


def write_hyperparameters(
    found: Sequence[Found], config: PretrainedConfig, name: str, folder: Path
) -> list[Path]:
    """Write each method's best settings to `hparams/<method>/<name>.yaml` in the folder, laid out
    as `weight_patchers.hyperparameters.find` reads them, and all of them to `hparams.yaml`, as a
    server's --edit-hparams does. A method whose finalists all failed is left out.
    """
    text_config = config.get_text_config()
    match = {key: getattr(text_config, key) for key in _IDENTITY if hasattr(text_config, key)}
    plain = re.sub(r"[^\w.-]+", "-", name).strip("-") or "model"
    paths, everything = [], []
    for result in found:
        best = result.best
        if not best.scores:
            continue
        path = folder / "hparams" / result.method / f"{plain}.yaml"
        comment = "".join(f"# {line}\n" for line in _measured(name, best))
        values = "".join(f"  {key}: {_flow(value)}\n" for key, value in best.settings.items())
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{comment}match: {_flow(match)}\nvalues:\n{values}", encoding="utf-8")
        paths.append(path)
        everything.append(f"{comment}{result.method}:\n{values}")
    path = folder / "hparams.yaml"
    path.write_text("\n".join(everything), encoding="utf-8")
    return [*paths, path]


def _measured(name: str, trial: Trial) -> Iterator[str]:
    yield f"Found for {name} by vllm-edit tune, on counterfactual edits of facts that it tells,"
    yield "judged on facts set apart by greedy answers in float32:"
    for regime, scores in trial.scores.items():
        yield f"{regime}, {scores.count} edits: {_sentence(scores)}."


def _sentence(scores: Scores) -> str:
    names = {"chat": "in chat form", "kept_word": "others' first word kept", "kept_six": "six kept"}
    figures = [(names.get(field, field), getattr(scores, field)) for field in _FIGURES]
    return ", ".join(f"{label} {value:.2f}" for label, value in figures if value is not None)


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _flow(value: Any) -> str:
    plain = list(value) if isinstance(value, tuple) else value
    if isinstance(value, dict):
        plain = {k: list(v) if isinstance(v, tuple) else v for k, v in value.items()}
    text = yaml.safe_dump(plain, default_flow_style=True, width=10_000, allow_unicode=True)
    return text.removesuffix("\n").removesuffix("\n...")
