# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""Quantizers: from the encoder's vectors to codes and back. One small class each, and the table QUANTIZERS.

    z_e (B, D, h, w) --encode--> codes (B, h, w) --get_codebook_entry--> z_q (B, D, h, w)

`forward` does both, weighs nothing, and in training lets the codebook follow. Everything is computed in at least
float32, also under autocast; codebooks and their state stay float32 when the model around them is cast to 16 bits.
Letters in shapes: B batch, h w grid, N = B h w vectors, D their width, K codes.
"""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import initialization as init
from transformers.integrations.accelerate import force_accelerate_hooks

from .codebooks import (
    at_least_float32,
    code_statistics,
    count_codes,
    draw_global_rows,
    float32_island,
    gather_rows,
    k_means,
    nearest_codes,
    perplexity_and_usage,
    sum_over_processes,
)
from .noise import draw_noise


class Quantized(NamedTuple):
    """What a quantizer gives. Losses are means over elements, not weighed yet; scalars are 0-dim, float32 or float64.

    latents: z_q (B, D, h, w) in the input's dtype; bit for bit `get_codebook_entry(codes)` cast to that dtype.
    codes: (B, h, w) int64, or (B, h, w, depth).
    codebook_loss: mean of (sg[z_e] - e)^2; 0 where no gradient moves the codebook.
    commitment_loss: mean of (z_e - sg[e])^2.
    perplexity, codebook_usage: exp(entropy) of this batch's codes in [1, K], and the share of codes that occur in it;
        over all processes in training, of this process in eval.
    norm_ratio: mean |z_e| / mean |chosen e|; far from 1 means that the encoder runs away from the codebook.
    """

    latents: Tensor
    codes: Tensor
    codebook_loss: Tensor
    commitment_loss: Tensor
    perplexity: Tensor
    codebook_usage: Tensor
    norm_ratio: Tensor


def check_codes(codes: Tensor, codebook_size: int) -> None:
    """Raises ValueError where an index lies outside 0..K-1 (a GPU would stop with a device-side assertion)."""
    if codes.numel() == 0 or codes.is_meta:
        return
    low, high = (int(value) for value in codes.aminmax())
    if low < 0 or high >= codebook_size:
        raise ValueError(f"image tokens must lie in 0..{codebook_size - 1} (the codebook's size), got {low}..{high}.")


# ---- The gradient through a choice -----------------------------------------------------------------------------------


def straight_through(z_e: Tensor, z_q: Tensor) -> Tensor:
    """The value of `z_q`, bit for bit, with the gradient of `z_e`. Bengio et al. 2013."""
    return z_q.detach() + (z_e - z_e.detach())


def rotation(z_e: Tensor, z_q: Tensor) -> Tensor:
    """The value of `z_q`, with the gradient of the rotation and scaling that takes z_e to it. Fifty et al. 2024, eq. 4.

    q = lambda R z, R = I - 2 r r^T + 2 q^ z^T, r = (z^ + q^) / |z^ + q^|, lambda = |q| / |z|, all held constant.
    (..., D), (..., D) -> (..., D)
    """
    z, q = z_e.detach(), z_q.detach()
    tiny = torch.finfo(z.dtype).tiny ** 0.5  # lengths below it count as it: no direction, no 0 / 0
    z_norm, q_norm = (v.norm(dim=-1, keepdim=True).clamp_min(tiny) for v in (z, q))
    z_unit, q_unit = z / z_norm, q / q_norm
    r = F.normalize(z_unit + q_unit, dim=-1)
    turned = z_e - 2 * (z_e * r).sum(-1, keepdim=True) * r + 2 * (z_e * z_unit).sum(-1, keepdim=True) * q_unit
    return straight_through(turned * (q_norm / z_norm), q)


GRADIENTS = {"straight_through": straight_through, "rotation": rotation}


# ---- The tensors of a codebook ---------------------------------------------------------------------------------------


class KeepsFloat32(nn.Module):
    """A module whose float32 tensors stay float32 when the model is cast to 16 bits. `.double()` does cast them."""

    def _apply(self, fn, recurse=True):
        return super()._apply(lambda tensor: _not_narrower(fn(tensor), tensor), recurse)


def _not_narrower(moved: Tensor, tensor: Tensor) -> Tensor:
    narrowed = moved.dtype in (torch.bfloat16, torch.float16) and tensor.dtype == torch.float32
    return tensor.to(moved.device) if narrowed else moved


class Codebook(KeepsFloat32, nn.Embedding):
    """Code vectors that gradients move: the parameter `weight` (K, D), first U(-1/K, 1/K) as taming and diffusers."""

    def __init__(self, size: int, dim: int):
        super().__init__(size, dim, dtype=torch.float32)

    def reset_parameters(self) -> None:
        init.uniform_(self.weight, -1 / self.num_embeddings, 1 / self.num_embeddings)


class MixedCodebook(Codebook):
    """Code vectors of the dVAE: N(0, 1/K), as DALL-E's first decoder convolution, whose input they stand for."""

    def reset_parameters(self) -> None:
        init.normal_(self.weight, 0, self.num_embeddings**-0.5)


class FixedCodebook(KeepsFloat32):
    """Code vectors that no gradient moves: the buffer `weight` (K, D), a pure function of `seed` at first.

    A buffer, since `from_pretrained` makes every parameter trainable, and a parameter without gradient stops DDP.
    """

    def __init__(self, size: int, dim: int, seed: int, normal: bool = False):
        super().__init__()
        self.seed, self.normal = seed, normal
        self.register_buffer("weight", torch.empty(size, dim, dtype=torch.float32))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        if self.weight.is_meta:
            return
        generator = torch.Generator("cpu").manual_seed(self.seed)  # on the CPU: the same values for every device
        values = torch.empty(self.weight.shape, dtype=torch.float32, device="cpu")
        if self.normal:  # as SimVQ's base
            values.normal_(0, values.shape[1] ** -0.5, generator=generator)
        else:
            values.uniform_(-1 / len(values), 1 / len(values), generator=generator)
        init.copy_(self.weight, values)

    def forward(self, codes: Tensor) -> Tensor:
        return F.embedding(codes, self.weight)


class CodebookState(KeepsFloat32):
    """What a codebook remembers between steps; saved and restored with the model.

    counts: (K,) moving average of how often each code is chosen in a batch; 1 at first, so that the initial code
        vectors weigh as much as one vector of data each.
    steps: updates so far, the clock of everything that is drawn.
    initialized: whether the code vectors may be used, or wait for data.
    """

    def __init__(self, size: int, initialized: bool):
        super().__init__()
        self.starts_initialized = initialized
        self.register_buffer("counts", torch.empty(size, dtype=torch.float32))
        self.register_buffer("steps", torch.empty((), dtype=torch.int64))
        self.register_buffer("initialized", torch.empty((), dtype=torch.bool))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        init.ones_(self.counts)
        init.zeros_(self.steps)
        init.constant_(self.initialized, self.starts_initialized)
        self._initialized = None

    @property
    def is_initialized(self) -> bool:
        """`initialized`, read from the device once: a look at a buffer in each step would stop a GPU's queue."""
        if self._initialized is None and not self.initialized.is_meta:
            self._initialized = bool(self.initialized)
        return self._initialized is not False  # without values, nothing waits for data

    def set_initialized(self, counts: Tensor) -> None:
        self.counts.copy_(counts)
        self.initialized.fill_(True)
        self._initialized = True

    def _load_from_state_dict(self, *args, **kwargs):
        super()._load_from_state_dict(*args, **kwargs)
        self._initialized = None


class Projection(KeepsFloat32, nn.Linear):
    """A linear map beside a codebook, with torch's own initialisation."""

    def __init__(self, in_features: int, out_features: int):
        super().__init__(in_features, out_features, dtype=torch.float32)

    def forward(self, vectors: Tensor) -> Tensor:
        dtype = torch.promote_types(vectors.dtype, self.weight.dtype)
        return F.linear(vectors.to(dtype), self.weight.to(dtype), self.bias.to(dtype))

    def reset_parameters(self) -> None:
        bound = self.in_features**-0.5
        init.uniform_(self.weight, -bound, bound)
        init.uniform_(self.bias, -bound, bound)


def initialize(module: nn.Module) -> bool:
    """Sets the first values of a module of this file; False if it is of another. For `_init_weights`."""
    if isinstance(module, (Codebook, FixedCodebook, CodebookState, Projection)):
        module.reset_parameters()
        return True
    return False


# ---- Quantizers ------------------------------------------------------------------------------------------------------


class Quantizer(nn.Module):
    """What all quantizers can be asked. `size` is K; state that follows the data is none unless a class says so."""

    size: int
    wants_data = False  # True while the codebook waits for `initialize_from_data`

    def get_codebook_entry(self, codes: Tensor, shape: tuple[int, ...] | None = None) -> Tensor:
        """Codes (B, h, w), or flat ones with `shape` = (B, h, w, ...), to their vectors (B, D, h, w)."""
        codes = codes if shape is None else codes.reshape(shape[:3])
        with float32_island(codes):
            return channels_first(self.look_up(codes))

    def usage(self, codes: Tensor) -> tuple[Tensor, Tensor]:
        """Perplexity and usage of these codes, in training over all processes."""
        counts = count_codes(codes, self.size)
        return perplexity_and_usage(sum_over_processes(counts) if self.training else counts)

    def initialize_from_data(self, z_e: Tensor) -> None:
        """Sets the codebook from the latents (B, D, h, w) of all processes, if it waits for them."""

    def defer_state_updates(self, deferred: bool = True) -> None:
        """Whether training forwards only gather statistics until `apply_state_updates` (gradient accumulation)."""

    def apply_state_updates(self) -> None:
        """Lets the codebook follow what was gathered since the last call; all processes must call it together."""


def channels_last(z: Tensor) -> Tensor:
    return z.permute(0, 2, 3, 1)


def channels_first(z: Tensor) -> Tensor:
    return z.permute(0, 3, 1, 2).contiguous()


def norm_ratio(z: Tensor, chosen: Tensor) -> Tensor:
    return (z.norm(dim=-1).mean() / chosen.norm(dim=-1).mean().clamp_min(1e-12)).detach()


def negative_squared_distances(z: Tensor, code_vectors: Tensor) -> Tensor:
    """(B, h, w, D), (K, D) -> (B, h*w, K)"""
    return -torch.cdist(z.flatten(1, 2), code_vectors.to(z)).square()


class VectorQuantizer(Quantizer):
    """Nearest code, moved by the codebook loss. Van den Oord et al. 2017, eq. 1-3.

    `normalize_codes` (or the name `l2`) compares directions: latents and codes are scaled to length 1 (Yu et al. 2022).
    A code is dead when the moving average of its count is below `dead_code_threshold` times the mean over all codes;
    a revived one starts at a vector of the batch. Adam's moments of a row that long went unused have decayed, so its
    first step is at most (1 - beta1) / sqrt(1 - beta2) = 3.2 learning rates: they are left alone.
    """

    def __init__(self, config, level: int = 0):
        super().__init__()
        self.size, self.dim = config.codebook_size, config.codebook_dim
        self.unit_norm = self.compares_directions(config)
        self.gradient = GRADIENTS[config.gradient]
        self.seed = config.codebook_seed + level
        self.decay, self.epsilon = config.ema_decay, config.ema_epsilon
        self.dead_code_threshold = config.dead_code_threshold
        self.from_data, self.revives = self.follows_data(config)
        self.embedding = self.make_codebook()
        self.state = self.make_state()
        self._deferred = False
        self._gathered = None  # statistics (K, 1 + D) of this process since the last update
        self._gathered_rows = []  # and the vectors themselves, (N, D) each, if codes may be revived

    def compares_directions(self, config) -> bool:
        kind = config.level_quantizer if config.quantizer == "residual" else config.quantizer
        return config.normalize_codes or kind == "l2"

    def follows_data(self, config) -> tuple[bool, bool]:
        return config.initializes_from_data, config.revives_dead_codes

    def make_codebook(self) -> nn.Module:
        return Codebook(self.size, self.dim)

    def make_state(self) -> CodebookState | None:
        """None for the plain quantizer, whose only tensor is the codebook, as in diffusers' VQModel."""
        return CodebookState(self.size, not self.from_data) if self.from_data or self.revives else None

    @property
    def wants_data(self) -> bool:
        return self.state is not None and not self.state.is_initialized

    @force_accelerate_hooks("embedding")  # the weight may be offloaded, and its module is not called here
    def code_vectors(self) -> Tensor:
        """The vectors that codes stand for: (K, D)."""
        return self.as_codes(self.embedding.weight)

    def look_up(self, codes: Tensor) -> Tensor:
        """(...) int64 -> (..., D)"""
        return self.as_codes(self.embedding(codes))

    def as_codes(self, weight: Tensor) -> Tensor:
        """Rows of the codebook's tensor -> code vectors, (..., D) -> (..., D)."""
        return self.scaled(weight)

    def to_code_space(self, z_e: Tensor) -> Tensor:
        """What is compared with the codes: (B, D, h, w) -> (B, h, w, D), at least float32."""
        return self.scaled(channels_last(at_least_float32(z_e)))

    def scaled(self, vectors: Tensor) -> Tensor:
        return F.normalize(vectors, dim=-1) if self.unit_norm else vectors

    def log_affinities(self, z_e: Tensor) -> Tensor:
        """-|z_e - e_k|^2 for every code: (B, D, h, w) -> (B, h*w, K)."""
        with float32_island(z_e):
            return negative_squared_distances(self.to_code_space(z_e), self.code_vectors())

    def encode(self, z_e: Tensor) -> Tensor:
        """(B, D, h, w) -> codes (B, h, w). Changes no state."""
        with float32_island(z_e):
            return self.nearest(self.to_code_space(z_e))

    def nearest(self, z: Tensor) -> Tensor:
        """(B, h, w, D) -> (B, h, w)"""
        return nearest_codes(z.flatten(0, 2), self.code_vectors()).view(z.shape[:3])

    def forward(self, z_e: Tensor) -> Quantized:
        with float32_island(z_e):
            if self.training and self.wants_data:
                self.initialize_from_data(z_e)
            z = self.to_code_space(z_e)  # (B, h, w, D)
            codes = self.nearest(z)  # (B, h, w)
            chosen = self.look_up(codes).to(z.dtype)  # (B, h, w, D)
            latents = channels_first(self.gradient(z, chosen)).to(z_e.dtype)
            quantized = Quantized(
                latents,
                codes,
                self.codebook_loss(z, chosen),
                F.mse_loss(z, chosen.detach()),
                *self.usage(codes),
                norm_ratio=norm_ratio(z, chosen),
            )
            if self.training and self.state is not None:
                self.gather_statistics(z.detach().flatten(0, 2), codes.flatten())
            return quantized

    def codebook_loss(self, z: Tensor, chosen: Tensor) -> Tensor:
        return F.mse_loss(chosen, z.detach())

    # -- state that follows the data

    @torch.no_grad()
    def initialize_from_data(self, z_e: Tensor) -> None:
        if not self.wants_data:
            return
        with float32_island(z_e):
            rows = gather_rows(self.to_code_space(z_e).flatten(0, 2))  # the global batch, on every process
            centroids, counts = k_means(rows, self.size, self.seed, unit_norm=self.unit_norm)
            self.embedding.weight.copy_(centroids)
            # A centroid without rows is revived at once; where none is, it keeps its place as one vector would.
            self.state.set_initialized(counts if self.revives else counts.clamp_min(1))

    def defer_state_updates(self, deferred: bool = True) -> None:
        self._deferred = deferred

    def gather_statistics(self, z: Tensor, codes: Tensor) -> None:
        """Adds a micro-batch (N, D), (N,) to the statistics; unless deferred, the codebook follows at once."""
        statistics = code_statistics(z, codes, self.size)
        self._gathered = statistics if self._gathered is None else self._gathered + statistics
        if self.revives:
            self._gathered_rows.append(z)
        if not self._deferred:
            self.apply_state_updates()

    @torch.no_grad()
    def apply_state_updates(self) -> None:
        if self._gathered is None:
            return
        statistics, rows = sum_over_processes(self._gathered), self._gathered_rows
        self._gathered, self._gathered_rows = None, []
        self.follow(statistics[:, 0], statistics[:, 1:])
        if self.revives:
            self.revive_dead_codes(torch.cat(rows))
        self.state.steps.add_(1)

    def follow(self, counts: Tensor, sums: Tensor) -> None:
        """Moves the state by the statistics (K,), (K, D) of one global batch."""
        self.state.counts.lerp_(counts.to(self.state.counts.dtype), 1 - self.decay)

    def revive_dead_codes(self, rows: Tensor) -> None:
        """Dead codes become vectors (N, D) of the batch, with new state; without a look at how many are dead."""
        counts, vectors = self.state.counts, self.embedding.weight
        drawn = draw_global_rows(rows, min(self.size, MOST_REVIVED), self.seed, self.state.steps.long())
        expected = counts.mean()
        dead = counts < self.dead_code_threshold * expected
        order = dead.cumsum(0) - 1  # the first dead code takes the first vector drawn, and so on
        dead &= order < len(drawn)
        vectors.copy_(torch.where(dead[:, None], drawn[order.clamp(0, len(drawn) - 1)].to(vectors.dtype), vectors))
        counts.copy_(torch.where(dead, expected, counts))


MOST_REVIVED = 1024  # codes in one step: bounds what is sent between processes for a large codebook


class EMAQuantizer(VectorQuantizer):
    """Nearest code; each code vector is the moving average of the latents that chose it. Van den Oord 2017, app. A.1.

    Only the counts N are kept beside the vectors e: the average of the sums, m, is e times the smoothed N, which
    cannot go stale. Counts are smoothed on read, (N + eps) / (n + K eps) n, n = sum of N, so that a code never used
    stays finite; sonnet's epsilon. No bias correction as in sonnet: a ratio of averages that start as (1, e) needs
    none, and an unused code keeps its place where sonnet's jumps to the origin in the first step.
    """

    def make_codebook(self) -> nn.Module:
        return FixedCodebook(self.size, self.dim, self.seed)

    def make_state(self) -> CodebookState:
        return CodebookState(self.size, not self.from_data)

    def codebook_loss(self, z: Tensor, chosen: Tensor) -> Tensor:
        return z.new_zeros(())

    def follow(self, counts: Tensor, sums: Tensor) -> None:
        vectors = self.embedding.weight
        averages = vectors * self.smoothed_counts()
        super().follow(counts, sums)
        averages = averages.lerp(sums.to(vectors.dtype), 1 - self.decay)
        vectors.copy_(self.scaled(averages / self.smoothed_counts()))

    def smoothed_counts(self) -> Tensor:
        """Laplace smoothing: (K, 1)."""
        counts = self.state.counts[:, None]
        total = counts.sum()
        return (counts + self.epsilon) / (total + self.size * self.epsilon) * total


class SimVQQuantizer(VectorQuantizer):
    """Nearest code of a fixed random matrix seen through a learned linear map. Zhu et al. 2024 (2411.02038).

    All codes move together, so none is left behind: no start from data, no revival. Names of tensors as the authors'.
    """

    def __init__(self, config, level: int = 0):
        super().__init__(config, level)
        self.embedding_proj = Projection(self.dim, self.dim)

    def compares_directions(self, config) -> bool:
        return False

    def follows_data(self, config) -> tuple[bool, bool]:
        return False, False

    def make_codebook(self) -> nn.Module:
        return FixedCodebook(self.size, self.dim, self.seed, normal=True)

    def as_codes(self, weight: Tensor) -> Tensor:
        return self.embedding_proj(weight)


class ResidualQuantizer(Quantizer):
    """Each level quantises what the levels before it left over; their vectors add up. Lee et al. 2022 (2203.01941).

    Codes are (B, h, w, depth). Losses, perplexity and usage are means over the levels, so that their weights in a loss
    do not depend on the depth. `l2` levels compare the direction of the remainder and add vectors of length 1.
    """

    def __init__(self, config):
        super().__init__()
        self.size = config.codebook_size
        self.gradient = GRADIENTS[config.gradient]
        level = QUANTIZERS[config.level_quantizer]
        self.levels = nn.ModuleList(level(config, level=i) for i in range(config.num_quantizers))

    @property
    def wants_data(self) -> bool:
        return any(level.wants_data for level in self.levels)

    def forward(self, z_e: Tensor) -> Quantized:
        with float32_island(z_e):
            z = at_least_float32(z_e)  # (B, D, h, w)
            total, parts = torch.zeros_like(z), []
            for level in self.levels:
                parts.append(level(z - total))
                total = total + parts[-1].latents.detach()
            latents = channels_first(self.gradient(channels_last(z), channels_last(total)))
            means = {name: torch.stack([getattr(part, name) for part in parts]).mean() for name in LEVEL_MEANS}
            codes = torch.stack([part.codes for part in parts], dim=-1)  # (B, h, w, depth)
            ratio = norm_ratio(channels_last(z), channels_last(total))
            return Quantized(latents.to(z_e.dtype), codes, **means, norm_ratio=ratio)

    def encode(self, z_e: Tensor) -> Tensor:
        """(B, D, h, w) -> codes (B, h, w, depth). Changes no state."""
        return torch.stack([codes for _, codes in self.descend(z_e)], dim=-1)

    def descend(self, z_e: Tensor):
        """Yields each level's input (B, D, h, w) and the codes (B, h, w) that it chooses."""
        with float32_island(z_e):
            z = at_least_float32(z_e)
            total = torch.zeros_like(z)
            for level in self.levels:
                codes = level.encode(z - total)
                yield z - total, codes
                total = total + level.get_codebook_entry(codes).to(z.dtype)

    def get_codebook_entry(self, codes: Tensor, shape: tuple[int, ...] | None = None) -> Tensor:
        """Codes (B, h, w, depth), or flat ones with `shape` = (B, h, w, ...), to their sums (B, D, h, w)."""
        codes = codes if shape is None else codes.reshape(*shape[:3], len(self.levels))
        vectors = [level.get_codebook_entry(codes[..., i]) for i, level in enumerate(self.levels)]
        return torch.stack(vectors).cumsum(0)[-1]  # in the order of `forward`: the same rounding

    def log_affinities(self, z_e: Tensor) -> Tensor:
        """-|remainder - e_k|^2 in the order of flat codes: (B, D, h, w) -> (B, h*w*depth, K)."""
        remainders = [z for z, _ in self.descend(z_e)]
        each = [level.log_affinities(z) for level, z in zip(self.levels, remainders, strict=True)]
        return torch.stack(each, dim=2).flatten(1, 2)

    @torch.no_grad()
    def initialize_from_data(self, z_e: Tensor) -> None:
        with float32_island(z_e):
            remainder = at_least_float32(z_e)
            for level in self.levels:
                level.initialize_from_data(remainder)
                remainder = remainder - level.get_codebook_entry(level.encode(remainder))

    def defer_state_updates(self, deferred: bool = True) -> None:
        for level in self.levels:
            level.defer_state_updates(deferred)

    def apply_state_updates(self) -> None:
        for level in self.levels:
            level.apply_state_updates()


LEVEL_MEANS = ("codebook_loss", "commitment_loss", "perplexity", "codebook_usage")


class FiniteScalarQuantizer(Quantizer):
    """Each of a few numbers is bounded and rounded; the codebook is their grid. Mentzer et al. 2024 (2309.15505).

    Nothing to learn, no auxiliary loss. Where `codebook_dim` is not the number of levels, linear maps stand before
    and behind. The first number varies fastest in the code, as in the paper's own code.
    """

    def __init__(self, config):
        super().__init__()
        self.levels = tuple(balanced_levels(config.codebook_size) if config.fsq_levels is None else config.fsq_levels)
        self.size = config.codebook_size
        if min(self.levels) < 2 or math.prod(self.levels) != self.size:
            raise ValueError(
                f"`fsq_levels` must be numbers >= 2 whose product is `codebook_size` = {self.size}, got {self.levels} "
                f"with product {math.prod(self.levels)}."
            )
        width = len(self.levels)
        projects = config.codebook_dim != width
        self.project_in = Projection(config.codebook_dim, width) if projects else nn.Identity()
        self.project_out = Projection(width, config.codebook_dim) if projects else nn.Identity()

    def forward(self, z_e: Tensor) -> Quantized:
        with float32_island(z_e):
            bounded = self.to_grid(z_e)  # (B, h, w, levels)
            rounded = bounded.detach().round()
            codes = self.number(rounded)  # (B, h, w)
            values = straight_through(bounded, rounded) / self.half_widths(z_e)
            latents = channels_first(self.project_out(values)).to(z_e.dtype)
            zero = values.new_zeros(())
            return Quantized(latents, codes, zero, zero, *self.usage(codes), norm_ratio=norm_ratio(bounded, rounded))

    def encode(self, z_e: Tensor) -> Tensor:
        """(B, D, h, w) -> codes (B, h, w)."""
        with float32_island(z_e):
            return self.number(self.to_grid(z_e).round())

    def to_grid(self, z_e: Tensor) -> Tensor:
        """Numbers to be rounded, L levels each: (B, D, h, w) -> (B, h, w, levels) in [-(L-1)/2, (L-1)/2] or, of even L,
        in [-L/2, L/2 - 1]; 0 stays 0 (paper, appendix A.1; its tan is an atanh up to the fifth order)."""
        z = self.project_in(channels_last(at_least_float32(z_e)))
        half = [(level - 1) * (1 - 1e-3) / 2 for level in self.levels]
        offset = [0.5 * (level % 2 == 0) for level in self.levels]
        # Two levels have no middle one for 0 to stay at: it lies between them.
        shift = [math.atanh(o / h) if level > 2 else 0.0 for o, h, level in zip(offset, half, self.levels, strict=True)]
        half, offset, shift = z.new_tensor([half, offset, shift])
        return (z + shift).tanh() * half - offset

    def half_widths(self, like: Tensor) -> Tensor:
        """What scales the rounded numbers to [-1, 1]: (levels,)."""
        return torch.tensor([float(level // 2) for level in self.levels], device=like.device)

    def number(self, rounded: Tensor) -> Tensor:
        """Rounded numbers (..., levels) -> codes (...)."""
        digits = (rounded + self.half_widths(rounded)).long()
        return sum(digits[..., i] * math.prod(self.levels[:i]) for i in range(len(self.levels)))

    def look_up(self, codes: Tensor) -> Tensor:
        """(...) int64 -> (..., D)"""
        return self.project_out(self.grid_values(codes))

    def grid_values(self, codes: Tensor) -> Tensor:
        """Codes (...) -> numbers in [-1, 1], (..., levels)."""
        digits = [codes // math.prod(self.levels[:i]) % level for i, level in enumerate(self.levels)]
        half_widths = self.half_widths(codes)
        values = (torch.stack(digits, dim=-1) - half_widths) / half_widths
        return values.to(self.project_out.weight.dtype) if isinstance(self.project_out, Projection) else values

    def code_vectors(self) -> Tensor:
        """The vectors that codes stand for: (K, D)."""
        parameter = next(self.parameters(), torch.empty(0))  # none without a projection: then on the CPU
        return self.look_up(torch.arange(self.size, device=parameter.device))

    def log_affinities(self, z_e: Tensor) -> Tensor:
        """-|z - v_k|^2 between bounded numbers and grid points, one unit apart: (B, D, h, w) -> (B, h*w, K)."""
        with float32_island(z_e):
            grid = self.grid_values(torch.arange(self.size, device=z_e.device)) * self.half_widths(z_e)
            return negative_squared_distances(self.to_grid(z_e), grid)


def balanced_levels(codebook_size: int) -> list[int]:
    """Factors of K, largest first, each as near as possible to what FSQ's paper found best (5 to 8).

    >>> balanced_levels(512), balanced_levels(1024), balanced_levels(1000)
    ([8, 8, 8], [8, 8, 4, 4], [8, 5, 5, 5])
    """
    if codebook_size < 2:
        raise ValueError(f"`codebook_size` must be at least 2 for fsq, got {codebook_size}.")

    def cost(levels: list[int]) -> float:
        return sum(math.log(level / 6.3) ** 2 for level in levels)  # 6.3 = sqrt(5 * 8)

    return min(_factorisations(codebook_size, codebook_size), key=cost)


def _factorisations(product: int, largest: int):
    """All ways to write `product` as factors of at most `largest`, in falling order."""
    if product == 1:
        yield []
    for factor in range(min(product, largest), 1, -1):
        if product % factor == 0:
            yield from ([factor, *rest] for rest in _factorisations(product // factor, factor))


class GumbelQuantizer(Quantizer):
    """The dVAE's: logits choose, relaxed by Gumbel noise while training. Jang et al. 2017; Ramesh et al. 2021.

    The codebook (K, D) stands for the decoder's first 1x1 convolution, whose input is a distribution over codes.
    """

    def __init__(self, config):
        super().__init__()
        self.size, self.dim = config.codebook_size, config.codebook_dim
        self.temperature, self.hard = config.gumbel_temperature, config.hard
        self.embedding = MixedCodebook(self.size, self.dim)

    def forward(
        self,
        logits: Tensor,
        temperature: float | None = None,
        hard: bool | None = None,
        generator: torch.Generator | None = None,
    ) -> Quantized:
        """Logits (B, K, h, w) -> latents (B, D, h, w).

        `hard` None: in eval the likeliest code's vector, no noise; in training the config's `hard`. False: a sample of
        the relaxation at `temperature` times the codebook. True: a sampled code's vector, with the relaxation's
        gradient (its one-hot sample is an exact draw from q). `generator`, or one for each picture, draws the noise.
        """
        with float32_island(logits):
            scores = at_least_float32(logits)
            codes = scores.argmax(1)
            if hard is None and not self.training:
                latents = self.get_codebook_entry(codes)
            else:
                temperature = self.temperature if temperature is None else temperature
                latents = self.mix(gumbel_softmax(scores, temperature, self.hard if hard is None else hard, generator))
            zero = scores.new_zeros(())
            return Quantized(latents.to(logits.dtype), codes, zero, zero, *self.usage(codes), zero + 1)

    def encode(self, logits: Tensor) -> Tensor:
        """Logits (B, K, h, w) -> the likeliest codes (B, h, w)."""
        return logits.argmax(1)

    def mix(self, probabilities: Tensor) -> Tensor:
        """Weights of the codes (B, K, h, w) -> sums of their vectors (B, D, h, w)."""
        with float32_island(probabilities):
            weights = channels_last(at_least_float32(probabilities))
            return channels_first(weights @ self.code_vectors().to(weights))

    @force_accelerate_hooks("embedding")
    def code_vectors(self) -> Tensor:
        """The vectors that codes stand for: (K, D)."""
        return self.embedding.weight

    def look_up(self, codes: Tensor) -> Tensor:
        """(...) int64 -> (..., D)"""
        return self.embedding(codes)

    def log_affinities(self, logits: Tensor) -> Tensor:
        """The logits themselves: (B, K, h, w) -> (B, h*w, K)."""
        return at_least_float32(logits).flatten(2).transpose(1, 2)


def gumbel_softmax(
    logits: Tensor, temperature: float, hard: bool, generator: torch.Generator | list[torch.Generator] | None
) -> Tensor:
    """A draw of the Concrete distribution over dim 1, shape of `logits`. Jang et al. 2017, eq. 2; Maddison et al. 2017.

    `hard`: its argmax as one-hot, with the gradient of the soft sample.
    """
    # ln(-ln u) is minus a Gumbel draw. A CPU draws many u at a time, which `exponential_` does not: for 3 million of
    # them 13 ms, not 58.
    noise = draw_noise(torch.rand, logits.shape, generator, logits.dtype, logits.device)
    noise = noise.clamp_min_(torch.finfo(logits.dtype).tiny).log_().neg_().log_()
    soft = (logits - noise).div_(temperature).softmax(1)  # in place: these are the largest tensors of a dVAE
    if not hard:
        return soft
    one_hot = torch.zeros_like(soft).scatter_(1, soft.argmax(1, keepdim=True), 1.0)
    return straight_through(soft, one_hot)


QUANTIZERS = {
    "vq": VectorQuantizer,
    "l2": VectorQuantizer,
    "ema": EMAQuantizer,
    "simvq": SimVQQuantizer,
    "residual": ResidualQuantizer,
    "fsq": FiniteScalarQuantizer,
    "gumbel": GumbelQuantizer,
}
