"""Input and output of Lag-Llama: windows to tokens, Student's t to losses and forecasts.

The publication (Rasul et al., arXiv 2310.08278) does not define these points for short windows with
gaps:

- Scale: median and interquartile range of the observed context, as published, but with a lower
  bound for the range; the original code divides a constant context (SpO2 98, 98, 98 ...) by 1e-10.
  Both are computed once from the context and kept while the horizon is sampled.
- Gaps: filled with the last observed value; with the window's median before the first one and where
  a lag reaches back before the window.
- Calendar: a site table has no dates. The features of second and minute are -.5 (on the hour), the
  others 0, the middle of their range.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from common.backbones.base import plain_model
from common.backbones.lag_llama.network import LagLlamaNetwork, StudentT, static_features
from common.backbones.lag_llama.sizes import LagLlamaSizes
from common.errors import BackboneError

SAMPLES = 200
"""Sampled paths per forecast, from which its quantiles are computed."""

SAMPLING_SEED = 2310
"""Seed of the random points, which are the same for every window.

A forecast therefore depends on its own window only: not on the batch, its order, or torch's state.
"""

CALENDAR: tuple[float, ...] = (-0.5, -0.5, 0.0, 0.0, 0.0, 0.0)

_PATHS_AT_ONCE = 4000
# Far outside any requested quantile: limits the effect of an extreme draw on the later steps.
_LARGEST_DRAW = 100.0


def robust_scale(context: Tensor, floor: Tensor, typical: Tensor) -> tuple[Tensor, Tensor]:
    """Return median and interquartile range of the observed values, the range with a lower bound.

    Args:
        context: ``[B, C]``, NaN = not observed.
        floor: ``[B]``, the lower bound of the scale.
        typical: ``[B]``, the location of a window without values.

    Returns:
        ``loc, scale``, ``[B, 1]`` each. The median of an even number of values is the lower of the
        two middle ones, as in the original code.
    """
    loc = context.nanmedian(dim=1, keepdim=True).values
    quartiles = context.new_tensor([0.25, 0.75])
    low, high = context.nanquantile(quartiles, dim=1, keepdim=True)  # [B, 1] each
    spread = torch.nan_to_num(high - low, nan=0.0)
    return torch.where(loc.isnan(), typical[:, None], loc), torch.maximum(spread, floor[:, None])


def next_step_loss(
    model: torch.nn.Module,
    context: Tensor,
    target: Tensor,
    loc: Tensor,
    scale: Tensor,
    static: Tensor,
) -> Tensor:
    """Return each window's mean negative log-likelihood over its observed steps, ``[B]``.

    A step counts if the network's tokens reach it and something was observed before it.

    Args:
        model: the network, or PEFT's wrapper of it.
        context: ``[B, C]``, NaN = not observed.
        target: ``[B, H]`` likewise.
        loc: ``[B, 1]``.
        scale: ``[B, 1]``.
        static: ``[B, 2]``, the inputs of `static_features`.

    Returns:
        The loss in units of `scale`; 0 for a window without any observed value.
    """
    network = plain_model(model)
    values = (torch.cat([context, target], dim=1) - loc) / scale
    steps = _context_steps(network.sizes, target.shape[1]) + target.shape[1] - 1
    series = _aligned(_without_gaps(values[:, :-1]), network.sizes.max_lag + steps, 0.0)
    following = _aligned(values, steps, torch.nan)
    distribution: StudentT = model(network.tokens(series, static, _calendar(series)))
    # The first value has no predecessor and does not count, so left padding changes nothing.
    observed = ~following.isnan() & _aligned(_begun(values), steps, False)
    surprise = distribution.negative_log_likelihood(torch.where(observed, following, 0.0))
    total = torch.where(observed, surprise, 0.0).sum(dim=1)
    return total / observed.sum(dim=1).clamp(min=1)


def forecast_quantiles(
    network: LagLlamaNetwork,
    context: Tensor,
    loc: Tensor,
    scale: Tensor,
    horizon_steps: int,
    levels: Sequence[float],
) -> Tensor:
    """Sample paths and return their quantiles ``[B, H, Q]`` in the unit of `context`.

    The windows are processed in blocks, so that memory does not grow with their number.
    """
    length = network.sizes.max_lag + _context_steps(network.sizes, horizon_steps)
    series = _aligned(_without_gaps((context - loc) / scale), length, 0.0)
    at = series.new_tensor(list(levels))
    blocks = []
    at_once = max(1, _PATHS_AT_ONCE // SAMPLES)
    for start in range(0, len(series), at_once):
        rows = slice(start, start + at_once)
        static = static_features(loc[rows], scale[rows])
        paths = sample_paths(network, series[rows], static, horizon_steps, SAMPLES)
        blocks.append(paths.quantile(at, dim=1).movedim(0, 2))  # [b, H, Q]
    return torch.cat(blocks) * scale[:, :, None] + loc[:, :, None]


def sample_paths(
    network: LagLlamaNetwork, series: Tensor, static: Tensor, horizon_steps: int, samples: int
) -> Tensor:
    """Sample the steps after a series one by one, with each path's own draws among its lags.

    Args:
        network: without PEFT's wrapper; the adapter's layers inside it are applied.
        series: ``[B, max_lag + T]``, scaled values without gaps.
        static: ``[B, 2]``.
        horizon_steps: H.
        samples: S paths per window.

    Returns:
        ``[B, S, H]``, scaled.
    """
    points = _sample_points(samples, horizon_steps).to(series)  # [2, H, S]
    calendar = _calendar(series)
    distribution, caches = network.prefill(network.tokens(series, static, calendar), samples)
    distribution = StudentT(*(part[:, -1:] for part in distribution))  # [B, 1]
    paths = series.new_empty(len(series), samples, 0)
    for step in range(horizon_steps):
        drawn = _draw(distribution, points[:, step])
        paths = torch.cat([paths, drawn[:, :, None]], dim=2)
        if step + 1 < horizon_steps:
            lagged = _path_lags(series, paths, network.sizes.lags_seq)
            distribution, caches = network.step(network.join(lagged, static, calendar), caches)
    return paths


def _context_steps(sizes: LagLlamaSizes, horizon_steps: int) -> int:
    """Return the number of context tokens.

    Raises:
        BackboneError: the horizon does not fit behind them.
    """
    room = sizes.max_context_length - sizes.context_length
    if horizon_steps > room:
        raise BackboneError(
            f"this Lag-Llama forecasts at most {room} steps, got windows.horizon = {horizon_steps}"
        )
    return sizes.context_length


def _without_gaps(values: Tensor) -> Tensor:
    """Fill gaps of ``[B, T]`` with the last observed value, and with 0 (the median) before any."""
    observed = ~values.isnan()
    steps = torch.arange(values.shape[1], device=values.device)
    latest = torch.where(observed, steps, 0).cummax(dim=1).values
    # Before the first observed value `latest` points to step 0, which is NaN itself then.
    return values.gather(1, latest).nan_to_num(nan=0.0)


def _begun(values: Tensor) -> Tensor:
    """Return True for the steps of ``[B, T]`` with an observed step before them."""
    observed = ~values.isnan()
    return observed.cumsum(dim=1) > observed.long()


def _aligned(values: Tensor, length: int, fill: float) -> Tensor:
    """Return the last steps of ``[B, T]`` as ``[B, length]``, padded on the left."""
    return functional.pad(values, (length - values.shape[1], 0), value=fill)


def _calendar(like: Tensor) -> Tensor:
    return like.new_tensor(CALENDAR)


def _sample_points(samples: int, horizon_steps: int) -> Tensor:
    """Draw a Latin hypercube in (0, 1), ``[2, H, S]``: evenly spread along each axis.

    Quantiles of a few hundred evenly spread points are as stable as those of many more independent
    draws (McKay, Beckman and Conover, Technometrics 21, 1979).
    """
    generator = torch.Generator().manual_seed(SAMPLING_SEED)
    order, jitter = torch.rand(2, 2, horizon_steps, samples, generator=generator)
    points: Tensor = (order.argsort(dim=-1) + jitter) / samples
    return points.clamp(1e-6, 1 - 1e-6)


def _draw(distribution: StudentT, points: Tensor) -> Tensor:
    """Draw from Student's t, ``[B, S]``, with two uniform points for each of S samples.

    The polar method (Bailey, Math. Comp. 62, 1994) is exact for any degrees of freedom, with the
    same points.

    Args:
        distribution: parameters ``[B, S]`` or ``[B, 1]``.
        points: ``[2, S]``.
    """
    radius, turn = points
    df = distribution.df
    spread = (df * torch.expm1(-2.0 / df * radius.log())).sqrt()
    standard = torch.cos(2.0 * math.pi * turn) * spread
    drawn = distribution.loc + distribution.scale * standard
    return drawn.clamp(-_LARGEST_DRAW, _LARGEST_DRAW)


def _path_lags(series: Tensor, paths: Tensor, lags: Sequence[int]) -> Tensor:
    """Gather the lags of each path's newest step, ``[B, S, lags]``.

    Args:
        series: ``[B, T]``, before the paths.
        paths: ``[B, S, t]``, sampled so far.
        lags: in increasing order.
    """
    sampled = paths.shape[2]
    own = [sampled - 1 - lag for lag in lags if lag < sampled]
    before = [sampled - 1 - lag for lag in lags if lag >= sampled]  # -1 is the series' last step
    shared = series[:, None, before].expand(-1, paths.shape[1], -1)
    return torch.cat([paths[:, :, own], shared], dim=2)
