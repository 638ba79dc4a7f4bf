# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""Grids of image tokens to sequences that a language model reads, and back."""

import hashlib
import math
from collections.abc import Sequence
from numbers import Integral
from pathlib import Path

import torch
from huggingface_hub import try_to_load_from_cache
from torch import Tensor
from transformers import AutoFeatureExtractor, BatchFeature, FeatureExtractionMixin

from ..models.configuration_image_token_lm import ImageTokenLMConfig
from ..models.image_token_ids import ImageTokenIds, is_finite


MAX_SIZE = 2**24  # codes, classes and positions; the largest codebook that the models accept
IGNORED = -100  # target of a position that no loss counts; transformers' and torch's number


def commit_of(name: str | None, revision: str | None = None) -> str | None:
    """The commit of a model that was just loaded from the Hub, read from the cache; None for a folder."""
    if not name or Path(name).exists():
        return None
    path = try_to_load_from_cache(name, "config.json", revision=revision or "main")
    return Path(path).parent.name if isinstance(path, str) else None


def digest_of(model, prefixes: tuple[str, ...]) -> str:
    """16 hexadecimal digits of a hash over the model's weights below these names, without training state."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        if name.startswith(prefixes) and ".state." not in name:
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]


def codebook_of(model) -> str | None:
    """16 hexadecimal digits of a hash over the model's codebook; None if the codebook was cast to fewer bits.

    A model that is loaded in half precision keeps its codebook in float32, so its hash stays the same.
    """
    if any(tensor.dtype in (torch.float16, torch.bfloat16) for tensor in model.quantize.state_dict().values()):
        return None
    return digest_of(model, ("quantize.",))


def check_sizes(codebook_size: int, grid_size: Sequence[int], num_classes: int) -> None:
    """Raises ValueError for sizes that cannot be; a damaged file must not take all memory."""
    if not all(isinstance(size, Integral) for size in (codebook_size, num_classes)):
        raise ValueError(f"Sizes are whole numbers, got `codebook_size` {codebook_size!r}, {num_classes!r} classes.")
    if not 1 <= codebook_size <= MAX_SIZE or not 0 <= num_classes <= MAX_SIZE:
        raise ValueError(
            f"`codebook_size` must be >= 1, `num_classes` >= 0, and both at most {MAX_SIZE}, "
            f"got {codebook_size} and {num_classes}."
        )
    if not isinstance(grid_size, list | tuple | torch.Size) or len(grid_size) not in (2, 3):
        raise ValueError(f"`grid_size` must be (h, w) or (h, w, depth), got {grid_size!r}.")
    if not all(isinstance(side, Integral) and 1 <= side <= MAX_SIZE for side in grid_size):
        raise ValueError(f"`grid_size` must hold whole numbers of at least 1, got {tuple(grid_size)}.")
    if math.prod(grid_size) > MAX_SIZE:
        raise ValueError(f"`grid_size` {tuple(grid_size)} has more than {MAX_SIZE} positions.")


class ImageTokenSequencer(FeatureExtractionMixin):
    """Image tokens (B, h, w) <-> token ids (B, 1 + h*w), beginning with the class. See `ImageTokenIds` for the numbers.

    It is JSON beside the prior: `AutoFeatureExtractor.from_pretrained(prior)` gives it back.

    Args:
        codebook_size: K, codes of the image model.
        grid_size: (h, w), or (h, w, depth) for a residual quantizer.
        num_classes: C; 0 for pictures without classes.
        class_dropout: share of training sequences that lose their class; guidance needs some (0.1 is usual).
        class_names: of the C classes, by which they can be asked for; None if they have only numbers.
        image_tokenizer, image_tokenizer_revision: Hub id, or path, and commit of the image model.
        image_tokenizer_codebook: `codebook_of` that model; it tells models of equal sizes apart.

    >>> sequencer = ImageTokenSequencer(codebook_size=128, grid_size=(7, 7), num_classes=10)
    >>> batch = sequencer(torch.zeros(2, 7, 7, dtype=torch.int64), labels=[3, 7])
    >>> batch["input_ids"].shape, sequencer.to_image_tokens(batch["input_ids"]).shape
    (torch.Size([2, 50]), torch.Size([2, 7, 7]))
    """

    model_input_names = ["input_ids", "labels"]

    def __init__(
        self,
        codebook_size: int,
        grid_size: Sequence[int],
        num_classes: int = 0,
        class_dropout: float = 0.0,
        image_tokenizer: str | None = None,
        image_tokenizer_revision: str | None = None,
        image_tokenizer_codebook: str | None = None,
        class_names: Sequence[str] | None = None,
        **kwargs,
    ):
        check_sizes(codebook_size, grid_size, num_classes)
        if not is_finite(class_dropout):
            raise ValueError(f"`class_dropout` must be a number in [0, 1), got {class_dropout!r}.")
        if not 0 <= class_dropout < 1 or (class_dropout and not num_classes):
            raise ValueError(
                f"`class_dropout` must lie in [0, 1), and be 0 without classes, got {class_dropout} with "
                f"{num_classes} classes."
            )
        if class_names is not None and (not isinstance(class_names, list | tuple) or len(class_names) != num_classes):
            raise ValueError(f"`class_names` must name {num_classes} classes, got {class_names!r}.")
        self.class_names = None if class_names is None else [str(name) for name in class_names]
        self.codebook_size = codebook_size
        self.grid_size = list(grid_size)
        self.num_classes = num_classes
        self.class_dropout = class_dropout
        self.image_tokenizer = image_tokenizer
        self.image_tokenizer_revision = image_tokenizer_revision
        self.image_tokenizer_codebook = image_tokenizer_codebook
        self.order = "raster"  # the only one; named, so that a file says what it holds
        if kwargs.pop("order", "raster") != "raster":
            raise ValueError("`order` must be 'raster': rows from top to bottom, each from left to right.")
        super().__init__(**kwargs)

    @classmethod
    def for_model(
        cls,
        image_model,
        num_classes: int = 0,
        class_dropout: float = 0.0,
        revision: str | None = None,
        class_names: Sequence[str] | None = None,
    ) -> "ImageTokenSequencer":
        """The sequencer of a model with a codebook. `revision`: where on the Hub it was loaded from, if not main."""
        config = image_model.config
        depth = config.codes_per_position
        return cls(
            codebook_size=image_model.codebook_size,
            grid_size=[*image_model.grid_size, *([depth] if depth > 1 else [])],
            num_classes=num_classes,
            class_dropout=class_dropout,
            image_tokenizer=config.name_or_path or None,
            image_tokenizer_revision=commit_of(config.name_or_path, revision),
            image_tokenizer_codebook=codebook_of(image_model),
            class_names=class_names,
        )

    @property
    def ids(self) -> ImageTokenIds:
        num_tokens = torch.Size(self.grid_size).numel()
        names = tuple(self.class_names or ())
        return ImageTokenIds(self.codebook_size, num_tokens, self.num_classes, self.class_dropout, names)

    @property
    def vocab_size(self) -> int:
        return self.ids.vocab_size

    @property
    def sequence_length(self) -> int:
        """The prompt and all image tokens of a picture."""
        return 1 + self.ids.num_tokens

    def __call__(
        self,
        image_tokens: Tensor,
        labels: Sequence[int | str] | Tensor | None = None,
        class_dropout: float = 0.0,
        generator: torch.Generator | None = None,
    ) -> BatchFeature:
        """Sequences to train on.

        Args:
            image_tokens: (B, h, w), (B, h, w, depth), or flat (B, N).
            labels: class of each picture; None makes all of them pictures without a class.
            class_dropout: share of the classes to replace by `begin`, drawn with `generator`.

        Returns:
            `input_ids` (B, 1 + N), and `labels` of the same shape: the ids, with nothing to predict at the prompt. A
            causal language model's loss on them is in nats per code.
        """
        flat = self.flatten(image_tokens)  # (B, N)
        prompt = self.ids.prompt(labels, len(flat)).to(flat.device)
        if class_dropout:
            device = None if generator is None else generator.device
            dropped = torch.rand(prompt.shape, generator=generator, device=device) < class_dropout
            prompt = prompt.masked_fill(dropped.to(prompt.device), self.ids.begin)
        input_ids = torch.cat([prompt, flat], dim=1)
        targets = torch.cat([torch.full_like(prompt, IGNORED), flat], dim=1)
        return BatchFeature({"input_ids": input_ids, "labels": targets})

    def flatten(self, image_tokens: Tensor) -> Tensor:
        """(B, h, w), (B, h, w, depth) or (B, N) -> (B, N) int64 in raster order, checked."""
        grid, count = tuple(self.grid_size), self.ids.num_tokens
        if tuple(image_tokens.shape[1:]) not in (grid, (count,)):
            fits = f"(B, {', '.join(map(str, grid))}) or (B, {count})"
            raise ValueError(f"Image tokens must have shape {fits}, got {tuple(image_tokens.shape)}.")
        if image_tokens.is_floating_point():
            raise ValueError(f"Image tokens are whole numbers, got {image_tokens.dtype}.")
        flat = image_tokens.long().flatten(1)
        if flat.numel() and (flat.min() < 0 or flat.max() >= self.codebook_size):
            raise ValueError(
                f"Image tokens must lie in 0..{self.codebook_size - 1} (the codebook's size), "
                f"got {flat.min()}..{flat.max()}."
            )
        return flat

    def prompt(self, labels: Sequence[int | str] | Tensor | None = None, num_images: int | None = None) -> Tensor:
        """What `generate` begins with: (B, 1) int64."""
        return self.ids.prompt(labels, num_images)

    def generation_kwargs(self) -> dict:
        """Keyword arguments of `generate` that give exactly one picture a prompt."""
        return self.ids.generation_kwargs()

    def to_image_tokens(self, ids: Tensor) -> Tensor:
        """Sequences (B, 1 + N), or image tokens without their prompt (B, N), -> (B, h, w) or (B, h, w, depth)."""
        if ids.dim() != 2 or ids.shape[1] not in (self.ids.num_tokens, self.sequence_length):
            raise ValueError(
                f"A sequence of this model has {self.sequence_length} ids ({self.ids.num_tokens} without its prompt), "
                f"got shape {tuple(ids.shape)}."
            )
        return self.flatten(ids[:, -self.ids.num_tokens :]).view(-1, *self.grid_size)


AutoFeatureExtractor.register(ImageTokenLMConfig, ImageTokenSequencer, exist_ok=True)
