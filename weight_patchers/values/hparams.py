"""Contexts of a prompt, and how a value is optimised: hyperparameters that methods share."""

from dataclasses import dataclass

from weight_patchers.checked_values import CheckedValues

OPTIMIZERS = ("adam", "gradient")
SCALES = ("relative", "absolute")
ENDS = ("none", "turn", "stop")


@dataclass(frozen=True, kw_only=True)
class ContextHparams(CheckedValues):
    """The contexts that a prompt is put in, as `weight_patchers.values.contexts` samples them.

    Raises InvalidHyperparameters when a value is out of its range.
    """

    context_count: int = 10
    """Sampled texts before the prompt for each length in `context_lengths`."""
    context_lengths: tuple[int, ...] = (5, 10)
    """Lengths of the sampled texts, in tokens."""
    chat: bool | None = None
    """Also edit the prompt as a user's message in the tokenizer's chat template; null: where it
    has one."""
    end: str = "none"
    """What is trained behind a target. `turn`: in the chat template a full stop and the end of the
    turn; `stop`: that, and elsewhere a full stop; `none`: nothing."""
    seed: int = 0
    """Seed of whatever is sampled."""

    def __post_init__(self) -> None:
        self._require(0 <= self.context_count <= 100, "context_count", "between 0 and 100")
        self._require(
            all(1 <= n <= 100 for n in self.context_lengths), "context_lengths", "1 to 100 each"
        )
        self._require(self.end in ENDS, "end", f"one of {ENDS}")


@dataclass(frozen=True, kw_only=True)
class ValueHparams(ContextHparams):
    """`weight_patchers.values.optimisation` states how the optimisation uses them.

    Raises InvalidHyperparameters when a value is out of its range.
    """

    optimizer: str = "adam"
    """`adam`, or `gradient`: each step goes along the gradient with the full length."""
    scale: str = "relative"
    """`relative`: `step` and `weight_decay` are relative to ||v0||; `absolute`: as published,
    where `step` is Adam's learning rate."""
    step: float = 0.1
    """Length of a step in units of ||v0||, or Adam's learning rate per coordinate."""
    steps: int = 40
    """Maximum number of steps."""
    stop_probability: float = 0.95
    """Stop once the target has this probability, the geometric mean over tokens and contexts."""
    stop_first: int | None = None
    """Stop also once the target was the most probable at each of its tokens, in every context, at
    this many evaluations in a row; null: only at `stop_probability`."""
    kl_factor: float = 0.0625
    """Weight of keeping the next-token distribution after each of `kl_prompts`."""
    kl_prompts: tuple[str, ...] = ("{subject} is a",)
    """Prompts whose next-token distribution is kept, each with `{subject}` in it."""
    kept_samples: int = 0
    """How many continuations of the subject, sampled from the model, are kept likewise."""
    kept_length: int = 8
    """Length of such a continuation, in tokens."""
    weight_decay: float = 0.0
    """Weight of (||delta|| / ||v0||)^2, or of ||delta|| / ||v0||^2 where `scale` is absolute."""
    clamp: float | None = 4.0
    """Largest ||delta|| / ||v0||; null for none."""
    pass_tokens: int | None = None
    """Maximum number of tokens in a pass with gradients, where a token that is only read counts as
    an eighth; null for as many as fit in 15 % of the model's memory or 256 MiB. It bounds the
    memory used and changes the result by rounding only."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require(self.optimizer in OPTIMIZERS, "optimizer", f"one of {OPTIMIZERS}")
        self._require(self.scale in SCALES, "scale", f"one of {SCALES}")
        self._require(self.step > 0, "step", "above 0")
        self._require(1 <= self.steps <= 1000, "steps", "between 1 and 1000")
        self._require(0 < self.stop_probability <= 1, "stop_probability", "in (0, 1]")
        self._require(
            self.stop_first is None or self.stop_first >= 1, "stop_first", "at least 1, or null"
        )
        self._require(self.kl_factor >= 0, "kl_factor", "at least 0")
        self._require(0 <= self.kept_samples <= 100, "kept_samples", "between 0 and 100")
        self._require(1 <= self.kept_length <= 100, "kept_length", "between 1 and 100")
        self._require(self.weight_decay >= 0, "weight_decay", "at least 0")
        self._require(self.clamp is None or self.clamp > 0, "clamp", "above 0, or null")
        self._require(
            self.pass_tokens is None or self.pass_tokens > 0, "pass_tokens", "above 0, or null"
        )
        self._require(
            all("{subject}" in p for p in self.kl_prompts), "kl_prompts", "texts with {subject}"
        )
