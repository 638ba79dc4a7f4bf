# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""The gated PixelCNN, the prior of the VQ-VAE paper. Van den Oord et al. 2016 (1606.05328), section 2.

Two stacks of masked convolutions: the vertical one sees all rows above a position, the horizontal one the codes to its
left, and takes in the vertical one of the row above::

    v ----- k/2+1 x k conv ----+---- gate ---- v        gate(a, b) = tanh(a) sigmoid(b), a and b shifted by the class
                               | one row down, 1x1
    h ----- 1 x k/2+1 conv --- + --- gate --- 1x1 --- + h

Drawing computes each layer at one position at a time and keeps the results for the positions above and to the left. The
picture is the same as with a full pass for each code.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from huggingface_hub.dataclasses import strict
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel
from transformers import initialization as init
from transformers.modeling_outputs import CausalLMOutput

from ..models.image_token_ids import ImageTokenIds, check_sampling
from .drawing import draw_codes, guided
from .sequences import IGNORED


@strict
class PixelCNNConfig(PreTrainedConfig):
    """A PixelCNN of codes on a grid.

    Args:
        codebook_size, grid_size, num_classes: of the sequencer.
        hidden_size (`int`): maps of each stack.
        num_layers (`int`): gated layers; each widens the view by `kernel_size // 2` rows and columns.
        kernel_size (`int`): odd.
        dropout (`float`): share of the horizontal maps that a training step leaves out.
    """

    model_type = "pixelcnn"

    codebook_size: int = 512
    grid_size: list[int] | tuple[int, ...] = (8, 8)
    num_classes: int = 0
    hidden_size: int = 48
    num_layers: int = 10
    kernel_size: int = 5
    dropout: float | int = 0.0

    def validate_sizes(self):
        if len(self.grid_size) != 2:
            raise ValueError(
                f"A PixelCNN knows one code at each of (h, w) positions, got `grid_size` {tuple(self.grid_size)}."
            )
        if self.kernel_size < 3 or self.kernel_size % 2 == 0:
            raise ValueError(f"`kernel_size` must be odd and at least 3, got {self.kernel_size}.")
        if min(self.hidden_size, self.num_layers) < 1:
            raise ValueError(f"`hidden_size` and `num_layers` must be >= 1, got {self.hidden_size}, {self.num_layers}.")


def gate(maps: Tensor) -> Tensor:
    """(B, 2 d, ...) -> (B, d, ...)"""
    a, b = maps.chunk(2, dim=1)
    return a.tanh() * b.sigmoid()


def at_one_place(convolution: nn.Conv2d, window: Tensor) -> Tensor:
    """The convolution's output where it sees `window`, (B, d_in * k_h * k_w) -> (B, d_out): a product, in less time."""
    return F.linear(window, convolution.weight.flatten(1), convolution.bias)


class GatedLayer(nn.Module):
    """One layer of both stacks. The `first` layer does not see its own position and has no residual connection."""

    def __init__(self, config: PixelCNNConfig, first: bool):
        super().__init__()
        d, self.reach, self.first = config.hidden_size, config.kernel_size // 2, first
        self.vertical = nn.Conv2d(d, 2 * d, (self.reach + 1, config.kernel_size))
        self.vertical_to_horizontal = nn.Conv2d(2 * d, 2 * d, 1)
        self.horizontal = nn.Conv2d(d, 2 * d, (1, self.reach + (0 if first else 1)))
        self.horizontal_out = nn.Conv2d(d, d, 1)
        self.dropout = nn.Dropout(config.dropout)
        self.shift = nn.Embedding(config.num_classes + 1, 2 * d)  # the last one: no class

    def forward(self, v: Tensor, h: Tensor, classes: Tensor) -> tuple[Tensor, Tensor]:
        """Both stacks of whole pictures, (B, d, H, W) each; `classes` (B,)."""
        shift = self.shift(classes)[:, :, None, None]
        rows = self.vertical(F.pad(v, (self.reach, self.reach, self.reach, 0)))  # (B, 2 d, H, W): this row and above
        above = F.pad(rows, (0, 0, 1, 0))[:, :, :-1]  # the rows above
        left = F.pad(h, (self.reach, 0))
        left = self.horizontal(left[..., :-1] if self.first else left)
        update = self.horizontal_out(gate(left + self.vertical_to_horizontal(above) + shift))
        return gate(rows + shift), self.add(h, update)

    def add(self, h: Tensor, update: Tensor) -> Tensor:
        return self.dropout(update) if self.first else h + self.dropout(update)

    def finish_row(self, v_rows: Tensor, row: int, shift: Tensor) -> tuple[Tensor, Tensor]:
        """The vertical stack at a row whose codes are known, from its inputs (B, d, H, W).

        Returns: what the next row's horizontal stack takes in (B, 2 d, W), and the next layer's input (B, d, W).
        """
        window = v_rows[:, :, max(0, row - self.reach) : row + 1]
        window = F.pad(window, (self.reach, self.reach, self.reach + 1 - window.shape[2], 0))
        rows = self.vertical(window)  # (B, 2 d, 1, W)
        return self.vertical_to_horizontal(rows)[:, :, 0], gate(rows + shift[:, :, None, None])[:, :, 0]

    def at_position(self, h_row: Tensor, column: int, above: Tensor, shift: Tensor) -> Tensor:
        """The horizontal stack at one position: (B, d, W) inputs of its row, `above` (B, 2 d) -> (B, d)."""
        stop = column if self.first else column + 1
        window = h_row[:, :, max(0, column - self.reach) : stop]
        window = F.pad(window, (self.horizontal.kernel_size[1] - window.shape[2], 0))
        gated = gate(at_one_place(self.horizontal, window.flatten(1)) + above + shift)
        return self.add(h_row[:, :, column], at_one_place(self.horizontal_out, gated))


class PixelCNNPrior(PreTrainedModel):
    """Reads and draws the sequences of an `ImageTokenSequencer`, as a causal language model does.

    >>> prior = PixelCNNPrior(PixelCNNConfig(codebook_size=16, grid_size=(4, 4), hidden_size=8, num_layers=2))
    >>> prior.draw_ids(ImageTokenIds(codebook_size=16, num_tokens=16), num_images=3).shape
    torch.Size([3, 16])
    """

    config: PixelCNNConfig
    config_class = PixelCNNConfig
    main_input_name = "input_ids"
    accepts_loss_kwargs = False

    def __init__(self, config: PixelCNNConfig):
        config.validate()
        super().__init__(config)
        d, size = config.hidden_size, config.codebook_size
        self.embedding = nn.Embedding(size, d)
        self.layers = nn.ModuleList(GatedLayer(config, first=index == 0) for index in range(config.num_layers))
        self.head = nn.Sequential(nn.ReLU(), nn.Conv2d(d, 4 * d, 1), nn.ReLU(), nn.Conv2d(4 * d, size, 1))
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module):
        """Convolutions start as torch's do, code embeddings small, and the shifts of the classes at 0."""
        if isinstance(module, nn.Conv2d):
            fan_in = module.weight[0].numel()
            init.uniform_(module.weight, -(fan_in**-0.5), fan_in**-0.5)
            init.uniform_(module.bias, -(fan_in**-0.5), fan_in**-0.5)
        elif isinstance(module, nn.Embedding):
            init.normal_(module.weight, 0, 0.1) if module is self.embedding else init.zeros_(module.weight)

    def forward(self, input_ids: Tensor, labels: Tensor | None = None, use_cache: bool = False) -> CausalLMOutput:
        """Scores of every code given those before it.

        Args:
            input_ids: (B, 1 + h*w): class or begin, then the codes.
            labels: the same shape; its image tokens are predicted. use_cache: has no effect; language models have it.

        Returns: `logits` (B, h*w, K): at position i the scores of image token i. `loss` in nats per code.
        """
        height, width = self.config.grid_size
        codes = input_ids[:, 1:].reshape(-1, height, width)
        hidden = self.embedding(codes).permute(0, 3, 1, 2)  # (B, d, H, W)
        v, h = hidden, hidden
        for layer in self.layers:
            v, h = layer(v, h, self.classes_of(input_ids))
        logits = self.head(h).flatten(2).transpose(1, 2)  # (B, h*w, K)
        loss = None
        if labels is not None:
            loss = F.cross_entropy(logits.flatten(0, 1).float(), labels[:, 1:].flatten(), ignore_index=IGNORED)
        return CausalLMOutput(loss=loss, logits=logits)

    def classes_of(self, input_ids: Tensor) -> Tensor:
        """(B,): class of each sequence, `num_classes` for none."""
        return input_ids[:, 0] - self.config.codebook_size

    @torch.no_grad()
    def draw_ids(
        self,
        ids: ImageTokenIds,
        labels: Sequence[int | str] | Tensor | None = None,
        num_images: int | None = None,
        generator: torch.Generator | None = None,
        guidance_scale: float = 1.0,
        **options,
    ) -> Tensor:
        """New pictures as image tokens (B, h*w); arguments and options as `generate_ids`."""
        ids.check_guidance(guidance_scale, labels)
        check_sampling(**options)
        prompt = ids.prompt(labels, num_images).to(self.device)
        if guidance_scale == 1:
            return self.draw(prompt, lambda logits: draw_codes(logits, generator, **options))
        both = torch.cat([prompt, torch.full_like(prompt, ids.begin)])

        def draw_guided(logits: Tensor) -> Tensor:
            return draw_codes(guided(logits, guidance_scale), generator, **options).repeat(2)

        return self.draw(both, draw_guided)[: len(prompt)]

    def draw(self, prompt: Tensor, choose) -> Tensor:
        """Codes (B, h*w) one after the other; `choose` takes scores (B, K) and gives codes (B,)."""
        height, width = self.config.grid_size
        batch, d, dtype = len(prompt), self.config.hidden_size, self.embedding.weight.dtype
        shifts = [layer.shift(self.classes_of(prompt)) for layer in self.layers]  # (B, 2 d) each
        v_rows = torch.zeros(len(self.layers) + 1, batch, d, height, width, device=self.device, dtype=dtype)
        codes = torch.zeros(batch, height, width, dtype=torch.int64, device=self.device)
        for row in range(height):
            above = self.above(v_rows, row, shifts)
            h_row = torch.zeros(len(self.layers) + 1, batch, d, width, device=self.device, dtype=dtype)
            for column in range(width):
                for index, layer in enumerate(self.layers):
                    h = layer.at_position(h_row[index], column, above[index][:, :, column], shifts[index])
                    h_row[index + 1, :, :, column] = h
                codes[:, row, column] = choose(self.scores_at(h))
                h_row[0, :, :, column] = self.embedding(codes[:, row, column])
            v_rows[0, :, :, row] = h_row[0]
        return codes.flatten(1)

    def scores_at(self, h: Tensor) -> Tensor:
        """The head at one position: (B, d) -> (B, K)."""
        _, hidden, _, out = self.head
        return at_one_place(out, at_one_place(hidden, h.relu()).relu())

    def above(self, v_rows: Tensor, row: int, shifts: list[Tensor]) -> list[Tensor]:
        """What each layer's horizontal stack takes in from the rows above `row`, (B, 2 d, W); fills `v_rows`."""
        if row == 0:
            nothing = v_rows.new_zeros(v_rows.shape[1], 2 * v_rows.shape[2], 1, v_rows.shape[4])
            return [layer.vertical_to_horizontal(nothing)[:, :, 0] for layer in self.layers]
        taken = []
        for index, layer in enumerate(self.layers):
            passed, v_rows[index + 1, :, :, row - 1] = layer.finish_row(v_rows[index], row - 1, shifts[index])
            taken.append(passed)
        return taken


AutoConfig.register(PixelCNNConfig.model_type, PixelCNNConfig, exist_ok=True)
AutoModelForCausalLM.register(PixelCNNConfig, PixelCNNPrior, exist_ok=True)
