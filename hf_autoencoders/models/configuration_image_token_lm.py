# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""Configuration of an image model and a language model of its tokens, in one."""

from typing import Any

from huggingface_hub.dataclasses import strict
from transformers import AutoConfig, PreTrainedConfig

from .configuration_dvae import DVAEConfig
from .configuration_vqvae import VQVAEConfig
from .image_token_ids import ImageTokenIds


# By name and not through AutoConfig, which does not know these classes where this file travels without its package.
IMAGE_CONFIGS = {config.model_type: config for config in (VQVAEConfig, DVAEConfig)}


# The default language model, of the size that train_prior.py takes; transformers' own default has 7 billion parameters.
SMALL_LLAMA = {
    "model_type": "llama",
    "hidden_size": 128,
    "intermediate_size": 352,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
}


@strict
class ImageTokenLMConfig(PreTrainedConfig):
    """A VQ-VAE or dVAE, and a causal language model of its tokens.

    Args:
        image_model: config of the image model (`model_type` vqvae or dvae), or the dict of one.
        language_model: config of the language model, or the dict of one; any causal model of transformers whose
            `vocab_size` is that of `token_ids`. A small Llama if None.
        num_classes (`int`): classes that a picture can be asked for; 0 for none.
        class_dropout (`float`): share of training sequences without their class; guidance needs some.
        class_names (`list[str]`): of the classes, by which they can be asked for; None if they have only numbers.
    """

    model_type = "image_token_lm"
    sub_configs = {"language_model": AutoConfig}  # attn_implementation goes there; the image model has none to choose
    keys_to_ignore_at_inference = ["image_tokens", "hidden_states", "attentions"]  # Trainer would gather them

    image_model: dict[str, Any] | PreTrainedConfig | None = None
    language_model: dict[str, Any] | PreTrainedConfig | None = None
    num_classes: int = 0
    class_dropout: float | int = 0.0
    class_names: list[str] | tuple[str, ...] | None = None
    tie_word_embeddings: bool = False  # the language model ties its own

    def __post_init__(self, **kwargs):
        self.image_model = as_image_config(self.image_model)
        self.language_model = as_language_config(self.language_model, self.token_ids)
        super().__post_init__(**kwargs)

    @property
    def token_ids(self) -> ImageTokenIds:
        """Which number stands for what in the language model's vocabulary."""
        height, width = self.image_model.grid_size
        num_tokens = height * width * self.image_model.codes_per_position
        names = tuple(self.class_names or ())
        return ImageTokenIds(self.image_model.codebook_size, num_tokens, self.num_classes, self.class_dropout, names)

    def validate_vocabulary(self):
        if self.num_classes < 0 or not 0 <= self.class_dropout < 1:
            raise ValueError(
                "`num_classes` must be >= 0 and `class_dropout` in [0, 1), "
                f"got {self.num_classes} and {self.class_dropout}."
            )
        if self.class_names is not None and len(self.class_names) != self.num_classes:
            raise ValueError(f"{len(self.class_names)} `class_names` do not name {self.num_classes} classes.")
        ids, found = self.token_ids, self.language_model.vocab_size
        if found != ids.vocab_size:
            raise ValueError(
                f"The language model has a vocabulary of {found}, but {ids.codebook_size} codes, {ids.num_classes} "
                f"classes, begin and mask make {ids.vocab_size}."
            )


def as_image_config(config: dict[str, Any] | PreTrainedConfig | None) -> PreTrainedConfig:
    if config is None:
        return VQVAEConfig()
    if isinstance(config, PreTrainedConfig):
        return config
    model_type = config.get("model_type")
    if not isinstance(model_type, str) or model_type not in IMAGE_CONFIGS:
        raise ValueError(f"`image_model` must have image tokens ({' or '.join(IMAGE_CONFIGS)}), got {model_type!r}.")
    return IMAGE_CONFIGS[model_type](**{key: value for key, value in config.items() if key != "auto_map"})


def as_language_config(config: dict[str, Any] | PreTrainedConfig | None, ids: ImageTokenIds) -> PreTrainedConfig:
    if isinstance(config, PreTrainedConfig):
        return config
    fields = dict(config) if config else {**SMALL_LLAMA, "vocab_size": ids.vocab_size, "eos_token_id": None}
    model_type = fields.pop("model_type", None)
    if not isinstance(model_type, str):
        raise ValueError(f"`language_model` must name its `model_type`, got {model_type!r}.")
    return AutoConfig.for_model(model_type, **fields)
