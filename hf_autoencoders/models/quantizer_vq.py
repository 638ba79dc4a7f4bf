# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""Quantizers that choose the nearest code: its vector moved by gradients (vq), by moving averages (ema), or by a
learned map (simvq).

Letters in shapes: B batch, h w grid, N = B h w vectors, D their width, K codes.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.integrations.accelerate import force_accelerate_hooks

from .codebook_tensors import Codebook, CodebookState, FixedCodebook, Projection
from .codebooks import (
    accumulates_gradients,
    code_statistics,
    draw_global_rows,
    gather_rows,
    k_means,
    sum_over_processes,
)
from .nearest_codes import nearest_codes
from .precision import at_least_float32, float32_island, is_batched
from .quantizer_base import (
    GRADIENTS,
    Quantized,
    Quantizer,
    channels_first,
    channels_last,
    negative_squared_distances,
    norm_ratio,
)


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
        self.unit_norm_look_up = config.normalize_look_up
        self.gradient = GRADIENTS[config.gradient]
        self.seed = config.codebook_seed + level
        self.decay, self.epsilon = config.ema_decay, config.ema_epsilon
        self.dead_code_threshold = config.dead_code_threshold
        self.from_data, self.revives = self.follows_data(config)
        self.embedding = self.make_codebook()
        self.state = self.make_state()
        self._deferred = False
        self._gathered = None  # statistics (K, 1 + D) of this process since the last update
        self._waiting = 0  # training steps in these statistics
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
    def code_vectors(self, codes: Tensor | None = None) -> Tensor:
        """The vectors that `codes` (...) stand for, (..., D); those of all codes, (K, D), if None."""
        weight = self.embedding.weight
        if codes is None:
            return self.scaled(weight)
        vectors = self.scaled(F.embedding(codes, weight))
        return F.normalize(vectors, dim=-1) if self.unit_norm_look_up else vectors

    def to_code_space(self, z_e: Tensor) -> Tensor:
        """What is compared with the codes: (B, D, h, w) -> (B, h, w, D), at least float32."""
        return self.scaled(channels_last(at_least_float32(z_e)))

    def scaled(self, vectors: Tensor) -> Tensor:
        return F.normalize(vectors, dim=-1) if self.unit_norm else vectors

    def log_affinities(self, z_e: Tensor) -> Tensor:
        """``-|z_e - e_k|^2`` for every code: (B, D, h, w) -> (B, h*w, K)."""
        with float32_island(z_e):
            return negative_squared_distances(self.to_code_space(z_e), self.code_vectors())

    def encode(self, z_e: Tensor) -> Tensor:
        """(B, D, h, w) -> codes (B, h, w). Changes no state."""
        with float32_island(z_e):
            return nearest_codes(self.to_code_space(z_e), self.code_vectors())

    def forward(self, z_e: Tensor) -> Quantized:
        with float32_island(z_e):
            follows = self.training and not self.holds_still and not is_batched(z_e)
            if follows and self.wants_data:
                self.initialize_from_data(z_e)
            z = self.to_code_space(z_e)  # (B, h, w, D)
            codes = nearest_codes(z, self.code_vectors())  # (B, h, w)
            chosen = self.code_vectors(codes).to(z.dtype)  # (B, h, w, D)
            latents = channels_first(self.gradient(z, chosen)).to(z_e.dtype)
            quantized = Quantized(
                latents,
                codes,
                self.codebook_loss(z, chosen),
                F.mse_loss(z, chosen.detach()),
                *self.usage(codes),
                norm_ratio=norm_ratio(z, chosen),
            )
            if follows and self.state is not None:
                self.gather_statistics(z.detach().flatten(0, 2), codes.flatten())
                if not (self._deferred or accumulates_gradients()):
                    self.apply_state_updates()
            return quantized

    def codebook_loss(self, z: Tensor, chosen: Tensor) -> Tensor:
        return F.mse_loss(chosen, z.detach())

    # -- state that follows the data

    @torch.no_grad()
    def initialize_from_data(self, z_e: Tensor) -> None:
        if not self.wants_data or self.holds_still:
            return
        with float32_island(z_e):
            rows = gather_rows(self.to_code_space(z_e).flatten(0, 2))  # the global batch, on every process
            rows = rows[rows.isfinite().all(1)]
            if not len(rows):
                return  # nothing to learn from; the next batch may have more
            centroids, counts = k_means(rows, self.size, self.seed, unit_norm=self.unit_norm)
            self.embedding.weight.copy_(centroids)
            # A centroid that no row is nearest to has count 0: it is revived at once. Without revival it gets count 1,
            # the weight of one vector, so that it keeps its place.
            self.state.set_initialized(counts if self.revives else counts.clamp_min(1))

    def defer_state_updates(self, deferred: bool = True) -> None:
        self._deferred = deferred

    def gather_statistics(self, z: Tensor, codes: Tensor) -> None:
        """Adds a micro-batch (N, D), (N,) to what `apply_state_updates` will apply.

        Raises:
            RuntimeError: that is not called: the codebook would never move, and memory would fill.
        """
        self._waiting += not torch.compiler.is_compiling()
        if self._waiting > MOST_WAITING:
            raise RuntimeError(
                f"Statistics of {MOST_WAITING} forwards in training wait for `apply_state_updates`. Call it once an "
                f"optimizer step, or `defer_state_updates(False)`; after a Trainer that was interrupted between two "
                f"steps, `accelerate.state.GradientState._reset_state()`."
            )
        statistics = code_statistics(z, codes, self.size)
        self._gathered = statistics if self._gathered is None else self._gathered + statistics
        if self.revives:
            self._gathered_rows.append(z)

    @torch.no_grad()
    def apply_state_updates(self) -> None:
        if self._gathered is None:
            return
        statistics, rows = sum_over_processes(self._gathered), self._gathered_rows
        self._gathered, self._gathered_rows, self._waiting = None, [], 0
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
        replacement = drawn[order.clamp(0, len(drawn) - 1)].to(vectors.dtype)  # (K, D)
        dead &= (order < len(drawn)) & replacement.isfinite().all(1)
        vectors.copy_(torch.where(dead[:, None], replacement, vectors))
        counts.copy_(torch.where(dead, expected, counts))


MOST_WAITING = 4096  # more micro-batches than any optimizer step has
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
        averaged = self.scaled(averages / self.smoothed_counts())
        vectors.copy_(torch.where(self.state.counts[:, None] > 0, averaged, vectors))  # 0 / 0 without decay and epsilon

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

    def code_vectors(self, codes: Tensor | None = None) -> Tensor:
        return self.embedding_proj(super().code_vectors(codes))


NEAREST_CODE = {"vq": VectorQuantizer, "l2": VectorQuantizer, "ema": EMAQuantizer, "simvq": SimVQQuantizer}
