# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""Data sets of pictures that lie in memory or are decoded at each access, and what streams share with them."""

import logging
from collections.abc import Iterator, Sequence
from functools import cached_property

import torch
from torch import Tensor
from torch.utils.data import Dataset

from .augmentation import PLAIN, Augmentation
from .crop_windows import CropWindow
from .fingerprints import fingerprint
from .image_columns import DataError
from .image_rows import CorruptImage, Rows, ToUint8


logger = logging.getLogger(__name__)

STATISTICS_IMAGES = 4096  # images that statistics are measured on if the pixels are not in memory


def collate_bytes(images: Tensor | Sequence[Tensor]) -> dict[str, Tensor]:
    """uint8 (B, C, H, W), or a list of (C, H, W) -> {"pixel_values": uint8 (B, C, H, W)}, smaller than floats."""
    return {"pixel_values": images if isinstance(images, Tensor) else torch.stack(list(images))}


def scaled(images: Tensor) -> Tensor:
    """uint8 -> float32 in [-1, 1], on the images' device, with the same bits on every kind of device."""
    # If the divisor were a Python number, CUDA would multiply by its reciprocal, which rounds differently.
    return images.float().div_(torch.full((), 127.5, device=images.device)).sub_(1)


def collate(images: Tensor | Sequence[Tensor]) -> dict[str, Tensor]:
    """uint8 (B, C, H, W), or a list of (C, H, W) -> {"pixel_values": float32 (B, C, H, W) in [-1, 1]}."""
    return {"pixel_values": scaled(collate_bytes(images)["pixel_values"])}


class Epoch:
    """The epoch in shared memory: worker processes that run on see the next epoch, too."""

    def __init__(self):
        self._value = torch.zeros((), dtype=torch.int64).share_memory_()

    def __int__(self) -> int:
        return int(self._value)

    def set(self, epoch: int) -> None:
        self._value.fill_(epoch)


class Images:
    """The facts that every kind of image data set gives about itself. A subclass writes `_chunks`."""

    augmentation: Augmentation
    labels: Tensor | None = None  # (N,) int64
    names: list[str] | None = None  # of the classes, by number
    skipped: int = 0  # corrupt pictures that were left out
    collate = staticmethod(collate)

    def _chunks(self) -> Iterator[Tensor]:
        """The images that statistics are measured on, in chunks of uint8 (n, C, H, W)."""
        raise NotImplementedError

    @property
    def fingerprint(self) -> str:
        """The number of pictures and 16 hexadecimal digits, equal for the same pictures, wherever they lie and however
        they are decoded, resized or augmented. See fingerprints.py for what it costs and what it may miss.

        >>> CachedImages(torch.zeros(10, 1, 8, 8, dtype=torch.uint8)).fingerprint
        '10-ad1eda456afc8db5'
        """
        raise NotImplementedError

    def set_epoch(self, epoch: int) -> None:
        """Sets the epoch, by which the augmentation of the next images is drawn. Running workers see it, too."""
        self._epoch.set(epoch)

    @cached_property
    def _moments(self) -> tuple[Tensor, Tensor]:
        """Histogram of the grey levels (256,), and mean image (C, H, W) in [0, 1], both float64."""
        histogram, total, count = torch.zeros(256, dtype=torch.int64), 0, 0
        for images in self._chunks():
            histogram += torch.bincount(images.flatten(), minlength=256)
            total = total + images.float().sum(0).double()  # exact in float32 up to 65,793 images a chunk
            count += len(images)
        return histogram.double(), total / (255 * count)

    @property
    def data_variance(self) -> float:
        """Variance over all pixels on the [0, 1] scale, binarised if batches are; without flips and crops.

        MNIST's training split: 0.0949. Divisor of the NMSE and of sonnet's VQ-VAE reconstruction loss.
        """
        histogram, _ = self._moments
        levels, shares = torch.arange(256, dtype=torch.float64) / 255, histogram / histogram.sum()
        mean = (shares * levels).sum()
        if self.augmentation.binarize != "none":
            return float(mean * (1 - mean))  # of a Bernoulli variable whose rate is the grey level
        return float((shares * (levels - mean).square()).sum())

    @property
    def mean_image(self) -> Tensor:
        """Mean of the stored pictures, (C, H, W) float32 in [0, 1], an initial value of the output bias."""
        return self._moments[1].float()


class IndexedImages(Images, Dataset):
    """Images that can be read in any order. A subclass writes `_fetch` and sets `image_shape` (C, H, W)."""

    image_shape: tuple[int, int, int]

    def _fetch(self, index: Tensor, epoch: int | None) -> Tensor:
        """(B,) int64 -> uint8 (B, C, H, W); photographs are cut by the draws of this epoch (None: whole)."""
        raise NotImplementedError

    def __getitems__(self, indices: Sequence[int]) -> Tensor:
        """A whole batch at once, uint8 (B, C, H, W); DataLoader prefers this to single images. Give it `collate`."""
        index = torch.as_tensor(indices, dtype=torch.int64)
        epoch = int(self._epoch)
        return self.augmentation(self._fetch(index, epoch), index, epoch)

    def __getitem__(self, index: int) -> Tensor:
        if not -len(self) <= index < len(self):
            raise IndexError(f"Image {index} of {len(self)}.")
        return self.__getitems__([index % len(self)])[0]

    def plain_batch(self, indices: Sequence[int]) -> dict[str, Tensor]:
        """These images as a model takes them, without random augmentation, as in evaluation."""
        index = torch.as_tensor(indices, dtype=torch.int64)
        return collate(self.augmentation.for_evaluation()(self._fetch(index, None), index, 0))

    def batch(self, indices: Sequence[int]) -> dict[str, Tensor]:
        """These images as a model takes them."""
        return collate(self.__getitems__(indices))


class CachedImages(IndexedImages):
    """Pictures decoded once and kept as bytes.

    Args:
        pixels: uint8 (N, C, H, W).
        labels: int64 (N,), or None.
        names: of the classes.
        augmentation: applied to each batch.
        rows: the encoded pictures, from which the fingerprint is computed; None: from the pixels.
        skipped: number of corrupt pictures that were left out.

    >>> images = CachedImages(torch.zeros(10, 1, 8, 8, dtype=torch.uint8))
    >>> collate(images.__getitems__([0, 1, 2]))["pixel_values"].shape
    torch.Size([3, 1, 8, 8])
    """

    def __init__(
        self,
        pixels: Tensor,
        labels: Tensor | None = None,
        names: list[str] | None = None,
        augmentation: Augmentation = PLAIN,
        rows: Rows | None = None,
        skipped: int = 0,
    ):
        if pixels.dtype != torch.uint8 or pixels.dim() != 4:
            raise DataError(f"`pixels` must be uint8 (N, C, H, W), got {pixels.dtype} {tuple(pixels.shape)}.")
        self.pixels, self.labels, self.names, self.augmentation = pixels, labels, names, augmentation
        self.rows, self.skipped = rows, skipped
        self.image_shape = tuple(pixels.shape[1:])
        self._epoch = Epoch()

    def __len__(self) -> int:
        return len(self.pixels)

    @cached_property
    def fingerprint(self) -> str:
        read = self.rows.cells if self.rows is not None else lambda rows: self.pixels[rows].numpy()
        return fingerprint(len(self), read)

    def _fetch(self, index: Tensor, epoch: int | None) -> Tensor:
        return self.pixels.index_select(0, index)  # twice as fast as pixels[index]

    def _chunks(self) -> Iterator[Tensor]:
        return iter(self.pixels.split(max(1, 2**22 // self.pixels[0].numel())))


class DecodedImages(IndexedImages):
    """Pictures decoded at each access: for sets that do not fit in memory, and for random windows of the originals.
    Otherwise as `CachedImages`.

    Args:
        rows: the encoded pictures.
        to_uint8: an image processor's method.
        augmentation: applied to each batch; with `random_resized_crop`, windows are cut before `to_uint8`.
        skip_corrupt: True: a picture that cannot be decoded is replaced by the next one that can, and it is named once
            and counted in `skipped`. False: it is a `DataError`.
    """

    def __init__(self, rows: Rows, to_uint8: ToUint8, augmentation: Augmentation = PLAIN, skip_corrupt: bool = False):
        self.rows, self.to_uint8, self.augmentation, self.skip_corrupt = rows, to_uint8, augmentation, skip_corrupt
        self.labels, self.names = rows.labels, rows.names
        self._corrupt = torch.zeros(len(rows), dtype=torch.bool).share_memory_()  # workers mark them
        self._epoch = Epoch()
        self.image_shape = tuple(self._decode([0], None).shape[1:])

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def skipped(self) -> int:
        """Corrupt pictures that were met until now, in all workers of this process."""
        return int(self._corrupt.sum())

    def is_replaced(self, rows: Sequence[int]) -> Tensor:
        """Which of these rows are known to be corrupt, so that `batch` gives others in their place; bool (B,)."""
        return self._corrupt[list(rows)]

    @cached_property
    def fingerprint(self) -> str:
        return fingerprint(len(self), self.rows.cells)

    def _fetch(self, index: Tensor, epoch: int | None) -> Tensor:
        windows = None if epoch is None else self.augmentation.windows(index, epoch, *self.image_shape[1:])
        return self._decode(index.tolist(), windows)

    def _decode(self, index: list[int], windows: list[CropWindow] | None) -> Tensor:
        shape = getattr(self, "image_shape", None)
        try:
            return self.rows.decode([self._stand_in(row) for row in index], self.to_uint8, shape, windows)
        except CorruptImage:
            if not self.skip_corrupt:
                raise
        for row in index:
            self._look_at(row)
        return self._decode(index, windows)

    def _look_at(self, row: int) -> None:
        """If this row is corrupt: marks it and the rows after it, up to the first that can be decoded."""
        while not self._corrupt[row]:
            _, errors = self.rows.readable([row])
            if not errors:
                return
            self._corrupt[row] = True
            logger.warning(f"Left out: {errors[0]} ({self.skipped} so far)")
            row = self._stand_in(row)

    def _stand_in(self, row: int) -> int:
        """This row, or the next one that is not known to be corrupt."""
        for step in range(len(self)):
            if not self._corrupt[(row + step) % len(self)]:
                return (row + step) % len(self)
        raise DataError(f"No picture of split {self.rows.split!r} can be decoded.")

    def _chunks(self) -> Iterator[Tensor]:
        """The centres of pictures that are evenly spaced over the set, `STATISTICS_IMAGES` at most."""
        chosen = self.rows.evenly_spaced(STATISTICS_IMAGES)
        centre = None
        if self.augmentation.random_resized_crop is not None:
            centre = CropWindow(1.0, 0.5, 0.5, *self.image_shape[1:])
        for start in range(0, len(chosen), 64):
            rows = chosen[start : start + 64]
            yield self._decode(rows, None if centre is None else [centre] * len(rows))
