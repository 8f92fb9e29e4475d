from __future__ import annotations

import torch
from transformers import T5Config, T5ForConditionalGeneration

from common.backbones.chronos.token_sampling import sample_tokens

END = 1


def tiny() -> torch.nn.Module:
    config = T5Config(
        d_model=16,
        d_kv=8,
        d_ff=16,
        num_layers=1,
        num_heads=2,
        vocab_size=12,
        pad_token_id=0,
        eos_token_id=END,
    )
    config.decoder_start_token_id = 0
    torch.manual_seed(3)
    model: torch.nn.Module = T5ForConditionalGeneration(config)
    return model.eval()


@torch.no_grad()
def test_paths_follow_the_networks_own_distribution() -> None:
    model, samples = tiny(), 20_000
    ids = torch.tensor([[5, 3, 9, END]])
    mask = torch.ones_like(ids, dtype=torch.bool)
    paths = sample_tokens(model, ids, mask, 2, samples, seed=0)[0]  # [S, 2]

    def probabilities(begun: list[int]) -> torch.Tensor:
        # All at once, without a cache.
        given = torch.tensor([[0, *begun]])
        logits = model(
            input_ids=ids, attention_mask=mask, decoder_input_ids=given, use_cache=False
        ).logits[0, -1]
        logits[END] = -torch.inf
        return torch.softmax(logits, dim=0)

    first = probabilities([])
    found = torch.bincount(paths[:, 0], minlength=12) / samples
    torch.testing.assert_close(found, first, atol=0.015, rtol=0)
    assert found[END] == 0
    begin = int(first[1:].argmax()) + 1  # not the token that every path starts from
    after = paths[paths[:, 0] == begin, 1]
    found = torch.bincount(after, minlength=12) / len(after)
    expected = probabilities([begin])
    torch.testing.assert_close(found, expected, atol=0.03, rtol=0)
    assert (expected - first).abs().max() > 0.06  # the second token does depend on the first


@torch.no_grad()
def test_the_seed_decides_the_paths() -> None:
    ids = torch.tensor([[5, 3, 9, END], [4, 4, 4, END]])
    mask = torch.ones_like(ids, dtype=torch.bool)
    model = tiny()
    once, again, other = (sample_tokens(model, ids, mask, 3, 50, seed) for seed in (0, 0, 1))
    assert once.shape == (2, 50, 3)
    assert torch.equal(once, again)
    assert not torch.equal(once, other)
