# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""Rows on what a trained model is asked: drawing codes from a prior, and the likelihood of a picture."""

import argparse
from collections.abc import Callable

import torch
from measure import Case, installed, interleaved

from hf_autoencoders import VAEConfig, VAEModel
from hf_autoencoders.evaluation.likelihood import importance_bound
from hf_autoencoders.models.image_token_ids import generate_ids
from hf_autoencoders.priors.autoregressive import build_prior, generate_image_tokens
from hf_autoencoders.priors.drawing import draw_codes
from hf_autoencoders.priors.prior_task import PriorInTraining
from hf_autoencoders.priors.sequences import ImageTokenSequencer


CODES = 128


@torch.no_grad()
def full_passes(prior, sequencer: ImageTokenSequencer, num_images: int) -> None:
    """Our PixelCNN drawn as it is defined: a pass over the whole picture for each code."""
    codes = torch.zeros(num_images, sequencer.ids.num_tokens, dtype=torch.int64)
    ids = torch.cat([sequencer.prompt(num_images=num_images), codes], dim=1)
    for position in range(sequencer.ids.num_tokens):
        ids[:, 1 + position] = draw_codes(prior(ids).logits[:, position])


def sampling(given: argparse.Namespace) -> list[Case]:
    """Codes of 64 pictures; each prior is trained for as many steps on the same codes: the values of scikit-learn's
    digits, 8 x 8, and their upper left 7 x 7. Ours: a PixelCNN of 5 layers and 32 maps, which are enough for a better
    likelihood than that of pythae's default; the others have the sizes of docs/priors.md."""
    count, sides = (2, (2,)) if given.tiny else (64, (7, 8))
    return [sampling_case(given, side, count) for side in sides]


def sampling_case(given: argparse.Namespace, side: int, count: int) -> Case:
    sequencer = ImageTokenSequencer(CODES, (side, side))
    train, held_out = digits_codes(side)
    sizes = {
        "ours": ("pixelcnn", 32, 5),
        "llama": ("llama", 128, 3),
        "larger PixelCNN": ("pixelcnn", 48, 10),
        "masked": ("masked", 128, 3),
    }
    torch.manual_seed(0)
    priors = {name: build_prior(sequencer, *size) for name, size in sizes.items()}
    peer = pythae_sampler(side)
    steps, nats = 2 if given.tiny else given.prior_steps, {}
    for name, prior in priors.items():
        nats[name] = nats_of(PriorInTraining(prior, sequencer), our_batch(sequencer), train, held_out, steps)
    if peer is not None:
        nats["pythae"] = nats_of(peer.pixelcnn_model, their_batch, train, held_out, steps)
        peer.is_fitted = True
    ours, llama, larger, masked = priors.values()
    ways = {
        "ours": lambda: generate_image_tokens(ours, num_images=count),
        "ours, a full pass a code": lambda: full_passes(ours, sequencer, count),
        "our larger PixelCNN": lambda: generate_image_tokens(larger, num_images=count),
        "our Llama": lambda: generate_image_tokens(llama, num_images=count),
        "our Llama without cache": lambda: generate_ids(llama, sequencer.ids, num_images=count, use_cache=False),
        "our masked prior, 8 passes": lambda: generate_image_tokens(masked, num_images=count),
        "pythae PixelCNNSampler": None if peer is None else torch.no_grad()(lambda: peer.sample(count, count)),
    }
    case = Case(f"{count} pictures of {side} x {side} codes", interleaved(ways, min(given.rounds, 3)))
    case.claim("as fast as pythae's PixelCNN", case.ratio("pythae PixelCNNSampler"), ">=", 20.0)
    if peer is not None:
        worse = nats["ours"] - nats["pythae"]
        case.claim(f"nats a held-out picture more than pythae's, after {steps} steps", worse, "<=", 0.0, " nats")
    told = ", ".join(f"{name} {value:.1f}" for name, value in nats.items())
    case.notes.append(f"Nats of a held-out picture after {steps} steps of 64 pictures: {told} (masked: a bound).")
    return case


def digits_codes(side: int) -> tuple[torch.Tensor, torch.Tensor]:
    """(N, side, side) int64 in 0..16, to train on and held out."""
    from sklearn.datasets import load_digits

    codes = torch.from_numpy(load_digits().images).long()[:, :side, :side]
    codes = codes[torch.randperm(len(codes), generator=torch.Generator().manual_seed(0))]
    return codes[:1500], codes[1500:]


def nats_of(net: torch.nn.Module, as_batch: Callable, train: torch.Tensor, held_out: torch.Tensor, steps: int) -> float:
    """Nats of a held-out picture, -ln p, after training. `net(**as_batch(codes)).loss` is a mean over codes."""
    generator = torch.Generator().manual_seed(0)
    optimizer = torch.optim.Adam(net.train().parameters(), lr=1e-3)
    for _ in range(steps):
        codes = train[torch.randint(len(train), (64,), generator=generator)]
        net(**as_batch(codes)).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    with torch.no_grad():
        return net.eval()(**as_batch(held_out)).loss.item() * held_out[0].numel()


def our_batch(sequencer: ImageTokenSequencer) -> Callable:
    return lambda codes: {**sequencer(codes)}


def their_batch(codes: torch.Tensor) -> dict:
    return {"inputs": {"data": codes[:, None].float()}}


def pythae_sampler(side: int):
    """pythae's sampler with its default PixelCNN; its decoder, one pass for all pictures, is as small as can be."""
    if not installed("pythae"):
        return None
    from pythae.models import VQVAE, VQVAEConfig
    from pythae.models.base.base_utils import ModelOutput
    from pythae.models.nn import BaseDecoder, BaseEncoder
    from pythae.samplers import PixelCNNSampler

    class Encoder(BaseEncoder):
        def __init__(self):
            BaseEncoder.__init__(self)
            self.layer = torch.nn.Conv2d(1, 8, 1)

        def forward(self, x):
            return ModelOutput(embedding=self.layer(x))

    class Decoder(BaseDecoder):
        def __init__(self):
            BaseDecoder.__init__(self)
            self.layer = torch.nn.Conv2d(8, 1, 1)

        def forward(self, z):
            return ModelOutput(reconstruction=self.layer(z))

    config = VQVAEConfig(input_dim=(1, side, side), latent_dim=8, num_embeddings=CODES)
    return PixelCNNSampler(VQVAE(config, encoder=Encoder(), decoder=Decoder()))


@torch.no_grad()
def likelihood(given: argparse.Namespace) -> list[Case]:
    """L_5000 of a VAE 784-512-16, the same weights in pythae, batches of 1,000 rows in both; CPU time of a picture."""
    count, draws = (2, 100) if given.tiny else (given.likelihood_pictures, 5000)
    torch.manual_seed(0)
    config = VAEConfig(
        image_size=28, num_channels=1, backbone="mlp", hidden_sizes=[512], latent_channels=16, reconstruction_loss="bce"
    )
    model, pixels = VAEModel(config).eval(), (torch.rand(count, 1, 28, 28) < 0.25).float() * 2 - 1
    ways = {
        "ours": lambda: importance_bound(model, pixels, draws),
        "pythae get_nll": pythae_likelihood(model, pixels, draws),
    }
    case = Case(f"{count} pictures, {draws} draws each", interleaved(ways, min(given.rounds, 3), warm_up=0))
    case.claim("as fast as pythae", case.ratio("pythae get_nll"), ">=", 10.0)
    if ways["pythae get_nll"]:
        apart = abs(ways["ours"]().mean().item() - ways["pythae get_nll"]())
        case.claim("nats between both figures, whose draws differ", apart, "<=", 1.0, " nats")
    per_picture = case.timings["ours"].median / count
    case.notes.append(f"{per_picture:.1f} CPU ms a picture: 10,000 pictures take {per_picture / 6:.1f} CPU minutes.")
    return [case]


def pythae_likelihood(model, pixels: torch.Tensor, draws: int) -> Callable | None:
    if not installed("pythae"):
        return None
    from pythae.models import VAE
    from pythae.models import VAEConfig as TheirConfig

    peer = VAE(TheirConfig(input_dim=(1, 28, 28), latent_dim=16, reconstruction_loss="bce")).eval()
    encoder, decoder = model.encoder, model.decoder
    halves = zip(encoder.out.weight.chunk(2), encoder.out.bias.chunk(2), strict=True)  # mean, logarithm of the variance
    for theirs, (weight, bias) in zip((peer.encoder.embedding, peer.encoder.log_var), halves, strict=True):
        theirs.load_state_dict({"weight": weight, "bias": bias})
    peer.encoder.layers[0][0].load_state_dict(encoder.layers[0].linear.state_dict())
    peer.decoder.layers[0][0].load_state_dict(decoder.layers[0].linear.state_dict())
    peer.decoder.layers[1][0].load_state_dict(decoder.out.state_dict())
    return lambda: peer.get_nll((pixels + 1) / 2, n_samples=draws, batch_size=min(draws, 1000))
