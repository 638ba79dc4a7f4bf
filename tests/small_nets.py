# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""Small models of all kinds, and pictures for them."""

import torch
from torch import nn

from hf_autoencoders import (
    AEConfig,
    AEModel,
    AutoencoderImageProcessorPil,
    DVAEConfig,
    DVAEModel,
    VAEConfig,
    VAEModel,
    VQVAEConfig,
    VQVAEModel,
)


CLASSES = {
    "ae": (AEConfig, AEModel),
    "vae": (VAEConfig, VAEModel),
    "vqvae": (VQVAEConfig, VQVAEModel),
    "dvae": (DVAEConfig, DVAEModel),
}
SMALL = {
    "image_size": 8,
    "num_channels": 1,
    "block_out_channels": [8, 16],
    "layers_per_block": 1,
    "residual_channels": 8,
    "norm_num_groups": 4,
    "hidden_sizes": [32, 16],
}
CODES = {"codebook_size": 16, "codebook_dim": 8}
NETS = {
    "ae-mlp": ("ae", {"backbone": "mlp"}),
    "ae-conv": ("ae", {"learned_variance": True}),
    "vae-resnet": ("vae", {"backbone": "resnet", "attention_levels": [1], "learned_variance": False}),
    "vqvae-vq": ("vqvae", {"quantizer": "vq", "codebook_init": "data", "revive_dead_codes": True}),
    "vqvae-ema": ("vqvae", {"quantizer": "ema"}),
    "vqvae-simvq": ("vqvae", {"quantizer": "simvq"}),
    "vqvae-fsq": ("vqvae", {"quantizer": "fsq"}),
    "vqvae-residual": ("vqvae", {"quantizer": "residual"}),
    "dvae-dalle": ("dvae", {}),
}


def make(net: str, **overrides) -> nn.Module:
    """A net of NETS, or one of the four kinds as its config is by default."""
    kind, fields = NETS.get(net, (net, {}))
    config_class, model_class = CLASSES[kind]
    torch.manual_seed(0)
    return model_class(config_class(**{**SMALL, **(CODES if "vae" != kind != "ae" else {}), **fields, **overrides}))


def trained(net: str, **overrides) -> nn.Module:
    """The same, in eval mode, its codebook having seen data."""
    model = make(net, **overrides)
    model(images())
    return model.eval()


def save_image_model(folder, build, seed: int = 0, decoder_seed: int | None = None):
    """Saves `build()`, a model of grey 8x8 pictures, with its processor; returns `folder`.

    `decoder_seed`: of a decoder with other weights in place of its own.
    """
    torch.manual_seed(seed)
    model = build()
    if decoder_seed is not None:
        torch.manual_seed(decoder_seed)
        model.decoder = type(model)(model.config).decoder
    model.save_pretrained(folder)
    AutoencoderImageProcessorPil(num_channels=1, size={"height": 8, "width": 8}).save_pretrained(folder)
    return folder


def images(batch: int = 8, height: int = 8, width: int = 8, seed: int = 0):
    return 2 * torch.rand(batch, 1, height, width, generator=torch.Generator().manual_seed(seed)) - 1
