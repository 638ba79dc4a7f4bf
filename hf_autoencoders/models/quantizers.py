# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""Quantizers: from the encoder's vectors to codes and back. The table of all, and how to add one::

    z_e (B, D, h, w) --encode--> codes (B, h, w) --get_codebook_entry--> z_q (B, D, h, w)

`forward` does both, weighs nothing, and in training lets the codebook follow. Everything is computed in at least
float32, also under autocast; codebooks and their state stay float32 when the model around them is cast to 16 bits.
Letters in shapes: B batch, h w grid, N = B h w vectors, D their width, K codes.
"""

from .configuration_vqvae import QUANTIZER_FIELDS
from .quantizer_base import Quantizer
from .quantizer_fsq import FiniteScalarQuantizer
from .quantizer_gumbel import GumbelQuantizer
from .quantizer_residual import ResidualQuantizer
from .quantizer_vq import NEAREST_CODE


QUANTIZERS: dict[str, type[Quantizer]] = {
    **NEAREST_CODE,
    "residual": ResidualQuantizer,
    "fsq": FiniteScalarQuantizer,
    "gumbel": GumbelQuantizer,
}
BUILT_IN = frozenset(QUANTIZERS)


def register_quantizer(name: str, quantizer: type[Quantizer], fields: tuple[str, ...] = ()) -> None:
    """Makes `VQVAEConfig(quantizer=name)` build `quantizer(config)`, without a change to this package.

    Call it before a model with it is built or loaded, in every process. The class does not travel with saved weights.

    Args:
        name: for the config; one of this package's own names is refused, one of yours is replaced.
        quantizer: a subclass of `Quantizer`; it may read any field of the config, also ones of its own.
        fields: names of the config's fields that it reads, among those that other quantizers read.

    Raises:
        ValueError: the name is taken by this package, or the class is no `Quantizer`.
    """
    if name in BUILT_IN:
        raise ValueError(f"`{name}` is a quantizer of this package: choose a name other than {', '.join(QUANTIZERS)}.")
    if not (isinstance(quantizer, type) and issubclass(quantizer, Quantizer)):
        raise ValueError(f"A quantizer is a subclass of `Quantizer`, got {quantizer!r}.")
    QUANTIZERS[name], QUANTIZER_FIELDS[name] = quantizer, tuple(fields)
