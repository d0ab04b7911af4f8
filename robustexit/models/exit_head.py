"""One exit of a model: pooling, an optional LayerNorm, and a registered head."""

from __future__ import annotations

import torch
from torch import nn

from robustexit.errors import ConfigError
from robustexit.models.config import MultiExitConfig
from robustexit.models.heads import ContextHead, EarlierExits, HeadInputs, build_head, poolings

HEAD_ROWS = 32
"""Rows a head reads at least in a layer-by-layer pass."""


class ExitHead(nn.Module):
    """Pooling, an optional LayerNorm, and a registered head.

    Args:
        config: The model's configuration.
        exit: 1-based number of the exit.
        previous: The exit before, None at the first.
    """

    def __init__(self, config: MultiExitConfig, exit: int = 1, previous: ExitHead | None = None) -> None:
        super().__init__()
        self.pooling = poolings[config.pooling]
        eps = getattr(config.encoder, "layer_norm_eps", getattr(config.encoder, "norm_eps", 1e-12))
        self.norm = nn.LayerNorm(config.hidden_size, eps=eps) if config.head_norm else nn.Identity()
        self.head: nn.Module = build_head(
            config.head,
            config.hidden_size,
            config.num_labels,
            config.dropout,
            config.head_options,
            exit=exit,
            previous=None if previous is None else previous.head,
            pooling=self.pooling,
        )
        if config.temperatures is not None:
            if self.reads_earlier:
                raise ConfigError(
                    f"temperatures: head {config.head!r} reads the logits of earlier exits, which scaling would "
                    "change; use the policy 'calibrated-max-probability' instead"
                )
            # A buffer, so that it is saved with the weights and part of their hash.
            self.register_buffer("temperature", torch.tensor(config.temperatures[exit - 1]))

    @property
    def reads_tokens(self) -> bool:
        """Whether the head reads the states of all tokens beside the pooled one."""
        return isinstance(self.head, ContextHead) and self.head.reads_tokens

    @property
    def reads_earlier(self) -> bool:
        """Whether the head reads the exits before this one."""
        return isinstance(self.head, ContextHead) and self.head.reads_earlier

    def forward(
        self, state: torch.Tensor, mask: torch.Tensor, earlier: EarlierExits | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Read a layer's state.

        Args:
            state: Shape [rows, tokens, width].
            mask: 1 for tokens, 0 for padding, shape [rows, tokens].
            earlier: The exits before, for heads that read them.

        Returns:
            The pooled state [rows, width] and the logits [rows, classes].
        """
        return self._read(state, mask, earlier, at_least=0)

    def read_padded(
        self, state: torch.Tensor, mask: torch.Tensor, earlier: EarlierExits | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The same for few rows, whose logits must not depend on how many there are.

        A head is a thin matrix product, and its kernel changes with the number of rows; so the head always reads
        at least `HEAD_ROWS` of them (docs/decisions.md, "Numerics").
        """
        return self._read(state, mask, earlier, at_least=HEAD_ROWS)

    def classify(self, pooled: torch.Tensor, earlier: EarlierExits | None = None) -> torch.Tensor:
        """Return logits [rows, classes] from pooled states [rows, width] alone; not for heads that read tokens."""
        return self._classify(HeadInputs(pooled, earlier or EarlierExits()), at_least=0)

    def _read(
        self, state: torch.Tensor, mask: torch.Tensor, earlier: EarlierExits | None, at_least: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        pooled = self.norm(self.pooling(state, mask))
        earlier = earlier or EarlierExits()
        inputs = (
            HeadInputs(pooled, earlier, self.norm(state), mask) if self.reads_tokens else HeadInputs(pooled, earlier)
        )
        return pooled, self._classify(inputs, at_least)

    def _classify(self, inputs: HeadInputs, at_least: int) -> torch.Tensor:
        head = self.head
        gathered = head.gather(inputs) if isinstance(head, ContextHead) else inputs.pooled
        rows = len(gathered)
        if rows < at_least:
            gathered = torch.cat([gathered, gathered.new_zeros(at_least - rows, gathered.shape[1])])
        logits: torch.Tensor = head.classify(gathered) if isinstance(head, ContextHead) else head(gathered)
        temperature = getattr(self, "temperature", None)
        return logits[:rows] if temperature is None else logits[:rows] / temperature


def build_exit_heads(config: MultiExitConfig) -> nn.ModuleList:
    """Return the heads of all exits, first exit first.

    Raises:
        ConfigError: An option of the head that cannot work.
    """
    built: list[ExitHead] = []
    for exit in range(1, len(config.exit_layers) + 1):
        built.append(ExitHead(config, exit, built[-1] if built else None))
    return nn.ModuleList(built)
