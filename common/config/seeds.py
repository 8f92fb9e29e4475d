"""Derivation of random seeds from the run's seed and their purpose."""

from __future__ import annotations

from hashlib import blake2b


def derive_seed(*parts: int | str) -> int:
    """Return a 63-bit seed derived from parts such as run seed, site and round.

    Different parts give unrelated seeds; the same parts give the same seed on every machine.
    """
    text = "\x1f".join(f"{type(part).__name__}:{part}" for part in parts)
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big") >> 1
