"""The mixture distribution that MOIRAI forecasts (Woo et al., arXiv 2402.02592).

`log_density` gives the training loss. `mixture_quantiles` inverts the distribution function, where
the package draws samples: the inverse needs no random state, has no sampling error and does not
depend on the batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy import special

Array = npt.NDArray[np.float64]

BOUND = 2.0**20
"""Largest quantile, in units of the context's deviation; far beyond any vital sign."""

TOLERANCE = 1e-5
"""Accuracy of a quantile, in units of the context's deviation."""

_TINY = 1e-300


def log_density(mixture: Any, values: torch.Tensor) -> torch.Tensor:
    """Return the log density of a mixture at standardised values, element by element.

    Equal to `log_prob` of the package's mixture. The package replaces values outside a component's
    support by random draws from the global generator; here a constant replaces them.

    Args:
        mixture: `uni2ts.distribution.mixture.Mixture` with batch shape `values.shape`.
        values: any shape, finite.
    """
    parts = []
    for component in mixture.components:
        inside = component.support.check(values)
        # 1 is in the support of every component, so that no gradient becomes NaN.
        density = component.log_prob(torch.where(inside, values, 1.0))
        parts.append(torch.where(inside, density, -torch.inf))
    total: torch.Tensor = (mixture.weights.logits + torch.stack(parts, dim=-1)).logsumexp(dim=-1)
    return total


def _student_t(x: Array, df: Array, loc: Array, scale: Array) -> Array:
    return np.asarray(special.stdtr(df, (x - loc) / scale))


def _normal(x: Array, loc: Array, scale: Array) -> Array:
    return np.asarray(special.ndtr((x - loc) / scale))


def _log_normal(x: Array, loc: Array, scale: Array) -> Array:
    below = special.ndtr((np.log(np.maximum(x, _TINY)) - loc) / scale)
    return np.asarray(below * (x > 0))


def _negative_binomial(x: Array, total_count: Array, logits: Array) -> Array:
    """Regularised incomplete beta function; `total_count` need not be whole."""
    failures = np.maximum(total_count, _TINY)
    steps = np.floor(np.maximum(x, 0.0)) + 1.0
    below = special.betainc(failures, steps, special.expit(-logits))
    return np.asarray(below * (x >= 0))


# By class name, since one class is from uni2ts, whose import takes ten seconds.
_CDFS: dict[str, tuple[Callable[..., Array], tuple[str, ...]]] = {
    "StudentT": (_student_t, ("df", "loc", "scale")),
    "Normal": (_normal, ("loc", "scale")),
    "LogNormal": (_log_normal, ("loc", "scale")),
    "NegativeBinomial": (_negative_binomial, ("total_count", "logits")),
}


def mixture_quantiles(
    mixture: Any, select: Callable[[torch.Tensor], torch.Tensor], levels: Sequence[float]
) -> torch.Tensor:
    """Invert a mixture's distribution function.

    Args:
        mixture: `uni2ts.distribution.mixture.Mixture` over ``[B, N, P]``.
        select: selects the forecast steps: ``[B, N, P, ...]`` to ``[B, H, ...]``.
        levels: Q probabilities.

    Returns:
        Standardised quantiles ``[B, H, Q]``, rising along Q; NaN where a parameter is NaN.
    """
    weights = select(mixture.weights.probs)  # [B, H, K]
    shape = (*weights.shape[:2], len(levels))
    parts = []
    for index, component in enumerate(mixture.components):
        cdf, names = _CDFS[type(component).__name__]
        tensors = [weights[..., index], *(select(getattr(component, name)) for name in names)]
        weight, *parameters = (_per_level(tensor, len(levels)) for tensor in tensors)
        parts.append((cdf, weight, parameters))

    def cdf_of_mixture(x: Array, rows: npt.NDArray[np.int64]) -> Array:
        total = np.zeros(len(rows))
        for cdf, weight, parameters in parts:
            total += weight[rows] * cdf(x, *(values[rows] for values in parameters))
        return total

    wanted = np.tile(np.asarray(levels, np.float64), shape[0] * shape[1])
    found = _invert(cdf_of_mixture, wanted).reshape(shape)
    return torch.from_numpy(found.astype(np.float32)).to(weights.device)


def _per_level(parameter: torch.Tensor, levels: int) -> Array:
    return np.repeat(parameter.detach().cpu().double().numpy().ravel(), levels)


def _invert(below: Callable[[Array, npt.NDArray[np.int64]], Array], wanted: Array) -> Array:
    """Bracket every quantile by doubling, then bisect; only open brackets are evaluated."""
    low, high = np.full(len(wanted), -1.0), np.full(len(wanted), 1.0)
    rows = np.arange(len(wanted))
    for bound, is_outside in ((low, np.greater_equal), (high, np.less)):
        open_ = rows
        while len(open_) > 0:
            open_ = open_[is_outside(below(bound[open_], open_), wanted[open_])]
            open_ = open_[np.abs(bound[open_]) < BOUND]
            bound[open_] *= 2.0
    open_ = rows
    while len(open_) > 0:
        middle = (low[open_] + high[open_]) / 2
        right = below(middle, open_) < wanted[open_]
        low[open_[right]], high[open_[~right]] = middle[right], middle[~right]
        # For large values the accuracy of float32.
        exact = np.maximum(TOLERANCE, 1e-7 * np.abs(middle))
        open_ = open_[high[open_] - low[open_] > exact]
    return np.where(np.isnan(below(high, rows)), np.nan, high)
