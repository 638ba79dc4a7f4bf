# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""What no config may hold, whatever the model: numbers that are none, and sizes that are typing mistakes."""

import math
from itertools import pairwise


# Far above what any model has; a larger number would hang or fill the memory before anything is said.
LARGEST = {
    "image_size": 2**15, "num_channels": 2**12, "layers_per_block": 2**10, "residual_channels": 2**14,
    "norm_num_groups": 2**14, "block_out_channels": 2**14, "hidden_sizes": 2**20, "attention_levels": 2**6,
    "latent_channels": 2**16, "encoder_channels": 2**16, "logits_channels": 2**16, "num_importance_samples": 2**16,
    "codebook_size": 2**24, "codebook_dim": 2**16, "num_quantizers": 2**8, "fsq_levels": 2**24,
}  # fmt: skip
MOST_ENTRIES = 32  # of a list: one for each level of a net
MOST_WEIGHTS = 2**36  # 275 GB in float32


def check_numbers(fields: dict) -> None:
    """Raises ValueError for NaN and infinity in any field, and for sizes beyond LARGEST."""
    for name, value in fields.items():
        values = value if isinstance(value, (list, tuple)) else [value]
        if any(isinstance(number, float) and not math.isfinite(number) for number in values):
            raise ValueError(f"`{name}` must be finite, got {value}.")
        if name in LARGEST:
            if len(values) > MOST_ENTRIES:
                raise ValueError(f"`{name}` must have at most {MOST_ENTRIES} entries, got {len(values)}.")
            if any(number is not None and number > LARGEST[name] for number in values):
                raise ValueError(f"`{name}` must be at most {LARGEST[name]}, got {value}.")


def check_weight_count(config) -> None:
    """Raises ValueError where encoder and decoder of a config would have far more weights than a machine can hold."""
    if config.backbone == "mlp":
        widths = [config.num_channels * config.height * config.width, *config.hidden_sizes]
        weights = 2 * sum(a * b for a, b in pairwise(widths))
        fields = "image_size, num_channels, hidden_sizes"
    else:  # two 3x3 convolutions in a block
        weights = 2 * 18 * max(1, config.layers_per_block) * sum(width**2 for width in config.block_out_channels)
        fields = "block_out_channels, layers_per_block"
    if weights > MOST_WEIGHTS:
        raise ValueError(f"Encoder and decoder would have about {weights:.0e} weights: make {fields} smaller.")
