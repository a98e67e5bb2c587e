"""The arms of the comparison: plain vLLM, and vllm-edit with one feature at a time."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from benchmarks.serving.plan import FEW, ServingPlan
from benchmarks.serving.servers import ADAPTERS, EDITED, LARGE, MODEL, PLAIN, UNEDITED

Kind = Literal["memory", "weight", "swap"]
MERGED, SWAPPED, SERAC, MELLO = "merged", "swapped", "serac", "mello"
MERGED_EDITS = 10
HOP_EDITS = 200


@dataclass(frozen=True)
class Storm:
    """`rate` changes per second while requests are served.

    `memory` and `weight` post edits. `swap` activates and deactivates a set whose delta exists
    already: a weight edit without its computation.
    """

    kind: Kind
    rate: float


@dataclass(frozen=True)
class Arm:
    """One configuration to measure, described by `about`.

    Its requests go to `models` in turn, with `edits` edits in effect. `scoped` percent of them are
    about one of the first `in_memory` facts. The edit set `active` is active during the load. A
    `swept` arm is measured at several request rates.
    """

    name: str
    about: str
    server: str
    models: tuple[str, ...] = (MODEL,)
    scoped: int = 0
    in_memory: int = 0
    edits: int = 0
    active: str | None = None
    storm: Storm | None = None
    hops: bool = False
    swept: bool = False
    extra_body: Mapping[str, Any] = field(default_factory=dict)


def arms(plan: ServingPlan, chosen: Collection[str] = ()) -> list[Arm]:
    """The arms of a plan. The first one is plain vLLM, with which the others are compared.

    With `chosen` names: only these and the first, even if the plan does not include them. Raises
    ValueError for an unknown name.
    """
    all_arms = _all(plan)
    chosen = chosen or plan.arms
    if unknown := set(chosen) - {arm.name for arm in all_arms}:
        raise ValueError(f"There is no arm {', '.join(sorted(unknown))}; --list shows them.")
    return [arm for arm in all_arms if not chosen or arm.name in (all_arms[0].name, *chosen)]


def _all(plan: ServingPlan) -> list[Arm]:
    all_arms = [
        Arm("plain", "vLLM without the plugin", PLAIN, swept=True),
        Arm("no-edits", "the plugin, before any edit", UNEDITED, swept=True),
    ]
    for size in plan.sizes:
        all_arms += [_memory(size, scoped) for scoped in (0, 10, 100)]
    all_arms.append(
        Arm(
            "merged",
            f"{MERGED_EDITS} weight edits (MEMIT) merged into the weights",
            EDITED,
            edits=MERGED_EDITS,
            active=MERGED,
            swept=True,
        )
    )
    all_arms += [_adapters(count) for count in (0, 1, 4, 16)]
    kinds: tuple[Kind, ...] = ("memory", "weight", "swap")
    all_arms += [_storm(kind, rate) for kind in kinds for rate in (1.0, 5.0, 20.0)]
    return [*all_arms, _serac(), _mello()]


def memory_set(size: int) -> str:
    """Name of the set with this many facts about people."""
    return f"memory-{size}"


def adapter_sets(count: int) -> list[str]:
    """Names of sets of one weight edit each."""
    return [f"adapter-{number:02}" for number in range(count)]


def _memory(size: int, scoped: int) -> Arm:
    return Arm(
        f"memory-{size}-{scoped}%",
        f"{size:,} facts in memory (IKE), {scoped} % of the requests about one of them",
        EDITED if size <= FEW else LARGE,
        (f"{MODEL}@{memory_set(size)}",),
        scoped=scoped,
        in_memory=size,
        edits=size,
        swept=size > FEW and scoped != 10,
    )


def _adapters(count: int) -> Arm:
    if not count:
        about = "the plugin with --enable-lora; these requests use no adapter"
        return Arm("adapters-0", about, ADAPTERS)
    about = f"{count} sets of one weight edit (ROME) in flight, as adapters"
    models = tuple(f"{MODEL}@{name}" for name in adapter_sets(count))
    return Arm(f"adapters-{count}", about, ADAPTERS, models, edits=1)


def _storm(kind: Kind, rate: float) -> Arm:
    what = {
        "memory": "memory edits (IKE) a second posted",
        "weight": "weight edits (ROME) a second posted",
        "swap": "swaps a second of an edit that is computed",
    }[kind]
    name = f"storm-{kind}-{rate:g}"
    return Arm(name, f"{rate:g} {what} while serving", EDITED, storm=Storm(kind, rate))


def _serac() -> Arm:
    about = "100 facts in memory (SERAC), 10 % of the requests about one of them"
    models = (f"{MODEL}@{SERAC}",)
    return Arm("serac-10%", about, EDITED, models, scoped=10, in_memory=100, edits=100)


def _mello() -> Arm:
    about = f"{HOP_EDITS} facts in memory (MeLLo), every request a question of two hops"
    models, body = (f"{MODEL}@{MELLO}",), {"edit_hops": True}
    return Arm("mello", about, EDITED, models, edits=HOP_EDITS, hops=True, extra_body=body)
