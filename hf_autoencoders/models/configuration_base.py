# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""What the configurations of all four models share: the picture, the backbone, the likelihood, and their checks."""

from huggingface_hub.dataclasses import strict
from transformers import PreTrainedConfig
from transformers.activations import ACT2CLS

from .config_checks import check_numbers, check_weight_count


RECONSTRUCTION_LOSSES = ("bce", "mse", "l1", "logit_laplace")
CONV_STYLES = ("sonnet", "inplace_relu", "dalle_pytorch")

# Which fields a backbone reads. A field of another backbone is a knob without effect, and train.py refuses it.
BACKBONE_FIELDS = {
    "mlp": ("hidden_sizes", "hidden_act"),
    "conv": ("block_out_channels", "layers_per_block", "residual_channels", "conv_style"),
    "resnet": (
        "block_out_channels",
        "layers_per_block",
        "norm_num_groups",
        "mid_block_add_attention",
        "attention_levels",
    ),
    "dalle": ("block_out_channels", "layers_per_block"),
}


@strict
class AutoencoderConfig(PreTrainedConfig):
    """Fields that every autoencoder of this package has.

    Args:
        image_size (`int` or pair of `int`): height and width in pixels that the model is made for; convolutional
            backbones take any other size that the stride divides, too.
        num_channels (`int`): channels of a picture, 1 for grey, 3 for RGB.
        backbone (`str`): `mlp`, `conv` (VQ-VAE paper), `resnet` (VQGAN / latent diffusion) or `dalle` (DALL-E's dVAE).
        block_out_channels: width of each level; the picture is halved between levels, so the stride is
            `2 ** (len(block_out_channels) - 1)`.
        layers_per_block (`int`): residual blocks in a level (`resnet`, `dalle`), or in the one stack of `conv`.
        residual_channels (`int`): width inside a residual block of `conv`.
        conv_style (`str`): whose `conv` it is. `sonnet`: the VQ-VAE paper's. For converted weights: `inplace_relu`,
            where a residual layer adds its output to relu(x), as ports to PyTorch with an in-place ReLU do;
            `dalle_pytorch`, the net of DALLE-pytorch.
        norm_num_groups (`int`): groups of GroupNorm in `resnet`; divides every width.
        mid_block_add_attention (`bool`): self-attention at the coarsest level of `resnet`, as in diffusers.
        attention_levels: levels of `resnet` (0 = finest) with self-attention behind every residual block; taming and
            LlamaGen have it at the coarsest.
        hidden_sizes: widths of the hidden layers of `mlp`, from the picture to the latent.
        hidden_act (`str`): activation of `mlp`: `relu`, `tanh`, `silu`, `gelu`, ...
        reconstruction_loss (`str`): the likelihood of a pixel: `bce` (Bernoulli), `mse` (Gaussian), `l1` (Laplace),
            `logit_laplace` (DALL-E).
        learned_variance (`bool`): `mse` only: learn the Gaussian's variance (one number) instead of 1.
        scaling_factor (`float`): 1 / standard deviation of the latents; latent diffusion multiplies by it.
        shift_factor: subtracted from the latents before they are scaled.
        latents_mean, latents_std: of each channel of the latents, or one number for all; diffusion pipelines read them.
        encoder_only (`bool`): there is no decoder; converted encoders only, which give latents or tokens.
        force_upcast (`bool`): read by diffusers' SDXL pipeline: run the decoder in float32.
    """

    keys_to_ignore_at_inference = ["latents", "hidden_states"]  # Trainer.predict would gather them for the whole set

    image_size: int | list[int] | tuple[int, ...] = 32
    num_channels: int = 3
    backbone: str = "conv"
    block_out_channels: list[int] | tuple[int, ...] = (64, 128, 128)
    layers_per_block: int = 2
    residual_channels: int = 32
    conv_style: str = "sonnet"
    norm_num_groups: int = 32
    mid_block_add_attention: bool = True
    attention_levels: list[int] | tuple[int, ...] = ()
    hidden_sizes: list[int] | tuple[int, ...] = (512, 256)
    hidden_act: str = "relu"
    reconstruction_loss: str = "mse"
    learned_variance: bool = False
    scaling_factor: float | int = 1.0
    shift_factor: float | int | None = None
    latents_mean: list[float | int] | float | int | None = None
    latents_std: list[float | int] | float | int | None = None
    force_upcast: bool = False
    encoder_only: bool = False

    backbones = ("mlp", "conv", "resnet")  # that this model offers; the error message names them

    @property
    def height(self) -> int:
        return self.image_size if isinstance(self.image_size, int) else self.image_size[0]

    @property
    def width(self) -> int:
        return self.image_size if isinstance(self.image_size, int) else self.image_size[1]

    @property
    def downsample_factor(self) -> int:
        """Pixels per latent along a side. The mlp has one latent for the whole picture."""
        return self.height if self.backbone == "mlp" else 2 ** (len(self.block_out_channels) - 1)

    @property
    def grid_size(self) -> tuple[int, int]:
        """(h, w) of the latents of an `image_size` picture."""
        if self.backbone == "mlp":
            return (1, 1)
        return (self.height // self.downsample_factor, self.width // self.downsample_factor)

    @property
    def decoder_out_channels(self) -> int:
        """Number of maps that the decoder gives, one a channel, or mean and log-scale for `logit_laplace`."""
        return self.num_channels * (2 if self.reconstruction_loss == "logit_laplace" else 1)

    @property
    def num_hidden_layers(self) -> int:
        """Blocks of the encoder, each of which gives one of `hidden_states`."""
        levels = len(self.block_out_channels)
        if self.backbone == "mlp":
            return max(len(self.hidden_sizes) - 1, 0)  # the first takes the pixels themselves
        if self.backbone == "conv":
            return self.layers_per_block
        if self.backbone == "dalle":
            return levels * self.layers_per_block
        return (levels + len(self.attention_levels)) * self.layers_per_block + 2 + self.mid_block_add_attention

    @property
    def ignored_fields(self) -> frozenset[str]:
        """Names of fields that this choice of backbone and likelihood never reads."""
        every = {name for fields in BACKBONE_FIELDS.values() for name in fields}
        ignored = every - set(BACKBONE_FIELDS[self.backbone]) | {"encoder_only"}  # no net is trained without decoder
        if self.reconstruction_loss != "mse":
            ignored.add("learned_variance")
        return frozenset(ignored)

    @classmethod
    def from_dict(cls, config_dict: dict, **kwargs):
        found = config_dict.get("model_type", cls.model_type)
        if found != cls.model_type:
            raise ValueError(
                f"This is the config of a {found}, not of a {cls.model_type}: load it with AutoModel or AutoConfig, "
                f"which choose the class by themselves."
            )
        return super().from_dict(config_dict, **kwargs)

    def validate_a_few_numbers(self):
        """Before the others, which run in the order of their names and compute with these numbers."""
        check_numbers(vars(self))
        sizes = [self.image_size] * 2 if isinstance(self.image_size, int) else list(self.image_size)
        if len(sizes) != 2 or min(sizes) < 1:
            raise ValueError(f"`image_size` must be a positive number or (height, width), got {self.image_size}.")
        if self.scaling_factor == 0:
            raise ValueError("`scaling_factor` must not be 0: latents are divided by it.")

    def validate_image(self):
        if self.num_channels < 1:
            raise ValueError(f"`num_channels` must be at least 1, got {self.num_channels}.")
        if self.reconstruction_loss not in RECONSTRUCTION_LOSSES:
            raise ValueError(
                f"`reconstruction_loss` must be one of {', '.join(RECONSTRUCTION_LOSSES)}, "
                f"got {self.reconstruction_loss!r}."
            )

    def validate_backbone(self):
        if self.backbone not in self.backbones:
            raise ValueError(
                f"`backbone` of a {self.model_type} must be one of {', '.join(self.backbones)}, got {self.backbone!r}."
            )
        if self.conv_style not in CONV_STYLES:
            raise ValueError(f"`conv_style` must be one of {', '.join(CONV_STYLES)}, got {self.conv_style!r}.")
        if self.hidden_act not in ACT2CLS:
            raise ValueError(f"`hidden_act` must be one of {', '.join(ACT2CLS)}, got {self.hidden_act!r}.")
        widths = self.hidden_sizes if self.backbone == "mlp" else self.block_out_channels
        if any(width < 1 for width in widths) or (self.backbone != "mlp" and not widths):
            raise ValueError(f"Widths of the `{self.backbone}` backbone must be positive, got {list(widths)}.")
        if self.layers_per_block < 0 or self.residual_channels < 1 or self.norm_num_groups < 1:
            raise ValueError(
                f"`layers_per_block` must be >= 0, `residual_channels` and `norm_num_groups` >= 1, "
                f"got {self.layers_per_block}, {self.residual_channels} and {self.norm_num_groups}."
            )
        check_weight_count(self)
        if self.backbone == "mlp":
            return
        if self.backbone == "conv" and self.conv_style == "dalle_pytorch" and len(set(widths)) > 1:
            raise ValueError(f"All widths of the `dalle_pytorch` style are equal, got {list(widths)}.")
        if self.backbone == "conv" and len(widths) < 2:
            raise ValueError(
                f"`block_out_channels` of the conv backbone needs at least two entries: its last transposed "
                f"convolution makes the picture, got {list(widths)}."
            )
        if self.backbone in ("resnet", "dalle") and self.layers_per_block < 1:
            raise ValueError(
                f"`layers_per_block` must be >= 1 for the `{self.backbone}` backbone, whose blocks change the width "
                f"between levels, got {self.layers_per_block}."
            )
        stride = self.downsample_factor
        if self.height % stride or self.width % stride:
            raise ValueError(
                f"`image_size` must be a multiple of {stride} ({len(widths) - 1} stride-2 levels: "
                f"`block_out_channels` has {len(widths)} entries), got {self.image_size}."
            )
        if self.backbone == "resnet" and any(width % self.norm_num_groups for width in widths):
            raise ValueError(
                f"`norm_num_groups` must divide every entry of `block_out_channels` {list(widths)}, "
                f"got {self.norm_num_groups}."
            )
