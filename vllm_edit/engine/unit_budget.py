"""Whether the live edits fit the spare inner units of the served model."""

from collections.abc import Mapping

from vllm_edit.domain.errors import NoSpareUnits
from vllm_edit.engine.metrics import UNITS


def require_spare(used: Mapping[str, int], spare: Mapping[str, int]) -> None:
    """Raise NoSpareUnits if an MLP is to have more units in use than it has, by its name."""
    for mlp, needed in used.items():
        there = spare.get(mlp, 0)
        if needed <= there:
            continue
        layers = "" if there else " Name its layer in --edit-spare-layers if you name layers there."
        raise NoSpareUnits(
            f"The edits that would be live need {needed} spare inner units in {mlp}, and this "
            f"server has {there} there. Start it with --edit-spare-units {needed} or more, or "
            f"take edits back whose method adds such units.{layers}"
        )


def publish(used: Mapping[str, int], spare: Mapping[str, int]) -> None:
    """Set the figures of every MLP that has spare units."""
    for mlp, there in spare.items():
        UNITS.labels(mlp, "used").set(used.get(mlp, 0))
        UNITS.labels(mlp, "free").set(there - used.get(mlp, 0))
