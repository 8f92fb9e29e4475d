from __future__ import annotations

from common.config.seeds import derive_seed


def test_parts_and_their_order_matter() -> None:
    seeds = {
        derive_seed(0, "micu", 1),
        derive_seed(0, "micu", 2),
        derive_seed(1, "micu", 1),
        derive_seed(0, "ccu", 1),
        derive_seed(1, "micu", 0),
        derive_seed("0", "micu", 1),
        derive_seed("0micu", 1),
    }
    assert len(seeds) == 7


def test_the_same_everywhere_and_always() -> None:
    assert derive_seed(0, "micu", 1) == derive_seed(0, "micu", 1)
    assert 0 <= derive_seed(0) < 2**63
