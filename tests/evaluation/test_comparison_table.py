"""The tables of `vllm-edit compare`."""

from vllm_edit.evaluation.comparison import ABOUT, FLOOR, MeanScore, VariantResult
from vllm_edit.evaluation.comparison_table import markdown
from vllm_edit.evaluation.server_client import Latency


def result(variant: str, locality: float, seconds: float) -> VariantResult:
    score = MeanScore(locality, locality, locality)
    names = ("reliability", "generalization", "locality", "locality.other_subjects")
    waits = {ABOUT: [Latency(seconds, seconds)]} if seconds else {}
    return VariantResult(variant, {f"{name}/generated": score for name in names}, waits)


def test_the_noise_floor_stands_beside_locality_and_is_no_variant() -> None:
    text = markdown([result("a", 0.9, 1.0), result("b", 0.5, 2.0), result(FLOOR, 0.8, 0.0)])
    assert (
        "| a | 90.0 (90.0 to 90.0) | 90.0 (90.0 to 90.0) | 90.0 (90.0 to 90.0; floor 80.0) |"
        in text
    )
    assert FLOOR not in text
    assert "By these figures take a" in text
