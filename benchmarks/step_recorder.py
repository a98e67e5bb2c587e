"""Records the steps of an engine in its workers."""

import time
from typing import Any

EngineStep = tuple[float, float, int]
"""Begin, end (time.perf_counter, the same clock in all processes) and number of tokens."""


class StepRecorder:
    """Mixed into the workers of a measured engine by vLLM's --worker-extension-cls."""

    def record_steps(self: Any) -> None:
        """Start to record."""
        execute, sample = self.execute_model, self.sample_tokens
        steps: list[EngineStep] = []
        self.steps = steps
        begun: list[tuple[float, int]] = []

        def execute_model(scheduled: Any) -> Any:
            begun.append((time.perf_counter(), scheduled.total_num_scheduled_tokens))
            return execute(scheduled)

        def sample_tokens(grammar: Any) -> Any:
            output = sample(grammar)
            begin, tokens = begun.pop()
            steps.append((begin, time.perf_counter(), tokens))
            begun.clear()
            return output

        self.execute_model, self.sample_tokens = execute_model, sample_tokens

    def recorded_steps(self: Any) -> list[EngineStep]:
        """The recorded steps."""
        steps: list[EngineStep] = self.steps
        return steps
