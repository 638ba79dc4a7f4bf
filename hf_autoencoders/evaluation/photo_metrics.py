# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""How similar reconstructions of photographs are to the pictures, by pixels and by the features of a named net.

Each metric is also given for the same pictures after JPEG with as many bits as the codes have (`jpeg_...`). The net's
metrics are also given for two halves of the real pictures (`halves_...`), which shows how large a distance is by chance
at this number of pictures. Frechet distances can be compared only under one protocol: one net, one number of pictures,
one size.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..perception.distances import PerceptualLoss
from ..perception.feature_nets import FeatureNet, load_feature_net
from ..perception.weights import weights_fingerprint
from .features import frechet_distance
from .jpeg import jpeg_of_batch
from .metrics import of_all_processes, psnr, roughness, ssim_per_image
from .protocol import library_versions, protocol_line


MOST_PICTURES = 50_000  # at most so many embeddings are kept: 3 x 1,280 floats each (0.7 GiB) with EfficientNet-Lite
RECONSTRUCTIONS, JPEG, HALVES = "reconstructions", "JPEG at equal bits", "two halves of real pictures"
OF_EVALUATION = ("psnr", "ssim", "gradient_energy")
KID_BLOCK = 1000  # pictures of one kernel matrix, as in Binkowski et al. 2018


def feature_net(name: str | None, size: int | None, images: Any) -> FeatureNet | None:
    """The net of --feature_model for `images`, tested on one grey picture of their shape; None without a name.

    Args:
        images: the set that will be measured, with `image_shape` (C, H, W) and a length.

    Raises:
        ValueError: no such net, pictures that it does not take, too few of them, a size without a net.
    """
    if name is None:
        if size is not None:
            raise ValueError("--feature_size: has no effect without --feature_model.")
        return None
    check_enough(len(images))
    net = load_feature_net(name)
    with torch.no_grad():
        net(torch.zeros(1, *images.image_shape), size)
    return net


def check_enough(count: int) -> None:
    """Raises ValueError where `count` pictures have no two halves to compare."""
    if count < 4:
        raise ValueError(
            f"Two halves of two held-out pictures each need 4 pictures, got {count}: raise --max_eval_samples, or "
            "leave out --feature_model."
        )


class Reconstructed(NamedTuple):
    """A batch of pictures with their reconstructions.

    pixels, reconstruction: (B, C, H, W) in [-1, 1]; reconstructions are clamped to it here.
    numbers: of the pictures in their set, (B,) int64.
    code_bits: bits of the codes of one picture; None for a model without codes.
    """

    pixels: Tensor
    reconstruction: Tensor
    numbers: Tensor
    code_bits: float | None


@dataclass
class PhotoMetrics:
    """What was measured.

    Args:
        columns: heading (RECONSTRUCTIONS, JPEG, HALVES) -> name -> number.
        protocol: how, see `protocol.py`.
        distances: perceptual distance of each reconstruction from its picture, by number, (N,).
        notes: what is missing, and why.
    """

    columns: dict[str, dict[str, float]]
    protocol: dict[str, Any]
    distances: Tensor
    notes: list[str] = field(default_factory=list)

    @property
    def metrics(self) -> dict[str, float]:
        """By name (`kid`, `jpeg_kid`, `halves_kid`, ...); what `evaluate` gives of reconstructions is left to it."""
        own = self.columns[RECONSTRUCTIONS]
        flat = {name: value for name, value in own.items() if name not in OF_EVALUATION}
        for heading, prefix in ((JPEG, "jpeg_"), (HALVES, "halves_")):
            flat |= {f"{prefix}{name}": value for name, value in self.columns.get(heading, {}).items()}
        return flat

    def lines(self) -> list[str]:
        """For people: a table, what is missing, and the protocol."""
        names = list(dict.fromkeys(name for column in self.columns.values() for name in column))
        rows = [["", *self.columns]]
        for name in names:
            numbers = (column.get(name) for column in self.columns.values())
            rows.append([name.replace("_", " "), *("-" if one is None else f"{one:.4g}" for one in numbers)])
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        table = ["  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
        return [*table, *self.notes, protocol_line(self.protocol)]


@torch.no_grad()
def measure_photographs(
    batches: Iterable[Reconstructed],
    images: Any,
    net: FeatureNet,
    *,
    size: int | None = None,
    reading: str = "",
    dtype: str = "float32",
    seed: int = 0,
) -> PhotoMetrics:
    """Metrics over all pictures of all processes; a collective call.

    Args:
        batches: this process's share; each picture of `images` is on exactly one process.
        images: the set, with `batch(numbers) -> {"pixel_values": (B, C, H, W)}`, `fingerprint` and a length.
        net: see `load_feature_net`; for a fair comparison, one that is not part of the loss.
        size: resize to so many pixels a side for the net; None: as they are.
        reading: how pictures were brought to this size, for the protocol. dtype: that the model computes in.
        seed: of the halves.

    Returns:
        Columns for the reconstructions, the same pictures through JPEG at the bits of the codes, and one half of the
        real pictures against the other, with those of these names that each can have::

            psnr [dB], ssim, gradient_energy    as of `evaluate`
            perceptual_distance                 mean over pictures of `PerceptualLoss` of all the net's maps
            frechet_distance                    of the embeddings of both sets
            kid                                 of the same, `kernel_distance`
            bits_per_pixel                      of the codes, and of the JPEG's data

    Raises:
        ValueError: fewer than 4 pictures, or pictures that the net does not take.
    """
    count = min(len(images), MOST_PICTURES)
    check_enough(count)
    seen = _Seen(PerceptualLoss(net, size=size), images, partners(count, seed))
    for batch in batches:
        seen.add(batch)
    columns = seen.merged()
    notes = [] if "jpeg_embedding" in columns else [_why_no_jpeg(images)]
    shape = "x".join(map(str, images.batch([0])["pixel_values"].shape[1:]))
    protocol = {
        "net": net.name,
        "weights": weights_fingerprint(net)[:16],
        "net_sees": "pictures as they are" if size is None else f"pictures resized to {size}x{size}",
        "pictures": count,
        "of": images.fingerprint,
        "shape": shape,
        "reading": reading or "unsaid",
        "halves": f"{count // 2} and {count // 2}, seed {seed}",
        "dtype": dtype,
        "versions": library_versions(),
    }
    return PhotoMetrics(_compared(columns), protocol, columns["model_perceptual_distance"], notes)


def partners(count: int, seed: int = 0) -> Tensor:
    """Two random halves of `count` pictures. For a picture of the first half: the number of one of the second, else -1.

    >>> partner = partners(6)
    >>> sorted((number, other) for number, other in enumerate(partner.tolist()) if other >= 0)
    [(2, 0), (3, 4), (5, 1)]
    """
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    first, second = order[: count // 2], order[count // 2 : 2 * (count // 2)]
    partner = torch.full((count,), -1)
    partner[first] = second
    return partner


def kernel_distance(a: Tensor, b: Tensor) -> float:
    """Squared maximum mean discrepancy of features (N, D) twice, kernel (x.y / D + 1)^3, in float64: KID.

    The unbiased estimate of Gretton et al. 2012, lemma 6, as a mean over blocks of 1,000 rows. It leaves out i = j also
    between the sets, since row i of `b` may be the reconstruction of row i of `a`. Equal sets have distance 0;
    torchmetrics' KID assumes independent sets, and is below 0 for them.
    """
    blocks = zip(a.double().split(KID_BLOCK), b.double().split(KID_BLOCK), strict=True)
    values = [(_block_distance(x, y), len(x)) for x, y in blocks if len(x) > 1]
    return sum(value * rows for value, rows in values) / sum(rows for _, rows in values)


def _block_distance(x: Tensor, y: Tensor) -> float:
    def kernel(one: Tensor, other: Tensor) -> Tensor:
        return (one @ other.T / one.shape[1] + 1) ** 3

    matrix = kernel(x, x) + kernel(y, y) - kernel(x, y) - kernel(y, x)
    return ((matrix.sum() - matrix.trace()) / (len(x) * (len(x) - 1))).item()


# -- what is collected -------------------------------------------------------------------------------------------------


class _Seen:
    """Results of each picture, as rows of named columns. Pixels are not kept."""

    def __init__(self, distance: PerceptualLoss, images: Any, partner: Tensor):
        self.distance, self.images, self.partner = distance, images, partner
        self.columns: dict[str, list[Tensor]] = {}

    def add(self, batch: Reconstructed) -> None:
        """Measures a batch; only the first pictures of the set count, as many as `partner` has."""
        chosen = batch.numbers < len(self.partner)
        if not chosen.any():
            return
        numbers, mask = batch.numbers[chosen], chosen.to(batch.pixels.device)
        pixels = batch.pixels[mask].float()
        features = self.distance.net(pixels, self.distance.size)
        self.keep(number=numbers, embedding=features.embedding, roughness=roughness(pixels))
        self.compare("model_", batch.reconstruction[mask].float().clamp(-1, 1), pixels, features)
        if batch.code_bits is not None and pixels.shape[1] in (1, 3):
            decoded, bits = jpeg_of_batch(pixels, batch.code_bits)
            self.compare("jpeg_", decoded, pixels, features)
            area = pixels.shape[2] * pixels.shape[3]
            self.keep(jpeg_bits=bits / area, model_bits=torch.full_like(bits, batch.code_bits / area))
        self.compare_halves(numbers, features)

    def compare(self, prefix: str, other: Tensor, pixels: Tensor, features: Any) -> None:
        """`other` against `pixels`, both (B, C, H, W); `features`: those of `pixels`."""
        theirs = self.distance.net(other, self.distance.size)
        unit, target = (other + 1) / 2, (pixels + 1) / 2
        found = {
            "squared_error": (unit - target).square().flatten(1).mean(1),
            "roughness": roughness(other),
            "perceptual_distance": self.distance.between(theirs, features),
            "embedding": theirs.embedding,
        }
        if (similarity := ssim_per_image(unit, target)) is not None:
            found["ssim"] = similarity
        self.keep(**{prefix + name: value for name, value in found.items()})

    def compare_halves(self, numbers: Tensor, features: Any) -> None:
        """Pictures of the first half against their partners in the second."""
        first = (self.partner[numbers] >= 0).nonzero().flatten()
        if not len(first):
            return
        other = self.images.batch(self.partner[numbers[first]].tolist())["pixel_values"].to(features.embedding.device)
        own = type(features)(*(_rows(part, first) for part in features))
        theirs = self.distance.net(other, self.distance.size)
        self.keep(halves_number=numbers[first], halves_perceptual_distance=self.distance.between(own, theirs))

    def keep(self, **columns: Tensor) -> None:
        for name, values in columns.items():
            self.columns.setdefault(name, []).append(values.detach().cpu())

    def merged(self) -> dict[str, Tensor]:
        """All rows of all processes, sorted by the pictures' numbers: their order does not depend on processes."""
        own = {name: torch.cat(parts) for name, parts in self.columns.items()}
        shares = [share for share in of_all_processes(own) if share]
        whole = {name: torch.cat([share[name] for share in shares if name in share]) for name in shares[0]}
        order, of_halves = whole.pop("number").argsort(), whole.pop("halves_number").argsort()
        columns = {name: part[of_halves if name.startswith("halves_") else order] for name, part in whole.items()}
        return {**columns, "partner": self.partner}


def _rows(part: Any, rows: Tensor) -> Any:
    """These pictures of a field of `Features`."""
    if part is None:
        return None
    return tuple(_rows(one, rows) for one in part) if isinstance(part, tuple) else part[rows.to(part.device)]


# -- metrics -----------------------------------------------------------------------------------------------------------


def _compared(columns: dict[str, Tensor]) -> dict[str, dict[str, float]]:
    """Metrics by heading."""
    found = {RECONSTRUCTIONS: _of_set(columns, "model_")}
    if "jpeg_embedding" in columns:
        found[JPEG] = _of_set(columns, "jpeg_")
    first = (columns["partner"] >= 0).nonzero().flatten()
    one, other = columns["embedding"][first], columns["embedding"][columns["partner"][first]]
    found[HALVES] = {
        "perceptual_distance": _mean(columns["halves_perceptual_distance"]),
        "frechet_distance": frechet_distance(one, other),
        "kid": kernel_distance(one, other),
    }
    return found


def _of_set(columns: dict[str, Tensor], prefix: str) -> dict[str, float]:
    """Metrics of the pictures of this prefix against the real ones."""
    real, embedding = columns["embedding"], columns[f"{prefix}embedding"]
    metrics = {"psnr": psnr(_mean(columns[f"{prefix}squared_error"]))}
    if f"{prefix}ssim" in columns:
        metrics["ssim"] = _mean(columns[f"{prefix}ssim"])
    if (of_pictures := _mean(columns["roughness"])) > 0:
        metrics["gradient_energy"] = _mean(columns[f"{prefix}roughness"]) / of_pictures
    return metrics | {
        "perceptual_distance": _mean(columns[f"{prefix}perceptual_distance"]),
        "frechet_distance": frechet_distance(embedding, real),
        "kid": kernel_distance(embedding, real),
        **({"bits_per_pixel": _mean(columns[f"{prefix}bits"])} if f"{prefix}bits" in columns else {}),
    }


def _mean(values: Tensor) -> float:
    return values.double().mean().item()


def _why_no_jpeg(images: Any) -> str:
    channels = images.batch([0])["pixel_values"].shape[1]
    if channels not in (1, 3):
        return f"No comparison with JPEG: it holds grey or RGB pictures, these have {channels} channels."
    return "No comparison with JPEG: latents that are real numbers have no fixed number of bits."
