# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""Autoencoders for the Hugging Face world: AE, VAE, VQ-VAE, dVAE.

Importing this package makes `AutoConfig`, `AutoModel` and `AutoImageProcessor` of transformers know the four models.
"""

import importlib
import os

from .own_process import is_console_command, program_of, runs_a_command


# Idle OpenMP threads spin while they wait. Where other programs want the cores, that made a step 8 times as slow
# (320 ms, now 40 ms, two threads on two busy cores). Read when torch is imported: no module of a command is earlier.
if runs_a_command():
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# The import of torch and transformers takes seconds. `hf-autoencoders` leaves it to its commands: its --help is quick.
if not is_console_command(program_of()):
    from .models import (
        AEConfig,
        AEModel,
        AutoencoderImageProcessor,
        AutoencoderImageProcessorPil,
        DVAEConfig,
        DVAEModel,
        ImageTokenLM,
        ImageTokenLMConfig,
        Quantized,
        Quantizer,
        VAEConfig,
        VAEModel,
        VQVAEConfig,
        VQVAEModel,
        register_quantizer,
    )

__version__ = "0.2.0"

# Names that cost an import of their own (diffusers, datasets): brought in when they are first asked for.
LAZY_NAMES = {
    "ImageTokenSequencer": ".priors.sequences",
    "from_diffusers": ".hub.diffusers_export",
    "generate_images": ".priors.autoregressive",
    "load_token_dataset": ".priors.token_datasets",
    "to_diffusers": ".hub.diffusers_export",
    "train": ".commands.in_python",
}

__all__ = [
    "AEConfig",
    "AEModel",
    "AutoencoderImageProcessor",
    "AutoencoderImageProcessorPil",
    "DVAEConfig",
    "DVAEModel",
    "ImageTokenLM",
    "ImageTokenLMConfig",
    "Quantized",
    "Quantizer",
    "VAEConfig",
    "VAEModel",
    "VQVAEConfig",
    "VQVAEModel",
    "register_quantizer",
    *LAZY_NAMES,
]


def __getattr__(name: str):
    if name in LAZY_NAMES:
        return getattr(importlib.import_module(LAZY_NAMES[name], __name__), name)
    if name in __all__:  # in `hf-autoencoders`, before its command imports the models
        return getattr(importlib.import_module(".models", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return sorted({*globals(), *LAZY_NAMES})
