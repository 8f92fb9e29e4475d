"""Server optimizers: the sites' mean update as a pseudo-gradient (Reddi et al., arXiv 2003.00295).

FedAvgM, FedAdam and FedYogi compute the round's step from the mean update ``D = averaged -
previous`` of each matrix, by name (Algorithm 2 there; FedAvgM is Hsu et al., arXiv 1909.06335)::

    FedAvgM   m <- beta1 m + D                                     x <- x + eta m
    FedAdam   m <- beta1 m + (1 - beta1) D                         x <- x + eta m / (sqrt(v) + tau)
              v <- beta2 v + (1 - beta2) D^2
    FedYogi   m as FedAdam                                         x as FedAdam
              v <- v - (1 - beta2) D^2 sign(v - D^2)

m starts at zero and v at tau^2. As in the paper, m and v are not bias-corrected.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np

from common.adapter.adapter import Adapter, Matrix
from common.adapter.low_rank import Array
from common.config.sections import AggregationConfig
from common.errors import FederationError

OptimizerState = dict[str, Matrix]

_STEPS = "steps"
"""Key of the step counter in the state, a float32 array [1]: exact up to 16 million rounds."""
_FIRST, _SECOND = ".m", ".v"


class ServerOptimizer:
    """A server optimizer and its moments.

    A matrix that no round has changed yet has no moments and keeps its bits: where A is frozen,
    only B has moments. Computation is in float64; the moments are kept in float32 between rounds,
    so that a resumed run continues with the same bits.

    Args:
        settings: `aggregation.optimizer` (not ``none``), `rate` (eta), `momentum` (beta1), `beta2`
            and `tau`. FedAdam and FedYogi change each number by about eta per round, however small
            the update: choose eta of that size, e.g. 0.001.
    """

    def __init__(self, settings: AggregationConfig) -> None:
        self._settings = settings
        self._second_moment = _SECOND_MOMENTS[settings.optimizer]
        self._steps = 0
        self._state: OptimizerState = {}

    def step(self, previous: Adapter, averaged: Adapter) -> Adapter:
        """Apply one round's step and update the moments.

        Args:
            previous: the adapter at the start of the round.
            averaged: the rule's result, with the same names and shapes.

        Returns:
            The next global adapter.
        """
        tensors: dict[str, Matrix] = {}
        for name, before in previous.tensors.items():
            after = averaged.tensors[name]
            if name + _FIRST in self._state or before.tobytes() != after.tobytes():
                tensors[name] = self._moved(name, before, after)
            else:
                tensors[name] = before
        self._steps += 1
        return replace(previous, tensors=tensors)

    def state(self) -> OptimizerState:
        """Return the state for a checkpoint: the moments and the step counter, as float32."""
        return {**self._state, _STEPS: np.array([self._steps], np.float32)}

    def load(self, state: Mapping[str, Matrix]) -> None:
        """Restore a state.

        Raises:
            FederationError: the state is incomplete or of another optimizer.
        """
        arrays = dict(state)
        counter = arrays.pop(_STEPS, None)
        known = (_FIRST,) if self._second_moment is None else (_FIRST, _SECOND)
        expected = {name[: -len(_FIRST)] + suffix for name in arrays for suffix in known}
        if counter is None or arrays.keys() != expected:
            raise FederationError(
                f"the checkpoint's optimizer state is not one of {self._settings.optimizer}; set "
                "aggregation.optimizer as the run was begun"
            )
        self._steps = int(counter[0])
        self._state = {name: np.array(array, np.float32) for name, array in arrays.items()}

    def _moved(self, name: str, before: Matrix, after: Matrix) -> Matrix:
        """One matrix after this round's step; updates its moments."""
        settings, beta1 = self._settings, self._settings.momentum
        update = after.astype(np.float64) - before
        first = beta1 * self._recall(name + _FIRST, before, 0.0)
        if self._second_moment is None:
            first += update
            direction = first
        else:
            first += (1 - beta1) * update
            decay = settings.beta2 if settings.optimizer == "fedadam" else 1.0
            initial = settings.tau**2 * decay**self._steps
            second = self._recall(name + _SECOND, before, initial)
            second = self._second_moment(second, np.square(update), settings.beta2)
            direction = first / (np.sqrt(second) + settings.tau)
            self._state[name + _SECOND] = second.astype(np.float32)
        self._state[name + _FIRST] = first.astype(np.float32)
        moved = before + settings.rate * direction
        # Keeps -0.0, since -0.0 + 0.0 is 0.0.
        return np.where(direction == 0, before, moved).astype(np.float32)

    def _recall(self, key: str, like: Matrix, initial: float) -> Array:
        """A moment after the previous round, or its initial value."""
        if key in self._state:
            return self._state[key].astype(np.float64)
        return np.full(like.shape, initial)


def _adam(second: Array, squares: Array, beta2: float) -> Array:
    return beta2 * second + (1 - beta2) * squares


def _yogi(second: Array, squares: Array, beta2: float) -> Array:
    moved: Array = second - (1 - beta2) * squares * np.sign(second - squares)
    return moved


_SECOND_MOMENTS: Mapping[str, Callable[[Array, Array, float], Array] | None] = {
    "fedavgm": None,
    "fedadam": _adam,
    "fedyogi": _yogi,
}
