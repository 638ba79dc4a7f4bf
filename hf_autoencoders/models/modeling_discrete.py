# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""What the two models with a codebook share: the image-token interface that generators call."""

import warnings

import torch
from torch import Tensor

from .modeling_base import AutoencoderPreTrainedModel
from .noise import device_of
from .quantizer_base import check_codes
from .quantizer_vq import VectorQuantizer
from .quantizers import BUILT_IN, QUANTIZERS


class WithImageTokens:
    """An output whose `image_tokens` are also called `codes`, the papers' word."""

    @property
    def codes(self) -> Tensor:
        return self.image_tokens


class DiscreteAutoencoder(AutoencoderPreTrainedModel):
    """An autoencoder whose latents are codes: `image_tokens` (B, h, w), int64, in 0..codebook_size - 1.

    With a `residual` quantizer they are (B, h, w, depth). A subclass writes `float_latents_to_decode`.
    """

    _no_split_modules = AutoencoderPreTrainedModel._no_split_modules + [kind.__name__ for kind in QUANTIZERS.values()]

    @property
    def codebook_size(self) -> int:
        """K, the number of codes."""
        return self.config.codebook_size

    @property
    def num_image_tokens(self) -> int:
        """Tokens of a picture of `config.image_size`."""
        height, width = self.grid_size
        return height * width * self.config.codes_per_position

    @torch.no_grad()
    def get_image_tokens(self, pixel_values: Tensor) -> Tensor:
        """(B, C, H, W) in [-1, 1] -> image tokens (B, h, w), int64."""
        return self.quantize.encode(self.encode_pixels(pixel_values))

    @torch.no_grad()
    def decode_image_tokens(self, image_tokens: Tensor) -> Tensor:
        """Image tokens (B, h, w) or, in raster order, (B, h*w) -> pictures (B, C, H, W) on the [-1, 1] scale."""
        return self.decode(image_tokens, return_dict=True).sample

    @torch.no_grad()
    def reconstruct(self, pixel_values: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W), both in [-1, 1]: through the codes."""
        return self.decode_image_tokens(self.get_image_tokens(pixel_values))

    def save_pretrained(self, save_directory, **kwargs):
        """As in transformers. Warns of a quantizer from outside the package, whose code is not saved with the model."""
        if self.config.quantizer not in BUILT_IN:
            warnings.warn(
                f"The class {type(self.quantize).__name__} is not saved with the model: before it can be loaded, also "
                f"by `trust_remote_code=True`, call register_quantizer({self.config.quantizer!r}, YourClass).",
                stacklevel=2,
            )
        super().save_pretrained(save_directory, **kwargs)

    def after_loading(self, drawn_anew: set[str]) -> None:
        for name, module in self.named_modules():
            if isinstance(module, VectorQuantizer) and module.state and f"{name}.embedding.weight" in drawn_anew:
                module.state.start_again()  # with `ignore_mismatched_sizes` the counts of another codebook would stay

    freeze_codebook = False  # set it to True to train around a codebook that averages and revival leave alone

    @property
    def codebook_holds_still(self) -> bool:
        """True where `freeze_codebook` says so, and under PEFT, whose files hold the adapter alone, so that a
        codebook that moved while it trained would be lost."""
        has_adapter = getattr(self, "peft_config", None) or getattr(self, "_hf_peft_config_loaded", False)
        return self.freeze_codebook or bool(has_adapter)

    def latents_to_decode(self, latents: Tensor, force_not_quantize: bool, shape: tuple[int, ...] | None) -> Tensor:
        if latents.is_floating_point():
            if latents.dim() != 4:
                raise ValueError(f"Float latents have four axes (B, D, h, w), got shape {tuple(latents.shape)}.")
            return self.float_latents_to_decode(latents, force_not_quantize)
        codes = self.as_grid(latents.long(), shape)
        check_codes(codes, self.codebook_size)
        return self.quantize.get_codebook_entry(codes)  # (B, D, h, w)

    def as_grid(self, image_tokens: Tensor, shape: tuple[int, ...] | None) -> Tensor:
        """Image tokens in any accepted form -> (B, h, w), or (B, h, w, depth)."""
        depth = self.config.codes_per_position
        tail = () if depth == 1 else (depth,)
        if image_tokens.dim() == 3 + len(tail) and image_tokens.shape[3:] == tail:
            return image_tokens
        grid = self.grid_size if shape is None else tuple(shape[1:3])
        batch = image_tokens.shape[0] if shape is None else shape[0]
        if image_tokens.numel() != batch * grid[0] * grid[1] * depth:
            flat = grid[0] * grid[1] * depth
            fits = f"(B, h, w{', depth' if tail else ''}) or (B, {flat}) for a {grid[0]}x{grid[1]} grid"
            raise ValueError(
                f"Image tokens must have shape {fits}, got {tuple(image_tokens.shape)}; "
                f"another grid is named by `shape=(B, h, w)`."
            )
        return image_tokens.reshape(batch, *grid, *tail)

    def draw_latents(self, num_images: int, generator: torch.Generator | None) -> Tensor:
        """Uniform codes: the prior that the ELBO assumes until one is trained (see hf_autoencoders.priors)."""
        depth = self.config.codes_per_position
        shape = (num_images, *self.grid_size, *([depth] if depth > 1 else []))
        device = "cpu" if generator is None else generator.device
        codes = torch.randint(self.codebook_size, shape, generator=generator, device=device)
        return codes.to(device_of(next(self.decoder.parameters())))

    def post_init(self):
        # By their full names: part of a name would also catch tensors of a model around this one, and int64 buffers,
        # which transformers would turn to float32.
        state = self.quantize.state_dict()
        self._keep_in_fp32_modules_strict = {f"quantize.{name}" for name in state if state[name].is_floating_point()}
        self._no_split_modules = [*self._no_split_modules, type(self.quantize).__name__]  # a class of a user's own, too
        super().post_init()

    # -- state that follows the data -----------------------------------------------------------------------------------

    def defer_state_updates(self, defer: bool = True) -> None:
        """If `defer`, training forwards only gather codebook statistics, until `apply_state_updates` is called."""
        self.quantize.defer_state_updates(defer)

    def apply_state_updates(self) -> None:
        """Applies what was gathered since the last call, once an optimizer step, before `optimizer.step()`."""
        self.quantize.apply_state_updates()
