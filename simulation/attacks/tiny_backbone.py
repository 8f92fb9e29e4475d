"""A tiny Chronos-Bolt with random weights: a few milliseconds per training step."""

from __future__ import annotations

from pathlib import Path

_CHRONOS_CONFIG = {
    "context_length": 48,
    "prediction_length": 12,
    "input_patch_size": 4,
    "input_patch_stride": 4,
    "quantiles": [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9],
    "use_reg_token": True,
}


def make_tiny_backbone(folder: Path, seed: int) -> Path:
    """Write the model into a folder, in the published layout, and return the folder."""
    import torch
    from chronos.chronos_bolt import ChronosBoltModelForForecasting
    from transformers import T5Config
    from transformers.utils import logging

    config = T5Config(
        d_model=16,
        d_kv=8,
        d_ff=32,
        num_layers=1,
        num_decoder_layers=1,
        num_heads=2,
        initializer_factor=0.3,
        feed_forward_proj="relu",
        vocab_size=2,
        pad_token_id=0,
    )
    config.decoder_start_token_id = 0
    config.chronos_pipeline_class = "ChronosBoltPipeline"
    config.chronos_config = _CHRONOS_CONFIG
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        ChronosBoltModelForForecasting(config).save_pretrained(folder)
    return folder
