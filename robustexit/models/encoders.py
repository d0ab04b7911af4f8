"""Encoders one layer at a time: a small adapter per family over Hugging Face's own modules.

An adapter runs the encoder's embeddings and then single layers, so that a forward pass can stop anywhere
and rows can leave on the way. States equal what the encoder returns as `hidden_states`. Attention masks are
built here and always passed, also for batches without padding, so that a row is computed the same way
whatever its neighbours. This is the one place that knows how transformers 4.50 to 4.57 call their layers.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from transformers import MODEL_MAPPING, PretrainedConfig, PreTrainedModel

from robustexit.errors import ConfigError, ModelError
from robustexit.registry import Registry


@dataclass
class EncoderState:
    """Where a layer-by-layer pass stands.

    Attributes:
        hidden: The current state, shape [rows, tokens, width].
        mask: 1 for tokens, 0 for padding, shape [rows, tokens], int64.
        by_row: What the layers need for each row (attention masks); the first dimension is rows.
        shared: What the layers need that is the same for every row (relative or rotary positions).
        layer: Layers run so far; `hidden` is Hugging Face's `hidden_states[layer]`.
    """

    hidden: torch.Tensor
    mask: torch.Tensor
    by_row: dict[str, torch.Tensor]
    shared: dict[str, torch.Tensor | None] = field(default_factory=dict)
    layer: int = 0

    def keep(self, rows: torch.Tensor) -> None:
        """Drop every row not in `rows` (indices into the current rows, in the order to keep)."""
        rows = rows.to(self.hidden.device)
        self.hidden = self.hidden.index_select(0, rows)
        self.mask = self.mask.index_select(0, rows)
        self.by_row = {name: value.index_select(0, rows) for name, value in self.by_row.items()}

    def detach(self) -> None:
        """Stop gradients of later layers from flowing into what has been computed so far."""
        self.hidden = self.hidden.detach()
        self.by_row = {name: value.detach() for name, value in self.by_row.items()}
        self.shared = {name: None if value is None else value.detach() for name, value in self.shared.items()}


class EncoderAdapter(ABC):
    """Runs one family's encoder layer by layer.

    Args:
        encoder: The bare encoder (`AutoModel` class of its family).

    Raises:
        ModelError: An attention implementation other than sdpa or eager, or a decoder.
    """

    build_options: ClassVar[Mapping[str, Any]] = {}
    """Keyword arguments of the encoder's class that leave out parts no exit reads."""

    def __init__(self, encoder: PreTrainedModel) -> None:
        # Any: Hugging Face's modules are reached by name, family by family.
        self.encoder: Any = encoder
        self.config: Any = encoder.config
        self.attention = encoder.config._attn_implementation
        if self.attention not in ("sdpa", "eager"):
            raise ModelError(
                f"attention implementation: expected 'sdpa' or 'eager', got {self.attention!r}; "
                "load the model with one of these two"
            )
        if getattr(self.config, "is_decoder", False):
            raise ModelError(
                f"encoder: expected a bidirectional {self.config.model_type}, got one with is_decoder=True; "
                "set is_decoder to false in its config.json"
            )

    def embed(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None,
        token_type_ids: torch.Tensor | None,
    ) -> EncoderState:
        """Start a pass: embeddings and everything the layers need.

        Args:
            input_ids: Shape [rows, tokens], int64.
            attention_mask: 1 for tokens, 0 for padding, shape [rows, tokens]; None for no padding.
            token_type_ids: Segment of each token, shape [rows, tokens]; unused by families without segments.

        Returns:
            The state before layer 1.

        Raises:
            ModelError: Shapes that do not fit each other, or more tokens than the encoder has positions for.
        """
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask.to(torch.int64)
        if input_ids.dim() != 2 or mask.shape != input_ids.shape:
            raise ModelError(
                f"inputs: expected input_ids and attention_mask of one shape [rows, tokens], got "
                f"{tuple(input_ids.shape)} and {tuple(mask.shape)}"
            )
        limit = self.position_limit(self.config)
        if input_ids.shape[1] > limit:
            raise ModelError(
                f"inputs: expected at most {limit} tokens, got {input_ids.shape[1]}; "
                "truncate in the tokenizer (max_length)"
            )
        if getattr(self.config, "type_vocab_size", 0) < 2:
            token_type_ids = None
        return self._embed(input_ids, mask, token_type_ids)

    def step(self, state: EncoderState) -> None:
        """Run the next layer on the rows still there, in place."""
        state.hidden = self._layer(state, state.layer)
        state.layer += 1

    @classmethod
    def position_limit(cls, config: PretrainedConfig) -> int:
        """Return the longest input, in tokens, that an encoder of this configuration has positions for."""
        return int(config.max_position_embeddings)

    @abstractmethod
    def _embed(
        self, input_ids: torch.Tensor, mask: torch.Tensor, token_type_ids: torch.Tensor | None
    ) -> EncoderState: ...

    @abstractmethod
    def _layer(self, state: EncoderState, index: int) -> torch.Tensor: ...

    def _additive(self, mask: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        """Return 0 for tokens and the lowest number for padding, shape [rows, 1, 1, tokens]."""
        return (1.0 - mask[:, None, None, :].to(dtype)) * torch.finfo(dtype).min

    def _layer_mask(self, state: EncoderState) -> torch.Tensor:
        mask = state.by_row["attention_mask"]
        # Hugging Face expands for sdpa and broadcasts in eager attention; same shapes, same kernels.
        return mask.expand(-1, -1, mask.shape[-1], -1) if self.attention == "sdpa" else mask


encoders: Registry[type[EncoderAdapter]] = Registry("encoder family", "robustexit.encoders")
"""Adapters by `model_type`; other packages add theirs through the entry-point group `robustexit.encoders`."""


def _first(output: torch.Tensor | tuple[Any, ...]) -> torch.Tensor:
    """Return the hidden state of a layer's output (a tuple in most families and versions)."""
    state = output[0] if isinstance(output, tuple) else output
    assert isinstance(state, torch.Tensor)
    return state


@encoders.register("bert")
class BertAdapter(EncoderAdapter):
    """BERT (Devlin et al., 2019)."""

    build_options = {"add_pooling_layer": False}  # noqa: RUF012

    def _embed(self, input_ids: torch.Tensor, mask: torch.Tensor, token_type_ids: torch.Tensor | None) -> EncoderState:
        hidden = self.encoder.embeddings(input_ids=input_ids, token_type_ids=token_type_ids)
        return EncoderState(hidden, mask, {"attention_mask": self._additive(mask, hidden.dtype)})

    def _layer(self, state: EncoderState, index: int) -> torch.Tensor:
        layer = self.encoder.encoder.layer[index]
        return _first(layer(state.hidden, attention_mask=self._layer_mask(state)))


@encoders.register("roberta")
class RobertaAdapter(BertAdapter):
    """RoBERTa (Liu et al., 2019): BERT's layers, positions counted from after the padding index."""

    @classmethod
    def position_limit(cls, config: PretrainedConfig) -> int:
        """Return the longest input, in tokens, that an encoder of this configuration has positions for."""
        return int(config.max_position_embeddings - config.pad_token_id - 1)


@encoders.register("xlm-roberta")
class XlmRobertaAdapter(RobertaAdapter):
    """XLM-RoBERTa (Conneau et al., 2020)."""


@encoders.register("electra")
class ElectraAdapter(BertAdapter):
    """ELECTRA's discriminator (Clark et al., 2020): narrower embeddings, projected before layer 1."""

    build_options = {}  # noqa: RUF012

    def _embed(self, input_ids: torch.Tensor, mask: torch.Tensor, token_type_ids: torch.Tensor | None) -> EncoderState:
        state = super()._embed(input_ids, mask, token_type_ids)
        if hasattr(self.encoder, "embeddings_project"):
            state.hidden = self.encoder.embeddings_project(state.hidden)
        return state


@encoders.register("albert")
class AlbertAdapter(EncoderAdapter):
    """ALBERT (Lan et al., 2020): layers share the weights of their group."""

    build_options = {"add_pooling_layer": False}  # noqa: RUF012

    def _embed(self, input_ids: torch.Tensor, mask: torch.Tensor, token_type_ids: torch.Tensor | None) -> EncoderState:
        embedded = self.encoder.embeddings(input_ids, token_type_ids=token_type_ids)
        hidden = self.encoder.encoder.embedding_hidden_mapping_in(embedded)
        return EncoderState(hidden, mask, {"attention_mask": self._additive(mask, hidden.dtype)})

    def _layer(self, state: EncoderState, index: int) -> torch.Tensor:
        groups = self.encoder.encoder.albert_layer_groups
        group = groups[index * len(groups) // self.config.num_hidden_layers]
        no_head_mask = [None] * len(group.albert_layers)
        return _first(group(state.hidden, self._layer_mask(state), no_head_mask))


@encoders.register("distilbert")
class DistilBertAdapter(EncoderAdapter):
    """DistilBERT (Sanh et al., 2019): no segments; its eager attention reads a 0/1 mask."""

    def _embed(self, input_ids: torch.Tensor, mask: torch.Tensor, token_type_ids: torch.Tensor | None) -> EncoderState:
        hidden = self.encoder.embeddings(input_ids)
        layer_mask = self._additive(mask, hidden.dtype) if self.attention == "sdpa" else mask
        return EncoderState(hidden, mask, {"attention_mask": layer_mask})

    def _layer(self, state: EncoderState, index: int) -> torch.Tensor:
        return _first(self.encoder.transformer.layer[index](state.hidden, self._layer_mask(state)))


@encoders.register("deberta-v2")
class DebertaV2Adapter(EncoderAdapter):
    """DeBERTa v2 and v3 (He et al., 2021): relative positions; a convolution beside layer 1 in v2-xlarge."""

    def _embed(self, input_ids: torch.Tensor, mask: torch.Tensor, token_type_ids: torch.Tensor | None) -> EncoderState:
        hidden = self.encoder.embeddings(input_ids=input_ids, token_type_ids=token_type_ids, mask=mask)
        stack = self.encoder.encoder
        shared = {"relative_pos": stack.get_rel_pos(hidden), "rel_embeddings": stack.get_rel_embedding()}
        return EncoderState(hidden, mask, {"attention_mask": stack.get_attention_mask(mask)}, shared)

    def _layer(self, state: EncoderState, index: int) -> torch.Tensor:
        stack = self.encoder.encoder
        mask = state.by_row["attention_mask"]
        output = _first(stack.layer[index](state.hidden, mask, **state.shared))
        if index == 0 and stack.conv is not None:
            output = stack.conv(state.hidden, output, state.mask)
        return output


@encoders.register("modernbert")
class ModernBertAdapter(EncoderAdapter):
    """ModernBERT (Warner et al., 2024): rotary positions, local and global layers, one norm after the last.

    Inner states are not normalised; the state of the last layer is the encoder's `last_hidden_state`, after
    its final norm.
    """

    def __init__(self, encoder: PreTrainedModel) -> None:
        super().__init__(encoder)
        # Compiling for every padded length costs more than it saves, and changes answers between machines.
        self.config.reference_compile = False

    def _embed(self, input_ids: torch.Tensor, mask: torch.Tensor, token_type_ids: torch.Tensor | None) -> EncoderState:
        hidden = self.encoder.embeddings(input_ids=input_ids)
        everywhere, window = self.encoder._update_attention_mask(mask, output_attentions=False)
        positions = torch.arange(input_ids.shape[1], device=input_ids.device).unsqueeze(0)
        masks = {"attention_mask": everywhere, "sliding_window_mask": window}
        return EncoderState(hidden, mask, masks, {"position_ids": positions})

    def _layer(self, state: EncoderState, index: int) -> torch.Tensor:
        output = _first(self.encoder.layers[index](state.hidden, **state.by_row, **state.shared))
        is_last = index + 1 == self.config.num_hidden_layers
        return _first(self.encoder.final_norm(output)) if is_last else output


def adapter_class(model_type: str) -> type[EncoderAdapter]:
    """Return the adapter of an encoder family.

    Args:
        model_type: `model_type` of the encoder's configuration.

    Raises:
        ModelError: The family is not supported; the message lists those that are.
    """
    try:
        return encoders.get(model_type)
    except ConfigError as error:
        raise ModelError(
            f"{error}; exits need an encoder that can run layer by layer (register an adapter under the "
            "entry-point group 'robustexit.encoders' for another family)"
        ) from error


def adapter_for(encoder: PreTrainedModel) -> EncoderAdapter:
    """Return the adapter that runs this encoder layer by layer.

    Raises:
        ModelError: Unsupported family, attention implementation or decoder.
    """
    return adapter_class(encoder.config.model_type)(encoder)


def new_encoder(config: PretrainedConfig) -> PreTrainedModel:
    """Return a randomly initialised encoder without the parts no exit reads (BERT's pooler).

    Raises:
        ModelError: Unsupported family.
    """
    options = adapter_class(config.model_type).build_options
    build: Any = MODEL_MAPPING[type(config)]
    encoder: PreTrainedModel = build(config, **options)
    return encoder
