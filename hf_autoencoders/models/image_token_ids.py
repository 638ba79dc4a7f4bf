# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""Numbers that a language model sees in place of a picture, and how it draws new ones.

    0 .. K-1      image tokens, in raster order
    K .. K+C-1    the C classes
    K+C           begin: the prompt of a picture without a class, and the null class of guidance
    K+C+1         mask, and padding

A sequence is one prompt (a class, or begin) and then all image tokens of a picture. There is no end: every sequence has
the same length, and a language model's default end (2 for Llama) is a valid image token that would cut pictures short.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from numbers import Integral, Real

import torch
from torch import Tensor


@dataclass(frozen=True)
class ImageTokenIds:
    """The ids of one image model and its classes.

    Args:
        codebook_size: K.
        num_tokens: image tokens of one picture.
        num_classes: C; 0 for a model of pictures alone.
        class_dropout: share of training sequences whose class was replaced by `begin`. Without any, the model never
            learned what guidance compares with.
        class_names: of the C classes, by which they can be asked for; empty if they have only numbers.

    >>> ids = ImageTokenIds(codebook_size=128, num_tokens=49, num_classes=10)
    >>> ids.begin, ids.mask, ids.vocab_size, ids.prompt([3, 7]).tolist()
    (138, 139, 140, [[131], [135]])
    """

    codebook_size: int
    num_tokens: int
    num_classes: int = 0
    class_dropout: float = 0.0
    class_names: tuple[str, ...] = ()

    @property
    def begin(self) -> int:
        return self.codebook_size + self.num_classes

    @property
    def mask(self) -> int:
        return self.begin + 1

    @property
    def vocab_size(self) -> int:
        return self.begin + 2

    def classes(self, labels: Sequence[int | str]) -> list[int | str]:
        """These classes by name, or by number where there are no names. Raises ValueError for one that is unknown."""
        numbers = (self.prompt(labels)[:, 0] - self.codebook_size).tolist()
        return [self.class_names[number] for number in numbers] if self.class_names else numbers

    def prompt(self, labels: Sequence[int | str] | Tensor | None = None, num_images: int | None = None) -> Tensor:
        """First token of each sequence, (B, 1) int64: its class, or `begin` for `num_images` without one.

        Args:
            labels: class of each picture, its number or its name.
        """
        if labels is None:
            if num_images is None:
                raise ValueError("Without labels, `num_images` must say how many (at least 1); got None.")
            check_count(num_images)
            return torch.full((num_images, 1), self.begin)
        if not self.num_classes:
            raise ValueError("Labels were given, but this model was made without classes (`num_classes` is 0).")
        labels = as_class_numbers(labels, self.class_names)
        if labels.dim() != 1 or labels.is_floating_point() or not labels.numel():
            raise ValueError(f"`labels` must be a list of class numbers, got {labels.dtype} {tuple(labels.shape)}.")
        if num_images is not None and num_images != len(labels):
            raise ValueError(f"`num_images` is {num_images}, but there are {len(labels)} labels; give one of them.")
        if not torch.compiler.is_compiling() and (labels.min() < 0 or labels.max() >= self.num_classes):
            raise ValueError(f"Labels must lie in 0..{self.num_classes - 1}, got {labels.min()}..{labels.max()}.")
        return (self.codebook_size + labels.long())[:, None]

    def check_guidance(self, guidance_scale: float, labels: Sequence[int] | Tensor | None) -> None:
        """Guidance compares a class with the null class: there must be both."""
        if not is_finite(guidance_scale):
            raise ValueError(f"`guidance_scale` must be a finite number, got {guidance_scale!r}.")
        if guidance_scale == 1:
            return
        if labels is None:
            raise ValueError(f"`guidance_scale`={guidance_scale} leads towards a class: give `labels`.")
        if not self.class_dropout:
            raise ValueError(
                f"`guidance_scale`={guidance_scale} needs a null class, but this model was trained with "
                "`class_dropout` 0 and knows none; train it with 0.1, or use guidance_scale=1."
            )

    def generation_kwargs(self) -> dict:
        """What `generate` must be told: exactly one picture, only image tokens, sampled from all of them."""
        return {
            "max_new_tokens": self.num_tokens,
            "min_new_tokens": None,
            "do_sample": True,
            "temperature": 1.0,
            "top_k": 0,  # transformers 4 took 50
            "top_p": 1.0,
            "num_beams": 1,
            "suppress_tokens": list(range(self.codebook_size, self.vocab_size)),
            "bos_token_id": self.begin,
            "eos_token_id": None,
            "pad_token_id": self.mask,
        }

    def guidance_kwargs(self, guidance_scale: float, num_images: int) -> dict:
        """uncond + scale (cond - uncond) on log-probabilities. Ho & Salimans 2022."""
        if guidance_scale == 1:
            return {}
        return {"guidance_scale": guidance_scale, "negative_prompt_ids": torch.full((num_images, 1), self.begin)}


MAX_IMAGES = 2**20  # of one call: a typing mistake, such as 10**12, must not take all memory


def is_finite(value: float) -> bool:
    return isinstance(value, Real) and math.isfinite(value)


def check_count(num_images: int) -> None:
    """Raises ValueError unless so many pictures can be drawn at once."""
    if not isinstance(num_images, Integral) or not 1 <= num_images <= MAX_IMAGES:
        raise ValueError(f"`num_images` must be a whole number in 1..{MAX_IMAGES}, got {num_images!r}.")


def as_class_numbers(labels: Sequence[int | str] | Tensor, names: Sequence[str] = ()) -> Tensor:
    """Numbers of the classes, names among `names` replaced by their place.

    >>> as_class_numbers(["eel", 0, "1"], names=["cat", "eel"])
    tensor([1, 0, 1])

    Raises:
        ValueError: a name that is not among them, or what is no list of numbers and names.
    """
    if isinstance(labels, str):
        raise ValueError(f"`labels` must be a list, got the text {labels!r}.")
    if isinstance(labels, list | tuple):
        labels = [number_of_class(label, names) if isinstance(label, str) else label for label in labels]
    try:
        return torch.as_tensor(labels)
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise ValueError(f"`labels` must be a list of class numbers, got {labels!r}.") from error


def number_of_class(name: str, names: Sequence[str]) -> int:
    """Its place among `names`; else the number that it spells."""
    if name in names:
        return list(names).index(name)
    if name.removeprefix("-").isdecimal():
        return int(name)
    if not names:
        raise ValueError(f"`labels` must be a list of class numbers, got {name!r}: this model knows no names.")
    known = ", ".join(names[:20]) + (", ..." if len(names) > 20 else "")
    raise ValueError(f"There is no class {name!r}; the classes: {known}.")


def check_sampling(
    temperature: float = 1.0, top_k: int | None = 0, top_p: float | None = 1.0, do_sample: bool = True, **others
) -> None:
    """The one check of how codes are drawn from scores, for every kind of prior.

    >>> check_sampling(temperature=-1)
    Traceback (most recent call last):
    ValueError: `temperature` must be a finite number above 0, got -1.

    Raises:
        ValueError: a temperature that is not finite and positive, a negative `top_k`, a `top_p` outside (0, 1].
    """
    if not is_finite(temperature) or temperature <= 0:
        raise ValueError(f"`temperature` must be a finite number above 0, got {temperature!r}.")
    if top_k is not None and (not isinstance(top_k, Integral) or top_k < 0):
        raise ValueError(f"`top_k` must be a whole number, 0 for all codes, got {top_k!r}.")
    if top_p is not None and (not is_finite(top_p) or not 0 < top_p <= 1):
        raise ValueError(f"`top_p` must lie in (0, 1], got {top_p!r}.")


@contextmanager
def seeded_by(generator: torch.Generator | None, device: torch.device) -> Iterator[None]:
    """Within the block the global random state, which `generate` draws from, starts at a draw of `generator`."""
    if generator is None:
        yield
        return
    seed = int(torch.randint(2**62, (), generator=generator, device=generator.device))
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


def working_device(model) -> torch.device:
    """Where a model takes its input. Weights that are offloaded lie on "meta", and their hooks move the input."""
    return torch.device("cpu") if model.device.type == "meta" else model.device


@torch.no_grad()
def generate_ids(
    language_model,
    ids: ImageTokenIds,
    labels: Sequence[int] | Tensor | None = None,
    num_images: int | None = None,
    generator: torch.Generator | None = None,
    guidance_scale: float = 1.0,
    **options,
) -> Tensor:
    """New pictures as image tokens (B, num_tokens), from anything with transformers' `generate`.

    Args:
        labels: class of each picture, its number or its name. Without them, `num_images` pictures.
        generator: same state, same pictures.
        guidance_scale: above 1: pictures show their class more clearly.
        options: of `generate`: temperature, top_k, top_p, do_sample, ...
    """
    ids.check_guidance(guidance_scale, labels)
    check_sampling(**options)
    device = working_device(language_model)
    prompt = ids.prompt(labels, num_images).to(device)
    guidance = ids.guidance_kwargs(guidance_scale, len(prompt))
    if guidance:
        guidance["negative_prompt_ids"] = guidance["negative_prompt_ids"].to(device)
    options = {**ids.generation_kwargs(), **guidance, **options}
    with seeded_by(generator, device):
        sequences = language_model.generate(prompt, attention_mask=torch.ones_like(prompt), **options)
    return sequences[:, 1:]
