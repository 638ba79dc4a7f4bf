# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""Every kind of prior refuses the same knobs of drawing, in one line, before it computes anything."""

import math

import pytest
import torch

from hf_autoencoders import VQVAEConfig, VQVAEModel
from hf_autoencoders.models.modeling_image_token_lm import ImageTokenLM
from hf_autoencoders.priors.autoregressive import build_prior, generate_images
from hf_autoencoders.priors.latent_diffusion import build_scheduler, build_unet
from hf_autoencoders.priors.latent_diffusion import generate_images as diffuse
from hf_autoencoders.priors.sequences import ImageTokenSequencer


SMALL = {"image_size": 8, "num_channels": 1, "block_out_channels": [8, 8, 8], "residual_channels": 8}
PRIORS = ["llama", "gpt2", "pixelcnn", "masked"]
WRONG_EVERYWHERE = [
    ({"guidance_scale": math.nan}, "`guidance_scale` must be a finite number, got nan"),
    ({"guidance_scale": math.inf}, "`guidance_scale` must be a finite number, got inf"),
    ({"labels": None, "num_images": 10**12}, "`num_images` must be a whole number in 1..1048576, got 1000000000000"),
    ({"labels": None, "num_images": 0}, "`num_images` must be a whole number in 1..1048576, got 0"),
    ({"labels": None, "num_images": 2.5}, "`num_images` must be a whole number in 1..1048576, got 2.5"),
    ({"labels": [1.5]}, "`labels` must be a list of class numbers, got torch.float32"),
    ({"labels": ["cat"]}, "`labels` must be a list of class numbers, got"),
    ({"labels": [3]}, "Labels must lie in 0..2"),
]
WRONG_OF_CODES = [
    ({"temperature": -1.0}, "`temperature` must be a finite number above 0, got -1.0"),
    ({"temperature": 0}, "`temperature` must be a finite number above 0, got 0"),
    ({"temperature": math.nan}, "`temperature` must be a finite number above 0, got nan"),
    ({"temperature": math.inf}, "`temperature` must be a finite number above 0, got inf"),
    ({"temperature": "warm"}, "`temperature` must be a finite number above 0, got 'warm'"),
    ({"top_p": 0.0}, "`top_p` must lie in (0, 1], got 0.0"),
    ({"top_p": 1.5}, "`top_p` must lie in (0, 1], got 1.5"),
    ({"top_p": math.nan}, "`top_p` must lie in (0, 1], got nan"),
    ({"top_k": -1}, "`top_k` must be a whole number, 0 for all codes, got -1"),
    ({"top_k": 2.5}, "`top_k` must be a whole number, 0 for all codes, got 2.5"),
]
ONLY = {
    "masked": [
        ({"choice_temperature": math.nan}, "`choice_temperature` must be a finite number of at least 0, got nan"),
        ({"steps": 2.5}, "`steps` must lie in 1..4, the number of codes of a picture, got 2.5"),
    ],
    "diffusion": [
        ({"num_inference_steps": 0}, "`num_inference_steps` must lie in 1..1000, got 0"),
        ({"num_inference_steps": 10**12}, "`num_inference_steps` must lie in 1..1000, got 1000000000000"),
    ],
}


@pytest.fixture(scope="module")
def vqvae():
    torch.manual_seed(0)
    return VQVAEModel(VQVAEConfig(**SMALL, codebook_size=16, codebook_dim=4, quantizer="vq")).eval()


def drawer(kind: str, vqvae):
    """What draws pictures from keyword arguments."""
    if kind == "diffusion":
        unet, scheduler = build_unet(4, (2, 2), num_classes=3, block_out_channels=[8]), build_scheduler()
        return lambda **knobs: diffuse(unet, scheduler, vqvae, **{"num_inference_steps": 1, **knobs})
    sequencer = ImageTokenSequencer.for_model(vqvae, num_classes=3, class_dropout=0.1)
    prior = build_prior(sequencer, "llama" if kind == "both in one" else kind, hidden_size=16, num_layers=1)
    if kind == "both in one":
        return ImageTokenLM.from_parts(vqvae, prior, num_classes=3, class_dropout=0.1).generate_images
    return lambda **knobs: generate_images(prior, vqvae, **knobs)


@pytest.mark.parametrize("kind", [*PRIORS, "both in one", "diffusion"])
def test_every_prior_refuses_the_same_knobs(kind, vqvae):
    draw = drawer(kind, vqvae)
    wrong = WRONG_EVERYWHERE + ([] if kind == "diffusion" else WRONG_OF_CODES) + ONLY.get(kind, [])
    for knobs, says in wrong:
        with pytest.raises(ValueError) as caught:
            draw(**{"labels": [1], **knobs})
        assert says in str(caught.value) and "\n" not in str(caught.value), knobs


@pytest.mark.parametrize("kind", [*PRIORS, "both in one"])
def test_knobs_at_the_edge_are_taken(kind, vqvae):
    draw = drawer(kind, vqvae)
    for knobs in ({"top_p": 1, "top_k": 16}, {"top_p": 1e-9, "temperature": 1e-3}, {"guidance_scale": -1.5}):
        assert draw(**{"labels": [1, 2], **knobs}).isfinite().all()
