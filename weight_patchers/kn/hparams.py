"""KN's hyperparameters."""

from dataclasses import dataclass

from weight_patchers.values.hparams import ContextHparams

EMBEDDINGS = ("input", "output")
TOKENS = ("first", "all")


@dataclass(frozen=True, kw_only=True)
class KnHparams(ContextHparams):
    """How KN edits one model. Raises InvalidHyperparameters when a value is out of its range."""

    layers: tuple[int, ...]
    """Decoder layers whose neurons may be changed, ascending, counted from 0."""
    steps: int = 20
    """Steps of the integral."""
    threshold: float = 0.2
    """Least attribution of a neuron to count in a prompt, as a share of that prompt's largest."""
    shared: float = 0.7
    """Least share of a fact's prompts in which a neuron counts, to begin with."""
    common: float = 0.1
    """Largest share of other facts that a neuron may also belong to."""
    contrast: int = 10
    """How many common facts are among these other facts."""
    subtract: float = 1.0
    """Weight of the old answer's embedding (lambda 1 of the paper)."""
    add: float = 8.0
    """Weight of the new answer's embedding (lambda 2 of the paper)."""
    embedding: str = "input"
    """`input`: word embeddings, as published; `output`: rows of the language-model head, which are
    the directions that raise a logit. They are the same where a model ties them."""
    tokens: str = "first"
    """`first`: the first token of an answer, as published; `all`: each target token at its own
    position, where the old answer is what the model says there."""
    chat: bool | None = False
    """As in `ContextHparams`, but off by default: a template's answer begins with another token."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require_layers(self.layers)
        self._require(1 <= self.steps <= 1000, "steps", "between 1 and 1000")
        for name in ("threshold", "shared"):
            self._require(0 < getattr(self, name) <= 1, name, "in (0, 1]")
        self._require(0 <= self.common <= 1, "common", "between 0 and 1")
        self._require(0 <= self.contrast <= 60, "contrast", "between 0 and 60")
        self._require(self.subtract >= 0, "subtract", "at least 0")
        self._require(self.add >= 0, "add", "at least 0")
        self._require(self.embedding in EMBEDDINGS, "embedding", f"one of {EMBEDDINGS}")
        self._require(self.tokens in TOKENS, "tokens", f"one of {TOKENS}")

    @property
    def covariance(self) -> bool:
        """Whether the key statistics of the layers are needed."""
        return False
