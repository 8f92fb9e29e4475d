"""The log density of the mixture that MOIRAI forecasts (Woo et al., arXiv 2402.02592)."""

from __future__ import annotations

from typing import Any

import torch


def log_density(mixture: Any, values: torch.Tensor) -> torch.Tensor:
    """Return the log density of a mixture at standardised values, element by element.

    The same as `log_prob` of the package's mixture, which draws from the global generator to fill
    in for values outside of a component's support; here a constant does, and the random state is
    left alone.

    Args:
        mixture: `uni2ts.distribution.mixture.Mixture` with batch shape `values.shape`.
        values: any shape, finite.
    """
    parts = []
    for component in mixture.components:
        inside = component.support.check(values)
        # 1 lies in the support of every component, so that no gradient becomes NaN.
        density = component.log_prob(torch.where(inside, values, 1.0))
        parts.append(torch.where(inside, density, -torch.inf))
    total: torch.Tensor = (mixture.weights.logits + torch.stack(parts, dim=-1)).logsumexp(dim=-1)
    return total
