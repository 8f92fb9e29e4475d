"""Sampling of token paths from T5, independent of the batch.

transformers' ``generate`` copies the keys and values of a window's context for every path. Here all
paths of a window query the same ones: half the time, and memory that does not grow with paths times
context.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.nn import functional

_FLOATS_AT_ONCE = 2**24
"""Logits of the windows that are sampled together: 64 MB in float32."""

_Pairs = list[tuple[torch.Tensor, torch.Tensor]]
"""Keys and values of every layer of the decoder."""


def sample_tokens(
    model: Any, ids: torch.Tensor, mask: torch.Tensor, steps: int, samples: int, seed: int
) -> torch.Tensor:
    """Sample token paths at temperature 1 from all tokens but the end of the sequence.

    Every window uses the same random numbers, drawn on the CPU from `seed`: its paths depend
    neither on other windows, nor on the global random state, nor on the device. A token is chosen
    as in `torch.multinomial`, by the largest probability / Exp(1), here in logarithms, so that the
    paths are those of ``generate`` for one window after ``torch.manual_seed(seed)``.

    Args:
        model: `T5ForConditionalGeneration` on the device of `ids`, its projections with or without
            LoRA.
        ids: tokens of the contexts, ``[B, T]``.
        mask: attention mask of the contexts, ``[B, T]``, boolean.
        steps: tokens to sample, H.
        samples: paths per window, S.
        seed: seed of the random numbers.

    Returns:
        Tokens ``[B, S, H]``.
    """
    noise = -_exponentials(steps, samples, model.config.vocab_size, seed).log().to(ids.device)
    size = max(1, _FLOATS_AT_ONCE // noise[0].numel())
    blocks = zip(torch.split(ids, size), torch.split(mask, size), strict=True)
    return torch.cat([_sample(model, *block, noise) for block in blocks])


def _sample(model: Any, ids: torch.Tensor, mask: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
    states = model.encoder(input_ids=ids, attention_mask=mask).last_hidden_state  # [B, T, D]
    blocks = model.decoder.block
    context = [_keys_and_values(block.layer[1].EncDecAttention, states) for block in blocks]
    past: _Pairs = []
    # All paths of a window share the first step and diverge after the first token.
    token = torch.full((len(ids), 1), model.config.decoder_start_token_id, device=ids.device)
    path = []
    for gumbel in noise:
        logits, past = _next_logits(model, token, past, context, mask)  # [B, 1 or S, V]
        logits[..., model.config.eos_token_id] = -torch.inf
        token = (logits + gumbel).argmax(dim=-1)  # [B, S]
        path.append(token)
    return torch.stack(path, dim=2)


def _next_logits(
    model: Any, token: torch.Tensor, past: _Pairs, context: _Pairs, mask: torch.Tensor
) -> tuple[torch.Tensor, _Pairs]:
    """Decode one token of each path, ``[B, S]``: logits ``[B, S, V]``, `past` and one step more."""
    decoder = model.decoder
    hidden = decoder.dropout(decoder.embed_tokens(token))  # [B, S, D]
    step = past[0][0].shape[3] if past else 0
    # The first layer holds the biases of all: [1, heads, 1, steps so far].
    first = decoder.block[0].layer[0].SelfAttention
    bias = first.compute_bias(1, step + 1, past_seen_tokens=step)
    now: _Pairs = []
    for index, block in enumerate(decoder.block):
        own, across, feed_forward = block.layer
        query = own.layer_norm(hidden)[:, :, None]  # [B, S, 1, D]: each path attends to itself
        pair = _keys_and_values(own.SelfAttention, query)  # [B, S, heads, 1, d]
        now.append(_appended(past[index], pair) if step else pair)
        mixed = _attend(own.SelfAttention, query, now[index], bias)[:, :, 0]
        hidden = hidden + own.dropout(mixed)
        query = across.layer_norm(hidden)  # [B, S, D]: all paths attend to their window's context
        mixed = _attend(across.EncDecAttention, query, context[index], mask[:, None, None])
        hidden = hidden + across.dropout(mixed)
        hidden = feed_forward(hidden)
    hidden = decoder.dropout(decoder.final_layer_norm(hidden))
    if model.config.scale_decoder_outputs:
        hidden = hidden * model.model_dim**-0.5
    return model.lm_head(hidden).float(), now


def _attend(
    attention: Any,
    hidden: torch.Tensor,
    pair: tuple[torch.Tensor, torch.Tensor],
    mask: torch.Tensor,
) -> torch.Tensor:
    """Let `hidden` [..., queries, D] attend; T5 does not scale its scores."""
    query = _heads(attention, attention.q(hidden))
    mixed = functional.scaled_dot_product_attention(query, *pair, attn_mask=mask, scale=1.0)
    out: torch.Tensor = attention.o(mixed.transpose(-2, -3).flatten(-2))
    return out


def _keys_and_values(attention: Any, hidden: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return _heads(attention, attention.k(hidden)), _heads(attention, attention.v(hidden))


def _heads(attention: Any, projected: torch.Tensor) -> torch.Tensor:
    """Split ``[..., T, heads * d]`` into ``[..., heads, T, d]``."""
    shape = (*projected.shape[:-1], attention.n_heads, attention.key_value_proj_dim)
    return projected.view(shape).transpose(-2, -3)


def _appended(
    past: tuple[torch.Tensor, torch.Tensor], new: tuple[torch.Tensor, torch.Tensor]
) -> tuple[torch.Tensor, torch.Tensor]:
    samples = new[0].shape[1]
    keys, values = (
        torch.cat([before.expand(-1, samples, -1, -1, -1), now], dim=3)
        for before, now in zip(past, new, strict=True)
    )
    return keys, values


def _exponentials(steps: int, samples: int, tokens: int, seed: int) -> torch.Tensor:
    """Draw Exp(1) numbers [H, S, V], a step at a time as `torch.multinomial` would."""
    generator = torch.Generator().manual_seed(seed)
    drawn = [torch.empty(samples, tokens).exponential_(generator=generator) for _ in range(steps)]
    return torch.stack(drawn)
