"""Edits posed in pieces that fit one pass each, and what the model holds for them."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from weight_patchers import hooks
from weight_patchers.edit import Edit
from weight_patchers.families import Projection
from weight_patchers.values import contexts as surroundings
from weight_patchers.values.contexts import Context
from weight_patchers.values.hparams import ValueHparams
from weight_patchers.values.optimisation import Site, Values, optimise, outcome
from weight_patchers.values.problem import Problem, kept_texts, pose

# A pass may take this share of the model's own memory, and is no smaller than this many tokens.
_MEMORY_SHARE = 0.1
_LEAST_TOKENS = 4096

Progress = Callable[[int, int], None]


@dataclass(frozen=True, eq=False)
class Workload:
    """Groups of edits, and the same in pieces: the edits of one group have one subject.

    `order[i]` is the place, in the edits as they were given, of the i-th edit in group order.
    """

    groups: Sequence[Sequence[Edit]]
    problems: Sequence[Problem]
    order: Sequence[int]

    def in_order(self, values: Sequence[Tensor]) -> list[float]:
        """One number for each edit as it was given, from those of the pieces' edits."""
        flat = torch.cat(list(values)).tolist()
        found = [0.0] * len(flat)
        for place, value in zip(self.order, flat, strict=True):
            found[place] = value
        return found


def surround(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, hp: ValueHparams
) -> tuple[Context, ...]:
    """The contexts that hyperparameters ask for; the same for every edit of a model."""
    sampled = surroundings.sample(
        model, tokenizer, count=hp.context_count, lengths=hp.context_lengths, seed=hp.seed
    )
    return (*sampled, surroundings.chat(tokenizer)) if hp.chat else sampled


def plan(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    edits: Sequence[Edit],
    contexts: Sequence[Context],
    hp: ValueHparams,
    *,
    share_subjects: bool = False,
    bare_share: float | None = None,
) -> Workload:
    """Group the edits, each alone or all of a subject together, and pose them in pieces.

    Edits of one subject have the same key wherever the subject comes first, and a linear map
    gives one key one value: together they get a value that serves all of them.
    """
    found: dict[object, list[int]] = {}
    for place, edit in enumerate(edits):
        found.setdefault(edit.subject if share_subjects else place, []).append(place)
    groups = [[edits[place] for place in places] for places in found.values()]
    beside = len(hp.kl_prompts) + hp.kept_samples
    problems = []
    for piece in pieces(model, tokenizer, groups, contexts, beside, hp.pass_tokens):
        kept = kept_texts(model, tokenizer, [group[0].subject for group in piece], hp)
        problems.append(pose(tokenizer, piece, contexts, kept, model.device, bare_share))
    return Workload(groups, problems, [place for places in found.values() for place in places])


def pass_tokens(model: PreTrainedModel) -> int:
    """How many tokens one pass with gradients may hold.

    For a token, each layer keeps about 6 d + 3 d_ff values for its backward pass towards its
    input (norms, attention, the MLP's gate); the layers together may take a tenth of the model.
    """
    config = model.config.get_text_config()
    width = int(config.hidden_size)
    inner = int(getattr(config, "intermediate_size", None) or 4 * width)
    size = sum(p.numel() for p in model.parameters())
    each = int(config.num_hidden_layers) * (6 * width + 3 * inner)
    return max(_LEAST_TOKENS, int(_MEMORY_SHARE * size / each))


def find_values(
    model: PreTrainedModel,
    site: Site,
    workload: Workload,
    hp: ValueHparams,
    progress: Progress | None = None,
) -> Values:
    """The values of all groups, piece by piece; `progress(done, of)` counts edits."""
    parts, done = [], 0
    for problem in workload.problems:
        parts.append(optimise(model, site, problem, hp))
        done += len(problem.edit_groups)
        if progress is not None:
            progress(done, len(workload.order))
    return Values(
        delta=torch.cat([part.delta for part in parts], dim=1),
        scale=torch.cat([part.scale for part in parts], dim=1),
        steps=torch.cat([part.steps for part in parts]),
        before=torch.cat([part.before for part in parts]),
        reached=torch.cat([part.reached for part in parts]),
    )


def observe(
    model: PreTrainedModel,
    projections: Mapping[int, Projection],
    modules: Mapping[int, nn.Module],
    problems: Sequence[Problem],
    *,
    bare: bool = False,
) -> tuple[dict[int, Tensor], dict[int, Tensor]]:
    """Keys and states at the subject's last token, float32.

    The key k* [groups, d_in] is a projection's input there, the state [groups, d] a module's
    output; each is averaged over the group's contexts by their shares (Meng et al. 2022, eq. 3)
    or, with `bare`, over its prompts without one. The pass ends where no more is to be seen.
    """
    given = {layer: projection.module for layer, projection in projections.items()}
    keys: dict[int, list[Tensor]] = {layer: [] for layer in given}
    states: dict[int, list[Tensor]] = {key: [] for key in modules}
    for problem in problems:
        index = torch.arange(len(problem.subjects), device=problem.subjects.device)
        with torch.no_grad(), hooks.captured(given, modules, len(index)) as captured:
            model(**problem.batch.arguments())
        average = problem.alone if bare else problem.average
        for found, values in zip((keys, states), captured, strict=True):
            for key, value in values.items():
                found[key].append(average(value[index, problem.subjects]))
    return _joined(keys), _joined(states)


def _joined(parts: Mapping[int, Sequence[Tensor]]) -> dict[int, Tensor]:
    return {key: torch.cat(list(tensors)) for key, tensors in parts.items()}


def report(
    model: PreTrainedModel, workload: Workload, values: Values
) -> list[dict[str, float | int]]:
    """For each edit, as given: what the optimisation promised and what the model now does."""
    told = [outcome(model, problem) for problem in workload.problems]
    groups = torch.repeat_interleave(
        torch.arange(len(workload.groups)), torch.tensor([len(g) for g in workload.groups])
    )
    moved = (values.delta.norm(dim=-1) / values.scale).amax(0).cpu()[groups]
    columns = {
        "steps": values.steps[groups],
        "delta_norm": moved,
        "probability_before": values.before,
        "probability_reached": values.reached,
        "probability_after": torch.cat([probability for probability, _ in told]),
        "greedy_after": torch.cat([greedy for _, greedy in told]),
    }
    ordered = {name: workload.in_order([column]) for name, column in columns.items()}
    ordered["steps"] = [int(steps) for steps in ordered["steps"]]
    return [dict(zip(ordered, row, strict=True)) for row in zip(*ordered.values(), strict=True)]


def pieces(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    groups: Sequence[Sequence[Edit]],
    contexts: Sequence[Context],
    beside: int = 0,
    most_tokens: int | None = None,
) -> Iterator[list[Sequence[Edit]]]:
    """Runs of groups whose rows, padded, hold about `most_tokens` tokens; at least one group.

    `beside` is the number of rows that a group has beside those of its edits.
    """
    bound = pass_tokens(model) if most_tokens is None else most_tokens
    longest_context = max(len(tokenizer(c.before + c.after)["input_ids"]) for c in contexts)
    piece: list[Sequence[Edit]] = []
    rows = longest = 0
    for group in groups:
        length = max(len(tokenizer(f"{e.prompt} {e.target_new}")["input_ids"]) for e in group)
        length += longest_context
        count = len(group) * len(contexts) + beside
        if piece and (rows + count) * max(longest, length) > bound:
            yield piece
            piece, rows, longest = [], 0, 0
        piece.append(group)
        rows, longest = rows + count, max(longest, length)
    yield piece
