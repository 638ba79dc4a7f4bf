# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""Our models behind the method names that other projects call. Their return types contradict each other, so each has
its own thin wrapper::

    | wrapper                    | for code written for                              | pixels  |
    |----------------------------|---------------------------------------------------|---------|
    | `as_taming(model)`         | taming-transformers, LlamaGen, SEED-Voken's IBQ   | [-1, 1] |
    | `as_muse(model)`           | open-muse                                         | [0, 1]  |
    | `as_maskgit(model)`        | MaskGIT (JAX names), 1d-tokenizer's RAR           | [0, 1]  |
    | `as_mar(vae)`              | MAR                                               | [-1, 1] |
    | `as_dalle(model, base)`    | DALLE-pytorch                                     | [0, 1]  |
    | `as_janus(model)`          | transformers' Janus (`model.vqmodel`)             | [-1, 1] |
    | `as_chameleon(model)`      | transformers' Chameleon (`model.model.vqmodel`)   | [-1, 1] |
    | `beit_labels(model, ...)`  | transformers' BEiT: a function, its labels        | [-1, 1] |

A wrapper is an nn.Module that holds the model as `.model`: it moves between devices and freezes with it.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers.utils import ModelOutput


MAR_SCALE = 0.2325  # MAR multiplies latents by it: 1 / standard deviation of the latents of its own VAE


def to_unit_range(pixels: Tensor) -> Tensor:
    """[-1, 1] -> [0, 1], clamped as pictures are."""
    return ((pixels + 1) / 2).clamp(0, 1)


def from_unit_range(pixels: Tensor) -> Tensor:
    """[0, 1] -> [-1, 1]"""
    return pixels * 2 - 1


class Wrapper(nn.Module):
    """Holds the model; a subclass adds another project's methods."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model
        self.config = model.config

    def as_grid(self, codes: Tensor) -> Tensor:
        """Codes in any shape, of square or `grid_size` pictures, -> (B, h, w)."""
        height, width = self.model.grid_size
        if codes.dim() == 2 and codes.shape[1] != height * width:
            height = width = math.isqrt(codes.shape[1])
        count = height * width
        if not (codes.shape[1] == count if codes.dim() == 2 else codes.numel() % count == 0):
            raise ValueError(
                f"Codes must be of square pictures or of this model's grid {tuple(self.model.grid_size)}, "
                f"got shape {tuple(codes.shape)}."
            )
        return codes.reshape(-1, height, width)


def check_one_code(model: nn.Module) -> None:
    depth = getattr(model.config, "codes_per_position", None)
    if depth != 1:
        what = f"{depth} codes a position" if depth else f"no codebook (it is a {model.config.model_type})"
        raise ValueError(f"This project expects one code at each position, but the model has {what}.")


class ImageTokenWrapper(Wrapper):
    """For models with one code a position."""

    def __init__(self, model: nn.Module):
        check_one_code(model)
        super().__init__(model)

    @property
    def quantize(self) -> nn.Module:
        return self.model.quantize

    def decode_vectors(self, vectors: Tensor) -> Tensor:
        """Code vectors (B, D, h, w) -> pixels in [-1, 1]."""
        config = self.config
        if config.model_type == "dvae" and config.codebook_dim == config.codebook_size:
            raise ValueError("A dvae with codebook_dim = codebook_size reads float latents as logits; decode codes.")
        return self.model.decode(vectors, force_not_quantize=True, return_dict=True).sample


# -- taming ------------------------------------------------------------------------------------------------------------


class CodebookOf(nn.Module):
    """`quantize` as taming and LlamaGen use it."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.__dict__["model"] = model  # not a child: its parameters would be listed twice
        self.n_e, self.e_dim = model.codebook_size, model.config.codebook_dim

    @property
    def embedding(self) -> nn.Module:
        return self.model.quantize.embedding

    def get_codebook_entry(self, indices: Tensor, shape=None, channel_first: bool | None = None) -> Tensor:
        """Code vectors (B, D, h, w); without a shape, (N, D).

        Args:
            shape: taming's (B, h, w, D), or LlamaGen's (B, D, h, w) if `channel_first`; None: told by where D stands.
        """
        if shape is None:
            vectors = self.model.quantize.get_codebook_entry(indices.reshape(1, 1, -1))  # (1, D, 1, N)
            return vectors[0, :, 0].T
        if channel_first is None:
            channel_first = shape[-1] != self.e_dim and shape[1] == self.e_dim
        batch, height, width = (shape[0], *shape[2:]) if channel_first else shape[:3]
        return self.model.quantize.get_codebook_entry(indices.reshape(batch, height, width))


class TamingWrapper(ImageTokenWrapper):
    """`quant, loss, (perplexity, encodings, indices) = encode(x)`, `decode(quant)`, `decode_code(indices, shape)`.

    For taming-transformers, LlamaGen and IBQ.

    >>> import hf_autoencoders
    >>> model = TamingWrapper(hf_autoencoders.VQVAEModel(hf_autoencoders.VQVAEConfig(image_size=32)))
    >>> quant, loss, (_, _, indices) = model.encode(torch.zeros(2, 3, 32, 32))
    >>> quant.shape, indices.shape, model.decode_code(indices, shape=(2, 8, 8, 64)).shape
    (torch.Size([2, 64, 8, 8]), torch.Size([128]), torch.Size([2, 3, 32, 32]))
    """

    def __init__(self, model: nn.Module):
        super().__init__(model)
        self.codebook = CodebookOf(model)  # kept, not made at each call: users compare and patch it

    @property
    def quantize(self) -> nn.Module:
        return self.codebook

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor, tuple]:
        output = self.model.encode(x, return_dict=True)
        # Generators read no loss of a frozen model; training belongs to the model itself.
        vectors = self.model.quantize.get_codebook_entry(output.image_tokens)
        return vectors, vectors.new_zeros(()), (None, None, output.image_tokens.flatten())

    def decode(self, quant: Tensor) -> Tensor:
        return self.decode_vectors(quant)

    def decode_code(self, code_b: Tensor, shape=None, channel_first: bool | None = None) -> Tensor:
        if shape is None:
            return self.model.decode_image_tokens(self.as_grid(code_b))
        return self.decode(self.codebook.get_codebook_entry(code_b, shape, channel_first))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        quant, loss, _ = self.encode(x)
        return self.decode(quant), loss


# -- open-muse ---------------------------------------------------------------------------------------------------------


class MuseWrapper(ImageTokenWrapper):
    """`quantized, codes = encode(x)`, `get_code(x)`, `get_soft_code(x)`, `decode_code(codes)`; codes (B, N)."""

    @property
    def num_embeddings(self) -> int:
        return self.model.codebook_size

    def encode(self, pixel_values: Tensor, return_loss: bool = False) -> tuple:
        codes = self.model.get_image_tokens(from_unit_range(pixel_values))
        vectors = self.model.quantize.get_codebook_entry(codes)
        return (vectors, codes.flatten(1), *([vectors.new_zeros(())] if return_loss else []))

    def get_code(self, pixel_values: Tensor) -> Tensor:
        return self.model.get_image_tokens(from_unit_range(pixel_values)).flatten(1)

    def get_soft_code(self, pixel_values: Tensor, temp: float = 1.0, stochastic: bool = False) -> tuple[Tensor, Tensor]:
        """Probabilities (B, N, K), and codes (B, N): drawn from them if `stochastic`."""
        soft = self.model.get_codebook_probs(from_unit_range(pixel_values), temp)
        if not stochastic:
            return soft, self.get_code(pixel_values)
        return soft, torch.multinomial(soft.flatten(0, 1), 1).view(soft.shape[:2])

    def decode(self, quantized_states: Tensor) -> Tensor:
        return to_unit_range(self.decode_vectors(quantized_states))

    def decode_code(self, codebook_indices: Tensor) -> Tensor:
        return to_unit_range(self.model.decode_image_tokens(self.as_grid(codebook_indices)))

    def forward(self, pixel_values: Tensor, return_loss: bool = False) -> tuple:
        vectors, codes, *loss = self.encode(pixel_values, return_loss)
        return (self.decode(vectors), vectors, codes, *loss)


# -- MaskGIT and RAR ---------------------------------------------------------------------------------------------------


class MaskGITWrapper(ImageTokenWrapper):
    """`codes = encode(x)` (B, N), `decode(codes)` = `decode_tokens(codes)`; JAX: `encode_to_indices`."""

    @torch.no_grad()
    def encode(self, x: Tensor) -> Tensor:
        return self.model.get_image_tokens(from_unit_range(x)).flatten(1)

    @torch.no_grad()
    def decode(self, codes: Tensor) -> Tensor:
        return to_unit_range(self.model.decode_image_tokens(self.as_grid(codes)))

    def decode_tokens(self, codes: Tensor) -> Tensor:
        return self.decode(codes)

    def encode_to_indices(self, image: Tensor) -> Tensor:
        return self.encode(image)

    def decode_from_indices(self, inputs: Tensor | dict) -> Tensor:
        return self.decode(inputs["indices"] if isinstance(inputs, dict) else inputs)


# -- MAR ---------------------------------------------------------------------------------------------------------------


class ScaledGaussian:
    """A Gaussian on another scale, with the members that MAR reads: `sample()`, `mode()`, `parameters`."""

    def __init__(self, posterior, scale: float):
        self.posterior, self.scale = posterior, scale

    def sample(self) -> Tensor:
        return self.posterior.sample() * self.scale

    def mode(self) -> Tensor:
        return self.posterior.mode() * self.scale

    @property
    def parameters(self) -> Tensor:
        """Mean and log-variance (B, 2z, h, w), what MAR caches."""
        return torch.cat([self.posterior.mean * self.scale, self.posterior.logvar + 2 * math.log(self.scale)], dim=1)


class MARWrapper(Wrapper):
    """`encode(x).sample()`, `decode(z)`. Latents are scaled so that MAR's own constant gives them a deviation of 1."""

    def __init__(self, model: nn.Module):
        if model.config.model_type != "vae":
            raise ValueError(f"MAR learns the posterior of a vae, this model is a {model.config.model_type}.")
        super().__init__(model)
        self.scale = model.config.scaling_factor / MAR_SCALE

    @property
    def embed_dim(self) -> int:
        return self.model.config.latent_channels

    def encode(self, x: Tensor) -> ScaledGaussian:
        return ScaledGaussian(self.model.encode(x, return_dict=True).latent_dist, self.scale)

    def decode(self, z: Tensor) -> Tensor:
        return self.model.decode(z / self.scale, return_dict=True).sample


# -- DALLE-pytorch -----------------------------------------------------------------------------------------------------


class DalleMethods(ImageTokenWrapper):
    """`get_codebook_indices(img)` (B, N), `decode(img_seq)`, and the four sizes that DALLE reads."""

    def __init__(self, model: nn.Module):
        nn.Module.__init__(self)
        check_one_code(model)
        config = model.config
        self.model, self.config = model, config
        if config.height != config.width:
            raise ValueError(f"DALLE-pytorch knows square pictures only, got {config.height}x{config.width}.")
        self.image_size, self.channels = config.height, config.num_channels
        self.num_tokens, self.num_layers = config.codebook_size, int(math.log2(config.downsample_factor))

    @torch.no_grad()
    def get_codebook_indices(self, img: Tensor) -> Tensor:
        return self.model.get_image_tokens(from_unit_range(img)).flatten(1)

    def decode(self, img_seq: Tensor) -> Tensor:
        return to_unit_range(self.model.decode_image_tokens(self.as_grid(img_seq)))


# -- transformers ------------------------------------------------------------------------------------------------------


@dataclass
class VQModelOutput(ModelOutput):
    """What Chameleon and Janus read: `image_tokens` flat over the batch. Chameleon adds the `pooler_output`."""

    last_hidden_state: Tensor | None = None
    pooler_output: Tensor | None = None
    image_tokens: Tensor | None = None
    quantized_last_hidden_state: Tensor | None = None


class ChameleonWrapper(ImageTokenWrapper):
    """`encode(pixel_values).image_tokens` (B * N,)."""

    def encode(self, pixel_values: Tensor, return_dict: bool | None = None, **kwargs) -> VQModelOutput:
        output = self.model.encode(pixel_values, return_dict=True)
        return VQModelOutput(
            last_hidden_state=output.latents,
            image_tokens=output.image_tokens.flatten(),
            quantized_last_hidden_state=output.quantized,
        )


class JanusWrapper(ChameleonWrapper):
    """Also `decode(image_tokens)` (B, N) -> pixels, a bare tensor."""

    def decode(self, image_tokens: Tensor) -> Tensor:
        return self.model.decode_image_tokens(self.as_grid(image_tokens))


def chameleon_vocabulary(codebook_size: int, first_id: int, image_id: int) -> dict[str, int]:
    """`vocabulary_map` of a ChameleonConfig: code k is the word `first_id + k`; `image_id` marks an image's places.

    Chameleon knows codes by the names of their words, in which letters stand for digits, A for 0.

    >>> chameleon_vocabulary(codebook_size=12, first_id=100, image_id=99)["IMGIMGBAZ"]  # code 10
    110
    """
    letters = str.maketrans("0123456789", "ABCDEFGHIJ")
    words = {f"IMGIMG{str(code).translate(letters)}Z": first_id + code for code in range(codebook_size)}
    return {**words, "<image>": image_id}


@torch.no_grad()
def beit_labels(model: nn.Module, pixel_values: Tensor, bool_masked_pos: Tensor) -> Tensor:
    """`labels` of a BeitForMaskedImageModeling: the codes of the hidden patches, (M,) int64, picture after picture.

    Args:
        pixel_values: (B, C, H, W) in [-1, 1], as this model takes them.
        bool_masked_pos: (B, h * w), which patches BEiT does not see. Its patches must be the places of this grid.
    """
    check_one_code(model)
    codes = model.get_image_tokens(pixel_values).flatten(1)  # (B, h * w)
    if bool_masked_pos.shape != codes.shape:
        height, width = model.grid_size
        raise ValueError(
            f"`bool_masked_pos` must be {tuple(codes.shape)}, a place for each of the {height}x{width} codes of a "
            f"picture, got {tuple(bool_masked_pos.shape)}: choose BEiT's image_size / patch_size = {height}."
        )
    return codes[bool_masked_pos.to(codes.device, torch.bool)]


# -- short names -------------------------------------------------------------------------------------------------------


as_taming = TamingWrapper  # taming-transformers, LlamaGen, IBQ
as_muse = MuseWrapper  # open-muse
as_maskgit = MaskGITWrapper  # MaskGIT, RAR
as_mar = MARWrapper  # MAR
as_janus = JanusWrapper  # janus.model.vqmodel = as_janus(model)
as_chameleon = ChameleonWrapper  # chameleon.model.vqmodel = as_chameleon(model)


def as_dalle(model: nn.Module, base: type[nn.Module] | None = None) -> DalleMethods:
    """For DALLE-pytorch, whose constructor only takes instances of its own classes.

    Args:
        base: one of them, `dalle_pytorch.OpenAIDiscreteVAE`; its constructor, which downloads weights, is not called.
    """
    return DalleMethods(model) if base is None else type("DalleWrapper", (DalleMethods, base), {})(model)
