"""The training schedule."""

from dataclasses import dataclass


@dataclass(frozen=True)
class TrainingRecipe:
    """The schedule. `*_rows` are per step. `*_from` and `*_until` are shares of the training."""

    steps: int = 5000
    seed: int = 0
    recall_rows: int = 7
    given_rows: int = 20
    demonstration_rows: int = 4
    mello_rows: int = 2
    chat_rows: int = 1
    running_rows: int = 1
    edited_rows: int = 4
    copying_until: float = 0.08
    long_from: float = 0.15
    warm_up: int = 40
    decay_from: float = 0.45
    matrix_rate: float = 0.02
    matrix_decay: float = 0.02
    other_rate: float = 3e-3
    noise: float = 0.5
    edit_from: float = 0.15
    edit_every: int = 2
    long_every: int = 2
    edit_sizes: tuple[float, float] = (0.5, 3.0)

    def rate(self, step: int, done: float) -> float:
        """The learning rate's factor: linear warm-up, constant, linear decay to zero.

        `done` is the share of training that is done, which a time limit makes independent of
        `step`; so none of Transformers' schedules fits.
        """
        return min(1.0, (step + 1) / self.warm_up, (1 - done) / (1 - self.decay_from))
