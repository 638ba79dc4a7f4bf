# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""Tokens to pictures and back, and a language model that writes them, in one: classes -> tokens -> pictures."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, PreTrainedModel
from transformers.utils import ModelOutput

from .configuration_image_token_lm import ImageTokenLMConfig
from .image_token_ids import generate_ids
from .model_card import WritesItsCard
from .modeling_dvae import DVAEModel
from .modeling_vqvae import VQVAEModel


# By name and not through AutoModel, which does not know these classes where this file travels without its package.
IMAGE_MODELS = {model.config_class.model_type: model for model in (VQVAEModel, DVAEModel)}


@dataclass
class ImageTokenLMOutput(ModelOutput):
    """What a forward pass gives.

    Args:
        loss: cross-entropy of the image tokens in nats per code, a scalar.
        logits: (B, N, vocabulary): at position i the scores of image token i.
        image_tokens: (B, h, w), or (B, h, w, depth).
        hidden_states, attentions: of the language model, where they are asked for.
    """

    loss: Tensor | None = None
    logits: Tensor | None = None
    image_tokens: Tensor | None = None
    hidden_states: tuple[Tensor, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None


class ImageTokenLM(WritesItsCard, PreTrainedModel):
    """An image model with a codebook (`image_model`) and a causal language model of its tokens (`language_model`).

    Training moves the language model alone: the image model is frozen and stays in eval mode.

    >>> from transformers import LlamaConfig
    >>> llama = LlamaConfig(vocab_size=512 + 10 + 2, hidden_size=16, num_hidden_layers=1, num_attention_heads=2)
    >>> model = ImageTokenLM(ImageTokenLMConfig(num_classes=10, language_model=llama))
    >>> model.generate_images(labels=[3, 7], generator=torch.Generator().manual_seed(0)).shape
    torch.Size([2, 3, 32, 32])
    """

    config: ImageTokenLMConfig
    config_class = ImageTokenLMConfig
    main_input_name = "pixel_values"
    input_modalities = ("image",)
    supports_gradient_checkpointing = True
    accepts_loss_kwargs = False
    _supports_sdpa = _supports_flash_attn = _supports_flex_attn = _supports_attention_backend = True  # or it says not

    def __init__(self, config: ImageTokenLMConfig):
        config.validate()
        super().__init__(config)
        self.image_model = IMAGE_MODELS[config.image_model.model_type](config.image_model)
        self.language_model = AutoModelForCausalLM.from_config(config.language_model)
        self.image_model.requires_grad_(False)
        self.post_init()

    @classmethod
    def from_pretrained(cls, *model_args, **kwargs):
        """As in transformers, which makes every loaded parameter trainable; the image model is frozen again."""
        loaded = super().from_pretrained(*model_args, **kwargs)
        model = loaded[0] if isinstance(loaded, tuple) else loaded
        model.image_model.requires_grad_(False)
        return loaded

    def train(self, mode: bool = True) -> "ImageTokenLM":
        """Training mode of the language model; the image model stays in eval mode."""
        super().train(mode)
        self.image_model.eval()
        return self

    @torch.no_grad()
    def _init_weights(self, module):
        """Both parts were initialised by their own rules when they were built."""

    @classmethod
    def from_parts(
        cls,
        image_model: PreTrainedModel,
        language_model: PreTrainedModel,
        num_classes: int = 0,
        class_dropout: float = 0.0,
        class_names: Sequence[str] | None = None,
    ) -> "ImageTokenLM":
        """Both models in one, with copies of their weights.

        Raises:
            ValueError: the language model's vocabulary is not that of the image model's tokens.
        """
        config = ImageTokenLMConfig(
            image_model={**image_model.config.to_dict(), "_name_or_path": ""},  # often a folder of this machine
            language_model={**language_model.config.to_dict(), "_name_or_path": ""},
            num_classes=num_classes,
            class_dropout=class_dropout,
            class_names=list(class_names) if class_names else None,
        )
        model = cls(config)
        model.image_model.load_state_dict(image_model.state_dict())
        model.language_model.load_state_dict(language_model.state_dict())
        return model.eval()

    @property
    def dummy_inputs(self) -> dict[str, Tensor]:
        return self.image_model.dummy_inputs

    @torch.no_grad()
    def generate_images(
        self,
        labels: Sequence[int | str] | Tensor | None = None,
        num_images: int | None = None,
        generator: torch.Generator | None = None,
        guidance_scale: float = 1.0,
        **options,
    ) -> Tensor:
        """New pictures (B, C, H, W) on the [-1, 1] scale.

        Args:
            labels: class of each picture, its number or its name. Without them, `num_images` pictures.
            generator: same state, same pictures.
            guidance_scale: above 1: pictures show their class more clearly; the model must know a null class.
            options: of transformers' `generate`: temperature, top_k, top_p, ...
        """
        ids = generate_ids(
            self.language_model, self.config.token_ids, labels, num_images, generator, guidance_scale, **options
        )
        return self.image_model.decode_image_tokens(self.image_model.as_grid(ids, None))

    def get_input_embeddings(self) -> torch.nn.Module:
        return self.language_model.get_input_embeddings()

    def set_input_embeddings(self, value: torch.nn.Module) -> None:
        self.language_model.set_input_embeddings(value)

    def get_output_embeddings(self) -> torch.nn.Module | None:
        return self.language_model.get_output_embeddings()

    def forward(
        self,
        pixel_values: Tensor,
        classes: Tensor | None = None,
        return_loss: bool = True,
        return_dict: bool | None = None,
        output_hidden_states: bool | None = None,
        output_attentions: bool | None = None,
    ) -> ImageTokenLMOutput | tuple:
        """How well the language model knows the tokens of `pixel_values` (B, C, H, W), given their `classes` (B,)."""
        config = self.config
        image_tokens = self.image_model.get_image_tokens(pixel_values)  # (B, h, w)
        flat = image_tokens.flatten(1)  # (B, N)
        prompt = config.token_ids.prompt(classes, len(flat)).to(flat.device)  # (B, 1)
        said = self.language_model(
            input_ids=torch.cat([prompt, flat[:, :-1]], dim=1),
            use_cache=False,
            output_hidden_states=config.output_hidden_states if output_hidden_states is None else output_hidden_states,
            output_attentions=config.output_attentions if output_attentions is None else output_attentions,
            return_dict=True,
        )
        logits, loss = said.logits, None  # (B, N, vocabulary)
        if return_loss:
            loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1).float(), flat.flatten().to(logits.device))
        output = ImageTokenLMOutput(loss, logits, image_tokens, said.hidden_states, said.attentions)
        return output if (config.return_dict if return_dict is None else return_dict) else output.to_tuple()
