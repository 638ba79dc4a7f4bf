# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""The contract that all four autoencoders keep: outputs, encode / decode / forward, initialisation, statistics."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers import initialization as init
from transformers.integrations.accelerate import force_accelerate_hooks
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.utils import ModelOutput
from transformers.utils.output_capturing import OutputRecorder

from .blocks import backbone_of
from .blocks import initialize as initialize_block
from .codebook_tensors import initialize as initialize_codebook
from .forward_outputs import DecoderOutput
from .losses import LIKELIHOODS
from .losses import initialize as initialize_likelihood
from .memory_format import as_net_computes
from .model_card import WritesItsCard
from .noise import device_of
from .pixels import check_pixels, warn_of_range
from .pointwise import PointwiseConv2d
from .precision import compute_dtype, float32_island, may_be_read
from .tiling import WithTiling


def linear_path(a: Tensor, b: Tensor, steps: int) -> Tensor:
    """(B, ...), (B, ...) -> (B, steps, ...): from `a` to `b` in equal steps, both ends included."""
    if steps < 2:
        raise ValueError(f"`steps` must be at least 2 (both ends are included), got {steps}.")
    weights = torch.linspace(0, 1, steps, device=a.device, dtype=a.dtype).view(1, steps, *[1] * (a.dim() - 1))
    return torch.lerp(a[:, None], b[:, None], weights)


class AutoencoderPreTrainedModel(WithTiling, WritesItsCard, PreTrainedModel):
    """What AE, VAE, VQ-VAE and dVAE share. Pixels are in [-1, 1] at every public method.

    A subclass writes `encode`, `forward` and `draw_latents` (its prior).
    """

    base_model_prefix = "autoencoder"
    main_input_name = "pixel_values"
    input_modalities = ("image",)
    supports_gradient_checkpointing = True
    _supports_sdpa = True  # the only attention there is, that of `resnet`, calls it
    # What is called besides `forward`: a wrapper that shards the model must gather its parameters for these, too.
    fsdp_forward_methods = (
        "encode", "decode", "encode_pixels", "decode_latents", "negative_log_likelihood", "reconstruct", "interpolate",
        "sample", "draw_latents", "initialize_from_data", "measure_latents", "get_image_tokens", "decode_image_tokens",
        "get_codebook_probs", "log_importance_weights",
    )  # fmt: skip
    accepts_loss_kwargs = False  # else Trainer multiplies the loss by the accumulation steps
    _can_record_outputs = {"hidden_states": OutputRecorder(GradientCheckpointingLayer, layer_name="encoder")}
    # Without MLPInputLayer: accelerate shards the layer that pixels enter by itself, and not twice.
    _no_split_modules = [
        "MLPLayer", "ResidualLayer", "PlainResidualLayer", "ResnetBlock", "SpatialSelfAttention", "DalleBlock",
    ]  # fmt: skip

    def __init__(self, config, encoder_width: int, latent_width: int, code_width: int, decoder_width: int):
        """Encoder, decoder and what lies between them.

        `resnet` has 1x1 convolutions under diffusers' names: encoder_width -> quant_conv -> latent_width, and
        code_width -> post_quant_conv -> decoder_width. The other backbones go to and from those widths themselves.
        """
        config.validate()  # overrides given to from_pretrained skip the checks of the config
        super().__init__(config)
        encoder, decoder = backbone_of(config)
        if config.backbone == "resnet":
            self.encoder = encoder(config, encoder_width)
            self.quant_conv = PointwiseConv2d(encoder_width, latent_width, 1)
            self.post_quant_conv = PointwiseConv2d(code_width, decoder_width, 1)
            self.decoder = decoder(config, decoder_width, config.decoder_out_channels)
        else:
            self.encoder = encoder(config, latent_width)
            self.quant_conv = nn.Identity()
            self.post_quant_conv = nn.Identity()
            self.decoder = decoder(config, code_width, config.decoder_out_channels)
        if config.encoder_only:
            self.post_quant_conv = self.decoder = None
        self.likelihood = LIKELIHOODS[config.reconstruction_loss](config)
        self._range_checks_left = 8  # one look at the pixels costs a synchronisation on accelerators

    def post_init(self):
        super().post_init()
        present = {type(module).__name__ for module in self.modules()}
        self._no_split_modules &= present  # accelerate refuses to shard by the name of a block that is not there

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path, *model_args, output_loading_info: bool = False, **kwargs):
        """As in transformers, but weights of which not one belongs to this model are an error, not a random model.

        Who asks for `output_loading_info` gets the model and judges for himself.
        """
        model, info = super().from_pretrained(
            pretrained_model_name_or_path, *model_args, output_loading_info=True, **kwargs
        )
        model.after_loading({*info["missing_keys"], *(name for name, *_ in info["mismatched_keys"])})
        if output_loading_info:
            return model, info
        if info["unexpected_keys"] and set(info["missing_keys"]) >= set(model.state_dict()):
            raise ValueError(
                f"The weights in {pretrained_model_name_or_path} are another model's: not one tensor of a "
                f"{cls.__name__} is among them, but for instance `{min(info['unexpected_keys'])}`."
            )
        return model

    def after_loading(self, drawn_anew: set[str]) -> None:
        """Called with the names of the tensors that no checkpoint filled."""

    @torch.no_grad()
    def _init_weights(self, module):
        if not (initialize_block(module) or initialize_codebook(module) or initialize_likelihood(module)):
            super()._init_weights(module)

    @property
    def dummy_inputs(self) -> dict[str, Tensor]:
        config = self.config
        return {"pixel_values": torch.zeros(1, config.num_channels, config.height, config.width)}

    def get_input_embeddings(self) -> nn.Module:
        """The layer that pixels enter first; training of adapters makes its output require gradients."""
        return self.encoder.get_submodule(self.encoder.input_layer)

    def set_input_embeddings(self, value: nn.Module) -> None:
        self.encoder.set_submodule(self.encoder.input_layer, value)

    @property
    def grid_size(self) -> tuple[int, int]:
        """(h, w) of the latents of a picture of `config.image_size`."""
        return self.config.grid_size

    @property
    def downsample_factor(self) -> int:
        """Pixels per latent along a side."""
        return self.config.downsample_factor

    # -- encode and decode ---------------------------------------------------------------------------------------------

    def encode_pixels(self, pixel_values: Tensor) -> Tensor:
        """(B, C, H, W) in [-1, 1] -> what the encoder says, (B, latent_width, h, w)."""
        self.check_pixels(pixel_values)
        pixels = self.as_net_computes(pixel_values.to(compute_dtype(self.encoder, pixel_values)))
        return self.by_tiles(lambda x: self.quant_conv(self.encoder(x)), pixels, 1, self.downsample_factor).contiguous()

    def decode_latents(self, latents: Tensor) -> Tensor:
        """(B, D, h, w) -> the decoder's output (B, decoder_out_channels, H, W), which the likelihood reads."""
        self.check_has_decoder()
        latents = self.as_net_computes(latents.to(compute_dtype(self.decoder, latents)), self.downsample_factor)
        pictures = self.by_tiles(lambda z: self.decoder(self.post_quant_conv(z)), latents, self.downsample_factor, 1)
        return pictures.contiguous()

    def as_net_computes(self, values: Tensor, stride: int = 1) -> Tensor:
        """Pixels or latents, in the order in memory in which the net is fastest; what leaves it is contiguous."""
        return as_net_computes(values, self.config.backbone, self.training, stride)

    def decode(
        self,
        latents: Tensor,
        force_not_quantize: bool = False,
        return_dict: bool | None = None,
        shape: tuple[int, ...] | None = None,
        generator: torch.Generator | None = None,
    ) -> DecoderOutput | tuple:
        """Latents, or image tokens where the model has them, to pictures.

        Args:
            latents: float (B, D, h, w); models with a codebook also take integers (B, h, w) or (B, h*w).
            force_not_quantize: decode float latents as they are instead of their nearest codes.
            return_dict: `False` gives a tuple whose first entry is the picture, as diffusers' pipelines ask for.
            shape: (B, h, w) or (B, h, w, D) of flat tokens whose grid is not `grid_size`.
            generator: taken for diffusers' sake; decoding draws nothing.

        Returns:
            `DecoderOutput` with `sample` (B, C, H, W) in [-1, 1] (not clamped for `mse` and `l1`) and `logits`.

        Raises:
            ValueError: tokens outside the codebook, a shape that is no grid, or a model without decoder.
        """
        self.check_has_decoder()
        if not isinstance(latents, Tensor):  # nested lists or a numpy array
            latents = torch.as_tensor(latents, device=device_of(next(self.decoder.parameters())))
        logits = self.decode_latents(self.latents_to_decode(latents, force_not_quantize, shape))
        return self.as_return_type(DecoderOutput(sample=self.likelihood.mean(logits), logits=logits), return_dict)

    def latents_to_decode(self, latents: Tensor, force_not_quantize: bool, shape: tuple[int, ...] | None) -> Tensor:
        """What the decoder takes, (B, D, h, w), from what a caller gave to `decode`."""
        if not latents.is_floating_point():
            raise ValueError(
                f"A {self.config.model_type} has no codebook: `decode` takes float latents "
                f"(B, {self.config.latent_channels}, h, w), got {latents.dtype} of shape {tuple(latents.shape)}."
            )
        if latents.dim() != 4 or latents.shape[1] != self.config.latent_channels:
            raise ValueError(
                f"Latents of this {self.config.model_type} have shape (B, {self.config.latent_channels}, h, w), "
                f"got {tuple(latents.shape)}."
            )
        return latents

    def as_return_type(self, output: ModelOutput, return_dict: bool | None) -> ModelOutput | tuple:
        return output if (self.config.return_dict if return_dict is None else return_dict) else output.to_tuple()

    # -- what users do with a trained model ----------------------------------------------------------------------------

    @torch.no_grad()
    def reconstruct(self, pixel_values: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W), both in [-1, 1]: through the mean or the nearest codes, without any noise."""
        return self.decode(self.encode(pixel_values, return_dict=True).latents, return_dict=True).sample

    @torch.no_grad()
    def interpolate(self, a: Tensor, b: Tensor, steps: int) -> Tensor:
        """Pictures on the way from `a` to `b`, both (B, C, H, W): (B, steps, C, H, W), ends included."""
        path = linear_path(self.latents_to_interpolate(a), self.latents_to_interpolate(b), steps).flatten(0, 1)
        pictures = self.decode(path, force_not_quantize=self.interpolates_unquantized, return_dict=True).sample
        return pictures.unflatten(0, (len(a), steps))

    interpolates_unquantized = False

    def latents_to_interpolate(self, pixel_values: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, D, h, w), where the straight line between two pictures is drawn."""
        return self.encode(pixel_values, return_dict=True).latents

    @torch.no_grad()
    def sample(self, num_images: int, generator: torch.Generator | None = None) -> Tensor:
        """`num_images` pictures (N, C, H, W) in [-1, 1] from the model's prior."""
        if num_images < 1:
            raise ValueError(f"`num_images` must be at least 1, got {num_images}.")
        self.check_has_decoder()
        return self.decode(self.draw_latents(num_images, generator), return_dict=True).sample

    # -- training ------------------------------------------------------------------------------------------------------

    @force_accelerate_hooks("likelihood")  # its variance may be offloaded, and the module itself is not called
    def negative_log_likelihood(self, logits: Tensor, pixel_values: Tensor) -> Tensor:
        """-ln p(x|z) in nats per image, (B,), in at least float32, of pixels x = (pixel_values + 1) / 2."""
        with float32_island(logits):
            return self.likelihood.negative_log_likelihood(logits, (pixel_values + 1) / 2)

    loss_per_element = False  # the loss is a sum over pixel values, in nats per image; True: a mean over them

    def loss_terms(self) -> dict[str, float]:
        """Weight of each term of the loss, by name; printed when training starts."""
        return {"negative_log_likelihood [nats per image]": 1.0}

    def initialize_from_data(self, pixel_values: Tensor) -> None:
        """Sets state that is read off data (codebooks). Nothing to do without a codebook."""

    def defer_state_updates(self, defer: bool = True) -> None:
        """Whether codebook statistics wait for `apply_state_updates`. Nothing to do without a codebook."""

    def apply_state_updates(self) -> None:
        """Applies statistics gathered over the micro-batches of an optimizer step. Nothing to do without a codebook."""

    @torch.no_grad()
    def initialize_output_bias(self, mean_image: Tensor) -> None:
        """Sets the decoder's last bias so that an untrained decoder paints `mean_image` (C, H, W), in [0, 1].

        Convolutional decoders have one number a channel, so they paint its mean. It saves the first epochs (van den
        Oord's and Burda's code do it, too).
        """
        logits = self.likelihood.logits_from_mean(mean_image)  # (decoder_out_channels, H, W)
        bias = self.decoder.output_layer.bias
        if bias.numel() != logits.numel():
            logits = self.likelihood.logits_from_mean(mean_image.mean((1, 2), keepdim=True))
        init.copy_(bias, logits.reshape(bias.shape).to(bias))

    @torch.no_grad()
    def measure_latents(self, batches: Iterable[Tensor], generator: torch.Generator | None = None) -> None:
        """Reads mean and spread of the latents off `batches` of pictures, into the config.

        `scaling_factor` = 1 / standard deviation over everything (Rombach et al. 2022, appendix G), as diffusion
        pipelines multiply by it. Call it when training is done; `save_pretrained` keeps it.
        """
        total = square = count = 0
        for pixel_values in batches:
            latents = self.latents_for_statistics(pixel_values, generator).cpu().double()  # no float64 on Apple's GPUs
            total += latents.sum((0, 2, 3))
            square += latents.square().sum((0, 2, 3))
            count += latents.numel() // latents.shape[1]
        if not count:
            raise ValueError("`measure_latents` needs at least one batch, got none.")
        mean = total / count
        variance = (square / count - mean.square()).clamp(min=0)
        self.store_latent_statistics(mean, variance)

    def latents_for_statistics(self, pixel_values: Tensor, generator: torch.Generator | None) -> Tensor:
        return self.encode(pixel_values, return_dict=True).latents

    def store_latent_statistics(self, mean: Tensor, variance: Tensor) -> None:
        """`mean`, `variance`: float64 (D,). The spread over everything includes that between channels."""
        spread = (variance + (mean - mean.mean()).square()).mean().sqrt().item()
        self.config.scaling_factor = 1 / spread if spread > 0 else 1.0

    # -- checks --------------------------------------------------------------------------------------------------------

    def check_pixels(self, pixel_values: Tensor) -> None:
        """Refuses wrong shapes and integers; warns once when pixels lie outside [-1, 1]."""
        check_pixels(self.config, pixel_values)
        if self._range_checks_left > 0 and may_be_read(pixel_values):
            if pixel_values.device.type != "cpu":
                self._range_checks_left -= 1  # each look stops an accelerator's queue
            if warn_of_range(pixel_values):
                self._range_checks_left = 0

    def check_has_decoder(self) -> None:
        if self.config.encoder_only:
            raise ValueError(
                f"This {self.config.model_type} is an encoder alone (`encoder_only`: the weights it was converted from "
                "have no decoder): it encodes pictures, and can neither decode nor be trained."
            )
