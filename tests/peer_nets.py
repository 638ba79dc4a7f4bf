# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""Small nets of other packages with weights that a seed draws, and pictures for them."""

import torch

from hf_autoencoders.hub.verification import seeded_weights


CHAMELEON = {
    "embed_dim": 6, "num_embeddings": 24, "latent_channels": 8, "resolution": 16, "base_channels": 32,
    "channel_multiplier": [1, 2], "num_res_blocks": 1, "attn_resolutions": [8],
}  # fmt: skip
JANUS = {name: value for name, value in CHAMELEON.items() if name not in ("resolution", "attn_resolutions")}


def drawn(net, seed=0):
    net.load_state_dict(seeded_weights({name: list(w.shape) for name, w in net.state_dict().items()}, seed))
    return net.eval()


def pictures(side=16, seed=1):
    return torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(seed)) * 2 - 1
