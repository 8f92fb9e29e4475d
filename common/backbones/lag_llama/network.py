"""Lag-Llama's network: a causal transformer over lagged values, with a Student-t head.

Implemented from the paper (Rasul et al., "Lag-Llama: Towards Foundation Models for Probabilistic
Time Series Forecasting", arXiv 2310.08278). Every step of a series is one token of the values at
fixed lags, the logarithms of the window's location and scale, and six calendar features. The blocks
are those of Llama (pre-norm with RMS norm, rotary positions, SiLU-gated feed-forward). Parameters
have the names of the published checkpoint.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from common.backbones.lag_llama.sizes import TIME_FEATURES, LagLlamaSizes

_NORM_EPSILON = 1e-5
_ROTARY_BASE = 10_000.0
_HIDDEN_MULTIPLE = 256


class StudentT(NamedTuple):
    """Parameters of Student's t in units of the window's scale, ``[B, T]`` each."""

    df: Tensor
    loc: Tensor
    scale: Tensor

    def negative_log_likelihood(self, value: Tensor) -> Tensor:
        """Return the negative log-density at values of the same shape."""
        z = (value - self.loc) / self.scale
        half = self.df / 2
        return (
            torch.lgamma(half)
            - torch.lgamma(half + 0.5)
            + 0.5 * torch.log(self.df * torch.pi)
            + torch.log(self.scale)
            + (half + 0.5) * torch.log1p(z**2 / self.df)
        )


class RMSNorm(nn.Module):
    """RMS normalisation (Zhang and Sennrich, arXiv 1910.07467)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise the last axis."""
        return self.scale * x * torch.rsqrt(x.square().mean(dim=-1, keepdim=True) + _NORM_EPSILON)


class Cache(NamedTuple):
    """Keys and values of one block: of the context, and of each sample's own steps.

    The samples of a window share its context, which is stored once.

    Attributes:
        shared_key: ``[B, heads, T, head]``.
        shared_value: likewise.
        own_key: ``[B, heads, S, t, head]``; t steps of each of S samples.
        own_value: likewise.
    """

    shared_key: Tensor
    shared_value: Tensor
    own_key: Tensor
    own_value: Tensor


class CausalSelfAttention(nn.Module):
    """Self-attention over earlier tokens, with rotary positions (Su et al., arXiv 2104.09864)."""

    def __init__(self, sizes: LagLlamaSizes) -> None:
        super().__init__()
        width = sizes.width
        self.q_proj = nn.Linear(width, width, bias=False)
        self.kv_proj = nn.Linear(width, 2 * width, bias=False)
        self.c_proj = nn.Linear(width, width, bias=False)
        self.n_head = sizes.n_head

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Attend within ``x [B, T, width]``; also return key and value ``[B, heads, T, head]``."""
        query, key, value = self._project(x, first=0)
        mixed = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        return self.c_proj(mixed.transpose(1, 2).flatten(2)), key, value

    def step(self, x: Tensor, cache: Cache) -> tuple[Tensor, Cache]:
        """Attend from the next token of each sample, ``x [B, S, width]``."""
        first = cache.shared_key.shape[2] + cache.own_key.shape[3]
        # The samples are on the axis of the tokens, but all have the same position.
        query, key, value = self._project(x, first, moving=False)  # [B, heads, S, head]
        own_key = torch.cat([cache.own_key, key[:, :, :, None]], dim=3)
        own_value = torch.cat([cache.own_value, value[:, :, :, None]], dim=3)
        query = query * query.shape[-1] ** -0.5
        shared = query @ cache.shared_key.transpose(2, 3)  # [B, heads, S, T]
        own = (own_key @ query[..., None]).squeeze(-1)  # [B, heads, S, t]
        weights = torch.cat([shared, own], dim=-1).softmax(dim=-1)
        steps = shared.shape[-1]
        shared, own = weights[..., :steps], weights[..., steps:]
        mixed = shared @ cache.shared_value + (own[:, :, :, None] @ own_value).squeeze(3)
        cache = cache._replace(own_key=own_key, own_value=own_value)
        return self.c_proj(mixed.transpose(1, 2).flatten(2)), cache

    def _project(self, x: Tensor, first: int, moving: bool = True) -> tuple[Tensor, Tensor, Tensor]:
        """Project and rotate; positions start at `first` and increase along axis 1 if `moving`."""
        key, value = self.kv_proj(x).chunk(2, dim=-1)
        query, key, value = (
            part.unflatten(-1, (self.n_head, -1)).transpose(1, 2)
            for part in (self.q_proj(x), key, value)
        )  # [B, heads, T, head]
        position = torch.arange(x.shape[1] if moving else 1, device=x.device) + first
        return _rotate(query, position), _rotate(key, position), value


def _rotate(x: Tensor, position: Tensor) -> Tensor:
    """Rotate the pairs (i, i + head / 2) of ``x [..., T, head]``, in proportion to position.

    Args:
        x: queries or keys.
        position: ``[T]``, or ``[1]`` for one position for all.
    """
    half = x.shape[-1] // 2
    exponent = torch.arange(half, device=x.device, dtype=torch.float32) / half
    angle = position[:, None] * _ROTARY_BASE**-exponent  # [T, head / 2]
    cosine, sine = angle.cos(), angle.sin()
    low, high = x[..., :half], x[..., half:]
    return torch.cat([low * cosine - high * sine, high * cosine + low * sine], dim=-1)


class FeedForward(nn.Module):
    """A SiLU-gated feed-forward layer (Shazeer, arXiv 2002.05202)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        hidden = -(-int(8 * width / 3) // _HIDDEN_MULTIPLE) * _HIDDEN_MULTIPLE
        self.c_fc1 = nn.Linear(width, hidden, bias=False)
        self.c_fc2 = nn.Linear(width, hidden, bias=False)
        self.c_proj = nn.Linear(hidden, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Apply to the last axis."""
        result: Tensor = self.c_proj(functional.silu(self.c_fc1(x)) * self.c_fc2(x))
        return result


class Block(nn.Module):
    """One layer: attention and feed-forward, each pre-normed and with a residual connection."""

    def __init__(self, sizes: LagLlamaSizes) -> None:
        super().__init__()
        self.rms_1 = RMSNorm(sizes.width)
        self.attn = CausalSelfAttention(sizes)
        self.rms_2 = RMSNorm(sizes.width)
        self.mlp = FeedForward(sizes.width)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Map ``[B, T, width]`` to itself; also return the attention's keys and values."""
        attended, key, value = self.attn(self.rms_1(x))
        x = x + attended
        return x + self.mlp(self.rms_2(x)), key, value

    def step(self, x: Tensor, cache: Cache) -> tuple[Tensor, Cache]:
        """Map the next token of each sample, ``[B, S, width]``, to itself."""
        attended, cache = self.attn.step(self.rms_1(x), cache)
        x = x + attended
        return x + self.mlp(self.rms_2(x)), cache


class StudentTHead(nn.Module):
    """One linear map per parameter of the distribution, in the checkpoint's order."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.proj = nn.ModuleList(nn.Linear(width, 1) for _ in StudentT._fields)

    def forward(self, x: Tensor) -> StudentT:
        """Map ``[B, T, width]`` to a distribution for each token."""
        df, loc, scale = (linear(x).squeeze(-1) for linear in self.proj)
        smallest = torch.finfo(scale.dtype).eps
        return StudentT(
            2.0 + functional.softplus(df), loc, functional.softplus(scale).clamp(min=smallest)
        )


class LagLlamaNetwork(nn.Module):
    """The whole network; the output of a token is the distribution of the next step."""

    def __init__(self, sizes: LagLlamaSizes) -> None:
        super().__init__()
        self.sizes = sizes
        self.param_proj = StudentTHead(sizes.width)
        self.transformer = nn.ModuleDict(
            {
                "wte": nn.Linear(sizes.feature_size, sizes.width),
                "h": nn.ModuleList(Block(sizes) for _ in range(sizes.n_layer)),
                "ln_f": RMSNorm(sizes.width),
            }
        )

    def tokens(self, series: Tensor, static: Tensor, time: Tensor) -> Tensor:
        """Gather the features of the tokens.

        Args:
            series: ``[B, max_lag + T]``, scaled values without gaps.
            static: ``[B, 2]``, see `static_features`.
            time: calendar features, ``[B, T, 6]`` or anything that expands to it.

        Returns:
            ``[B, T, feature_size]``.
        """
        lags = torch.tensor(self.sizes.lags_seq, device=series.device)
        steps = torch.arange(self.sizes.max_lag, series.shape[1], device=series.device)
        lagged = series[:, steps[:, None] - lags]  # [B, T, lags]
        return self.join(lagged, static, time)

    def join(self, lagged: Tensor, static: Tensor, time: Tensor) -> Tensor:
        """Concatenate the parts of tokens: ``[B, T, lags]`` becomes ``[B, T, feature_size]``."""
        batch, steps = lagged.shape[:2]
        parts = [lagged, static[:, None].expand(batch, steps, -1)]
        if self.sizes.time_feat:
            parts.append(time.expand(batch, steps, TIME_FEATURES))
        return torch.cat(parts, dim=-1)

    def forward(self, tokens: Tensor) -> StudentT:
        """Map tokens ``[B, T, feature_size]`` to the distribution of the next step of each."""
        x = self.transformer["wte"](tokens)
        for block in self._blocks():
            x, _, _ = block(x)
        return self._distribution(x)

    def prefill(self, tokens: Tensor, samples: int) -> tuple[StudentT, list[Cache]]:
        """As `forward`, and keep keys and values for `step` with this many samples per window."""
        x = self.transformer["wte"](tokens)
        caches = []
        for block in self._blocks():
            x, key, value = block(x)
            batch, heads, _, head = key.shape
            empty = key.new_empty(batch, heads, samples, 0, head)
            caches.append(Cache(key, value, empty, empty))
        return self._distribution(x), caches

    def step(self, tokens: Tensor, caches: list[Cache]) -> tuple[StudentT, list[Cache]]:
        """Map each sample's next token, ``[B, S, feature_size]``; parameters are ``[B, S]``."""
        x = self.transformer["wte"](tokens)
        grown = []
        for block, cache in zip(self._blocks(), caches, strict=True):
            x, cache = block.step(x, cache)
            grown.append(cache)
        return self._distribution(x), grown

    def _blocks(self) -> list[Block]:
        blocks: Any = self.transformer["h"]
        return list(blocks)

    def _distribution(self, x: Tensor) -> StudentT:
        distribution: StudentT = self.param_proj(self.transformer["ln_f"](x))
        return distribution


def static_features(loc: Tensor, scale: Tensor) -> Tensor:
    """Return log(1 + abs(loc)) and log(scale), ``[B, 2]``, of ``loc, scale [B, 1]``."""
    return torch.cat([loc.abs().log1p(), scale.log()], dim=-1)
