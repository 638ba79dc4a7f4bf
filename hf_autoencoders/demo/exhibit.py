# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""A trained model as the demo shows it, without any user interface: a plane to drag through, pictures, code grids.

    exhibit = open_exhibit("runs/vae-mnist")
    exhibit.at(0.5, 0.5)            # what the middle of the plane decodes to, and how far the next code is

Pixels are (N, C, H, W) in [-1, 1]. A place in the plane is (x, y), both 0..1 of its window, from the bottom left.
`commands/demo.py` puts buttons on it.
"""

import base64
import io
import json
import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file
from sklearn.decomposition import PCA
from sklearn.neighbors import KDTree
from torch import Tensor

from ..evaluation.codes import code_atlas, squared_error
from ..evaluation.latent_space import FAR, Plane, PlaneWindow, central_window
from ..evaluation.metrics import count_codes, psnr
from ..evaluation.subject import Subject
from ..models.pixels import to_bytes
from ..perception.digits_classifier import in_batches
from ..training import saved_models
from ..training.data import CachedImages
from ..training.run_data import images_of_run
from ..training.text import one_line


logger = logging.getLogger(__name__)

DOTS = 1000  # pictures whose codes are shown in the plane
EXAMPLES = 24  # pictures to begin with
PLANE_MARGIN = 0.1  # of the window's sides, around the central 98 % of the codes


# -- what a demo knows of the data -------------------------------------------------------------------------------------


@dataclass
class Backdrop:
    """What the demo of a model knows of the data: small enough to travel with a Space.

    Args:
        source: of the points, for people.
        examples: pictures to begin with, uint8 (n, C, H, W).
        plane: to drag through; None where the latents have less than two dimensions.
        points: codes in it, (N, 2).
        labels: their classes, int64 (N,), or None.
        names: of the classes, or None.
        atlas: what each code (of the first level) paints, uint8 (K, C, s, s); None without a codebook.
        counts: how often each code was met, (K,); None without a codebook.
    """

    source: str
    examples: Tensor
    plane: Plane | None = None
    points: Tensor | None = None
    labels: Tensor | None = None
    names: list[str] | None = None
    atlas: Tensor | None = None
    counts: Tensor | None = None

    def save(self, path: str | Path) -> None:
        """One .safetensors file."""
        tensors = {name: value for name, value in vars(self).items() if isinstance(value, Tensor)}
        words: dict[str, Any] = {"source": self.source, "names": self.names}
        if self.plane is not None:
            tensors |= {"mean": self.plane.mean, "axes": self.plane.axes}
            words["plane"] = {name: getattr(self.plane, name) for name in ("variance_share", "shape", "whole")}
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path, {"words": json.dumps(words)})

    @classmethod
    def load(cls, path: str | Path) -> "Backdrop":
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            words = json.loads(file.metadata()["words"])
        if plane := words.pop("plane", None):
            share, shape = tuple(plane["variance_share"]), tuple(plane["shape"])
            words["plane"] = Plane(tensors.pop("mean"), tensors.pop("axes"), share, shape, plane["whole"])
        return cls(**words, **tensors)


def backdrop_of(subject: Subject, source: str) -> Backdrop:
    """Reads it off the held-out pictures of `subject`."""
    backdrop = Backdrop(source, to_bytes(subject.pixels[:EXAMPLES]))
    if subject.held_out_latents[0].numel() >= 2 and len(subject.pixels) >= 3:
        backdrop.plane, backdrop.points = subject.plane, subject.points
        backdrop.labels, backdrop.names = subject.labels, subject.held_out.names
    if subject.has_codes:
        tokens = subject.image_tokens if subject.image_tokens.dim() == 3 else subject.image_tokens[..., 0]
        decoded = in_batches(decode_on_its_device(subject.model), subject.image_tokens, 250)
        atlas = code_atlas(tokens, decoded, subject.model.codebook_size)
        backdrop.atlas = to_bytes(atlas.nan_to_num(0.0))  # a code that was never met is grey
        backdrop.counts = count_codes(tokens, subject.model.codebook_size)[0]
    return backdrop


def decode_on_its_device(model: Any) -> Callable[[Tensor], Tensor]:
    return lambda tokens: model.decode_image_tokens(tokens.to(model.device)).cpu()


def colours_of(vectors: Tensor) -> Tensor:
    """(K, D) -> (K, 3), 0..255: red, green and blue are the vectors' first three principal components.

    Each is divided by the spread of the first one, and a tanh keeps outliers from taking all colours for themselves.

    >>> colours_of(torch.tensor([[-9.0, 0.0], [0.0, 3.0], [0.0, -3.0], [9.0, 0.0]])).tolist()
    [[41, 140, 140], [140, 189, 140], [140, 91, 140], [239, 140, 140]]
    """
    axes = min(3, *vectors.shape)
    components = torch.from_numpy(PCA(axes, svd_solver="full").fit_transform(vectors.double().numpy()))
    spread = components[:, 0].std(correction=0).clamp_min(1e-12)
    return (140 + 111 * F.pad(components / spread, (0, 3 - axes)).tanh()).round().int()


def png_url(picture: np.ndarray) -> str:
    """(H, W) or (H, W, 3) in [0, 1], as `plots.to_picture` and `plots.mosaic` give, as a URL that holds the picture.

    >>> png_url(np.zeros((2, 2)))[:30]
    'data:image/png;base64,iVBORw0K'
    """
    with io.BytesIO() as file:
        Image.fromarray((picture * 255).round().astype(np.uint8)).save(file, "PNG")
        return bytes_url(file.getvalue())


def bytes_url(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


# -- opening a model ---------------------------------------------------------------------------------------------------


def open_exhibit(
    source: str,
    name: str | None = None,
    backdrop: str | Path | None = None,
    dataset_name: str | None = None,
    max_samples: int = DOTS,
) -> "Exhibit":
    """Loads a model and what its demo shows of data.

    Args:
        source: folder of a run, or a Hub id.
        name: for titles; by default the folder's or the id's.
        backdrop: file that `Backdrop.save` wrote. By default it is read off the data that the run was trained on, or
            `dataset_name`, and where those cannot be read, off the model's own samples.
        max_samples: pictures that it is read off, at least 1.

    Raises:
        ValueError: no model there, or none of this package's kind; data that were asked for and cannot be read.
    """
    if max_samples < 1:
        raise ValueError(f"`max_samples` must be at least 1, got {max_samples}.")
    model, processor = load_pair(source)
    name = name or (Path(source).resolve().name if Path(source).is_dir() else source)
    if backdrop is not None:
        return Exhibit(name, model, processor, Backdrop.load(backdrop))
    try:
        images, _ = images_of_run(
            source, processor.to_uint8, dataset_name, max_train_samples=1, max_eval_samples=max_samples
        )
        held_out, where = images.eval, f"{len(images.eval):,} held-out pictures"
    except (ValueError, OSError) as reason:
        if dataset_name is not None:
            raise
        logger.warning("%s: no data, so the plane shows the model's own samples (%s)", name, one_line(reason))
        held_out, where = own_samples(model, max_samples), f"{max_samples:,} of the model's own samples"
    subject = Subject(name, model, held_out, held_out)
    return Exhibit(name, model, processor, backdrop_of(subject, where))


def load_pair(source: str) -> tuple[Any, Any]:
    """(model in eval mode, image processor). Raises ValueError in one line."""
    model, processor = saved_models.load_model(source), saved_models.load_processor(source)
    if not (hasattr(model, "reconstruct") and hasattr(model, "interpolate")):
        raise ValueError(f"{source} is a {model.config.model_type}: the demo shows autoencoders, give the image model.")
    return model, processor


def own_samples(model: Any, number: int) -> CachedImages:
    """Pictures from the model's prior, as a data set. Raises ValueError where it has none."""
    generator = torch.Generator().manual_seed(0)
    parts = [model.sample(min(250, number - start), generator=generator) for start in range(0, number, 250)]
    return CachedImages(to_bytes(torch.cat(parts)))


# -- a model on show ---------------------------------------------------------------------------------------------------


@dataclass
class Place:
    """A point of the plane.

    Args:
        pixels: what it decodes to, (C, H, W).
        coordinates: in the plane.
        distance: to the nearest code that is shown, in units of the latents.
        in_gap: farther from it than 99 % of the codes are from theirs.
    """

    pixels: Tensor
    coordinates: tuple[float, float]
    distance: float
    in_gap: bool


class Exhibit:
    """A model on show. What it offers: `has_plane`, `has_codes`; every model has pictures, ways and samples."""

    def __init__(self, name: str, model: Any, processor: Any, backdrop: Backdrop):
        self.name, self.model, self.processor, self.backdrop = name, model, processor, backdrop

    # -- the plane

    @property
    def has_plane(self) -> bool:
        return self.backdrop.plane is not None

    @cached_property
    def window(self) -> PlaneWindow:
        """The central codes and a margin, where gaps begin."""
        inner = central_window(self.backdrop.points)
        x, y = PLANE_MARGIN * (inner.right - inner.left), PLANE_MARGIN * (inner.top - inner.bottom)
        return PlaneWindow(inner.left - x, inner.right + x, inner.bottom - y, inner.top + y)

    @cached_property
    def _tree(self) -> KDTree:
        return KDTree(self.backdrop.points.numpy())

    @cached_property
    def gap_radius(self) -> float:
        """99 % of the codes have another one within this distance."""
        return float(np.quantile(self._tree.query(self.backdrop.points.numpy(), k=2)[0][:, 1], FAR))

    @torch.no_grad()
    def at(self, x: float, y: float) -> Place:
        """What lies at (x, y), both 0..1 of the window from the bottom left; outside is moved to the edge."""
        x, y = (min(max(float(share), 0.0), 1.0) for share in (x, y))
        window = self.window
        point = [window.left + x * (window.right - window.left), window.bottom + y * (window.top - window.bottom)]
        latents = self.backdrop.plane.latents(torch.tensor([point]))  # (1, D, h, w)
        pixels = self.model.decode(latents.to(self.model.device), return_dict=True).sample[0].cpu()
        distance = float(self._tree.query([point], k=1)[0][0, 0])
        return Place(pixels, tuple(point), distance, distance > self.gap_radius)

    # -- pictures

    def read(self, image: Any) -> Tensor:
        """A PIL image, array or path, as the model takes it, (1, C, H, W). Raises ValueError in one line."""
        pixels = self.processor(image, return_tensors="pt").pixel_values
        self.model.check_pixels(pixels)
        return pixels.to(self.model.device)

    def examples(self) -> list[Any]:
        """Pictures to begin with, as PIL images."""
        return self.processor.postprocess(self.backdrop.examples.float() / 127.5 - 1)

    def reconstruct(self, pixels: Tensor) -> Tensor:
        return self.model.reconstruct(pixels).cpu()

    def psnr(self, pixels: Tensor, decoded: Tensor) -> float:
        """Peak signal-to-noise ratio in dB of one picture's decoding, both (C, H, W)."""
        return psnr(float(squared_error(decoded.cpu()[None], pixels.cpu()[None])) / pixels.numel())

    def way(self, a: Tensor, b: Tensor, steps: int) -> Tensor:
        """Pictures on the way from a to b, both (1, C, H, W): (steps, C, H, W)."""
        return self.model.interpolate(a, b, steps)[0].cpu()

    def sample(self, number: int, seed: int) -> Tensor:
        """From the model's own prior. Raises ValueError where it has none."""
        return self.model.sample(number, generator=torch.Generator().manual_seed(seed)).cpu()

    # -- codes

    @property
    def has_codes(self) -> bool:
        return hasattr(self.model, "get_image_tokens")

    @property
    def levels(self) -> int:
        """Codes at each place of the grid."""
        return getattr(self.model.config, "codes_per_position", 1)

    def codes(self, pixels: Tensor) -> list:
        """(1, C, H, W) -> rows of codes, h lists of w integers, or of w lists of one integer a level."""
        return self.model.get_image_tokens(pixels)[0].tolist()

    def decode_codes(self, codes: list) -> Tensor:
        """What `codes` gave, edited or not, to (C, H, W). Raises ValueError for another grid or a code out of range."""
        tokens = torch.tensor(codes, dtype=torch.int64, device=self.model.device)
        shape = (*self.model.grid_size, *([self.levels] if self.levels > 1 else []))
        if tokens.shape != shape:  # a browser can send anything, and a large grid would take all memory
            raise ValueError(f"The codes of a picture have the shape {shape} here, got {tuple(tokens.shape)}.")
        return self.model.decode_image_tokens(tokens[None])[0].cpu()

    @torch.no_grad()
    def code_colours(self, level: int = 0) -> list[list[int]]:
        """[r, g, b], 0..255, for each of the K codes of a level: codes with similar vectors have similar colours."""
        codes = torch.zeros(self.model.codebook_size, 1, 1, self.levels, dtype=torch.int64, device=self.model.device)
        codes[..., level] = torch.arange(len(codes), device=codes.device)[:, None, None]
        vectors = self.model.quantize.get_codebook_entry(codes if self.levels > 1 else codes[..., 0])
        return colours_of(vectors.flatten(1).float().cpu()).tolist()

    def palette(self, limit: int = 512) -> list[int]:
        """The codes met most often, bright painters first; background, met everywhere, last, then never met ones."""
        frequent = self.backdrop.counts.argsort(descending=True, stable=True)[:limit]
        brightness = self.backdrop.atlas[frequent].float().flatten(1).mean(1)
        brightness[self.backdrop.counts[frequent] == 0] = -1
        return frequent[brightness.argsort(descending=True, stable=True)].tolist()
