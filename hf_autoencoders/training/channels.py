# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""A trained autoencoder for pictures of another number of channels: grey <-> colour, exact for grey pictures.

1 -> C   first layer: its weights C times, each divided by C     last layer: its weights C times
C -> 1   first layer: the sum of its weights over the channels   last layer: their mean

A grey picture, alone or as C equal channels, then has the same latents and the same reconstruction as before. The mean
of the last layer's outputs is the mean of the pictures only where a picture is the output itself (`mse`, `l1`).
"""

from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel


LINEAR_LIKELIHOODS = ("mse", "l1")  # whose mean picture is the decoder's output


def how_channels_change(config: PreTrainedConfig, channels: int) -> str | None:
    """The change in words; None if the number of channels stays.

    Args:
        config: of the trained model. channels: of the new one.

    Raises:
        ValueError: neither number is 1, or the likelihood's mean picture is not a linear map of the decoder's output.
    """
    before, loss = config.num_channels, config.reconstruction_loss
    if channels == before:
        return None
    if channels < 1 or 1 not in (before, channels):
        raise ValueError(
            f"--num_channels {channels}: the net of --init_from has {before}. One channel can become several, and "
            "several can become one; other changes would lose what it learned."
        )
    if channels > 1:
        return (
            f"1 channel becomes {channels}: the first layer's weights are repeated and divided by {channels}, the last "
            "layer's repeated"
        )
    if loss not in LINEAR_LIKELIHOODS:
        raise ValueError(
            f"--num_channels 1: the net of --init_from has {before} and reconstruction_loss {loss}, whose mean picture "
            "is not a linear map of the decoder's output, so its channels cannot be averaged; those of "
            f"{' and '.join(LINEAR_LIKELIHOODS)} can."
        )
    return f"{before} channels become 1: the first layer's weights are summed over them, the last layer's averaged"


def change_channels(model: PreTrainedModel, channels: int) -> dict[str, Tensor]:
    """The state dict of `model` for pictures of `channels`, as `how_channels_change` says; unchanged if they stay."""
    state, before = dict(model.state_dict()), model.config.num_channels
    if channels == before:
        return state
    names = {module: name for name, module in model.named_modules()}
    first, last = model.get_input_embeddings(), model.decoder.output_layer
    weight, share = f"{names[first]}.weight", before / channels  # a sum over equal channels stays what it was
    state[weight] = _of_channels(state[weight], 1, 1, before, channels) * share
    maps = model.config.decoder_out_channels // before  # of each channel, for the likelihood; they lie side by side
    for part in ("weight", "bias"):
        axis = 1 if part == "weight" and isinstance(last, nn.ConvTranspose2d) else 0
        name = f"{names[last]}.{part}"
        state[name] = _of_channels(state[name], axis, maps, before, channels)
    return state


def _of_channels(tensor: Tensor, axis: int, maps: int, before: int, channels: int) -> Tensor:
    """Axis of size maps * before * n -> maps * channels * n: the one channel repeated, or the mean of several.

    n: 1 of a convolution; of a linear map of all pixels their number.
    """
    apart = tensor.unflatten(axis, (maps, before, -1)).double()
    mean = apart.mean(axis + 1, keepdim=True)
    repeated = mean.repeat_interleave(channels, axis + 1)
    return repeated.flatten(axis, axis + 2).to(tensor.dtype)
