# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""Configuration of the VQ-VAE and of its quantizers."""

from huggingface_hub.dataclasses import strict

from .configuration_base import AutoencoderConfig


MAX_CODEBOOK_SIZE = 2**24  # a codebook of 64-d float32 codes then holds 4 GiB; larger numbers are typing mistakes
MAX_CODEBOOK_NUMBERS = 2**32  # codes times their width: 16 GiB

NEAREST_CODE_QUANTIZERS = ("vq", "l2", "ema", "simvq")

# Which fields a quantizer reads; `residual` also reads those of its levels. `register_quantizer` adds to it.
QUANTIZER_FIELDS = {
    "vq": (
        "normalize_codes", "normalize_look_up", "gradient", "codebook_init", "revive_dead_codes", "dead_code_threshold",
        "codebook_seed",
    ),
    "l2": ("gradient", "codebook_init", "revive_dead_codes", "dead_code_threshold", "codebook_seed"),
    "ema": (
        "normalize_codes", "gradient", "codebook_init", "revive_dead_codes", "dead_code_threshold", "codebook_seed",
        "ema_decay", "ema_epsilon",
    ),
    "simvq": ("gradient", "codebook_seed"),
    "fsq": ("fsq_levels",),
    "residual": ("num_quantizers", "level_quantizer"),
}  # fmt: skip


def validate_codebook(codebook_size: int, codebook_dim: int):
    """Refuses sizes that no codebook can have, before memory is asked for."""
    if not 1 <= codebook_size <= MAX_CODEBOOK_SIZE:
        raise ValueError(f"`codebook_size` must lie in 1..{MAX_CODEBOOK_SIZE}, got {codebook_size}.")
    if codebook_dim < 1:
        raise ValueError(f"`codebook_dim` must be at least 1, got {codebook_dim}.")
    if codebook_size * codebook_dim > MAX_CODEBOOK_NUMBERS:
        raise ValueError(
            f"`codebook_size` times `codebook_dim` must be at most {MAX_CODEBOOK_NUMBERS}, "
            f"got {codebook_size} times {codebook_dim}."
        )


@strict
class VQVAEConfig(AutoencoderConfig):
    """A VQ-VAE: an encoder, a codebook of `codebook_size` vectors of `codebook_dim` numbers, a decoder.

    Args:
        codebook_size (`int`): K, the number of codes.
        codebook_dim (`int`): D, the width of a code.
        latent_channels (`int`, *optional*): `resnet` only: width of the encoder's output before `quant_conv`;
            `codebook_dim` when not given.
        quantizer (`str`): `vq` (codebook loss), `l2` (`vq` on the unit sphere), `ema` (moving averages), `simvq`,
            `fsq` (no codebook to learn), `residual` (several in depth).
        commitment_cost (`float`): beta, the weight of ||z_e - sg[e]||^2.
        legacy_commitment (`bool`): beta on the codebook term instead, as taming-transformers trained its published
            weights; for converted weights only.
        ema_decay (`float`): gamma of the moving averages; a code unused for 460 batches keeps 1 % (0.99 ** 460).
        ema_epsilon (`float`): Laplace smoothing of the counts (sonnet's value).
        normalize_codes (`bool`): compare directions: latents and codes are scaled to length 1.
        normalize_look_up (`bool`): codes are scaled to length 1 where they are looked up, not where they are compared,
            as in transformers' Janus; for converted weights only.
        gradient (`str`): how the gradient passes the look-up: `straight_through`, or `rotation` (Fifty et al. 2024).
        codebook_init (`str`, *optional*): `uniform` (+-1/K) or `data` (k-means on the first batch). Not given: `data`
            for codebooks that are moving averages, `uniform` else.
        revive_dead_codes (`bool`, *optional*): draw unused codes anew from the batch. Not given: as `codebook_init`.
        dead_code_threshold (`float`): a code is dead when its averaged count is below this share of the mean count.
        codebook_seed (`int`): seed of k-means, revival and fixed codebooks; equal on all processes.
        fsq_levels: values per dimension of FSQ, their product is `codebook_size`. Not given: as equal as possible.
        num_quantizers (`int`): depth of `residual`.
        level_quantizer (`str`): quantizer of each level of `residual`: `vq`, `l2`, `ema` or `simvq`.
        data_variance (`float`): variance of the [0, 1] pixels of the training data; `mse` is divided by it, so that
            losses compare between data sets (van den Oord et al. 2017, sonnet). train.py measures it.

    >>> VQVAEConfig(image_size=28, num_channels=1).grid_size
    (7, 7)
    """

    model_type = "vqvae"
    attribute_map = {"num_vq_embeddings": "codebook_size", "vq_embed_dim": "codebook_dim"}
    backbones = ("conv", "resnet")

    codebook_size: int = 512
    codebook_dim: int = 64
    latent_channels: int | None = None
    quantizer: str = "ema"
    commitment_cost: float | int = 0.25
    legacy_commitment: bool = False
    ema_decay: float | int = 0.99
    ema_epsilon: float | int = 1e-5
    normalize_codes: bool = False
    normalize_look_up: bool = False
    gradient: str = "straight_through"
    codebook_init: str | None = None
    revive_dead_codes: bool | None = None
    dead_code_threshold: float | int = 0.03
    codebook_seed: int = 0
    fsq_levels: list[int] | tuple[int, ...] | None = None
    num_quantizers: int = 2
    level_quantizer: str = "ema"
    data_variance: float | int = 1.0

    @property
    def encoder_channels(self) -> int:
        """Width of the encoder's output, which is `latent_channels` where given, the code's width else."""
        return self.codebook_dim if self.latent_channels is None else self.latent_channels

    @property
    def moves_by_averages(self) -> bool:
        """True if the codebook follows moving averages of the latents, not gradients."""
        return (self.level_quantizer if self.quantizer == "residual" else self.quantizer) == "ema"

    @property
    def initializes_from_data(self) -> bool:
        return self.moves_by_averages if self.codebook_init is None else self.codebook_init == "data"

    @property
    def revives_dead_codes(self) -> bool:
        return self.moves_by_averages if self.revive_dead_codes is None else self.revive_dead_codes

    @property
    def sets_parameters_from_data(self) -> bool:
        """True if a codebook that gradients move is also written to by its start from data, or by revival."""
        kind = self.level_quantizer if self.quantizer == "residual" else self.quantizer
        return kind in ("vq", "l2") and (self.initializes_from_data or self.revives_dead_codes)

    @property
    def codes_per_position(self) -> int:
        return self.num_quantizers if self.quantizer == "residual" else 1

    @property
    def ignored_fields(self) -> frozenset[str]:
        used = set(QUANTIZER_FIELDS[self.quantizer])
        if self.quantizer == "residual":
            used |= set(QUANTIZER_FIELDS[self.level_quantizer])
        every = {name for fields in QUANTIZER_FIELDS.values() for name in fields}
        ignored = (every - used) | {"learned_variance"}
        if self.backbone != "resnet":
            ignored.add("latent_channels")
        if self.reconstruction_loss != "mse":
            ignored.add("data_variance")
        if self.quantizer == "fsq":  # no learned codes: nothing to commit to
            ignored |= {"commitment_cost", "legacy_commitment"}
        return super().ignored_fields | ignored

    def validate_quantizer(self):
        validate_codebook(self.codebook_size, self.codebook_dim)
        if self.quantizer not in QUANTIZER_FIELDS:
            raise ValueError(
                f"`quantizer` must be one of {', '.join(QUANTIZER_FIELDS)}, got {self.quantizer!r}. A class of your "
                f"own has to be known first: hf_autoencoders.register_quantizer({self.quantizer!r}, YourClass)."
            )
        _one_of("level_quantizer", self.level_quantizer, NEAREST_CODE_QUANTIZERS)
        _one_of("gradient", self.gradient, ("straight_through", "rotation"))
        _one_of("codebook_init", self.codebook_init, ("uniform", "data", None))
        if not 0 <= self.ema_decay < 1:
            raise ValueError(f"`ema_decay` must lie in [0, 1), got {self.ema_decay}.")
        if self.commitment_cost < 0 or self.dead_code_threshold < 0 or self.ema_epsilon < 0:
            raise ValueError(
                "`commitment_cost`, `dead_code_threshold` and `ema_epsilon` must be >= 0, "
                f"got {self.commitment_cost}, {self.dead_code_threshold}, {self.ema_epsilon}."
            )
        if self.num_quantizers < 1:
            raise ValueError(f"`num_quantizers` must be at least 1, got {self.num_quantizers}.")
        if self.learned_variance:
            raise ValueError("A vqvae divides its error by `data_variance`; `learned_variance` belongs to ae and vae.")
        if self.data_variance <= 0:
            raise ValueError(f"`data_variance` must be positive, got {self.data_variance}.")
        if self.latent_channels is not None and self.latent_channels < 1:
            raise ValueError(f"`latent_channels` must be at least 1, got {self.latent_channels}.")


def _one_of(name: str, value: str | None, choices: tuple):
    if value not in choices:
        raise ValueError(f"`{name}` must be one of {', '.join(map(str, choices))}, got {value!r}.")
