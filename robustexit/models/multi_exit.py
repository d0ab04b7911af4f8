"""The multi-exit classifier: a pretrained encoder with a head after some or all of its layers.

Training and early exit read the same model. `forward` computes every exit (with gradients); `layerwise`
stops where its caller stops and lets rows leave on the way. Both take the same steps. After DeeBERT (Xin et
al., 2020), PABEE (Zhou et al., 2020) and BERxiT (Xin et al., 2021).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn
from transformers import (
    MODEL_MAPPING,
    AutoConfig,
    AutoModelForSequenceClassification,
    PretrainedConfig,
    PreTrainedModel,
)
from transformers.utils.generic import ModelOutput

from robustexit.errors import ModelError
from robustexit.exits.layerwise import ExitOutput
from robustexit.models.config import MODEL_TYPE, MultiExitConfig
from robustexit.models.encoders import EncoderAdapter, EncoderState, adapter_class, adapter_for, new_encoder
from robustexit.models.exit_head import ExitHead, build_exit_heads
from robustexit.models.heads import EarlierExits
from robustexit.models.sources import check_config_file, load_weights, read_checked, resolve_backbone


@dataclass
class MultiExitOutput(ModelOutput):
    """What `MultiExitForSequenceClassification.forward` returns.

    Attributes:
        loss: Mean over exits of the cross-entropy, if labels were given.
        logits: Every exit's logits, shape [rows, exits, classes].
        pooled: What each head read, shape [rows, exits, width].
        hidden_states: If asked for, the states of layer 0 (embeddings) to the last exit's layer, each of
            shape [rows, tokens, width].
    """

    loss: torch.Tensor | None = None
    logits: torch.Tensor | None = None
    pooled: torch.Tensor | None = None
    hidden_states: tuple[torch.Tensor, ...] | None = None


class MultiExitRun:
    """A forward pass in progress over one padded batch (see `robustexit.exits.layerwise.LayerwiseRun`).

    Layers after the last `advance` never run; rows dropped by `keep` are gone from every later layer.

    Args:
        adapter: The encoder's adapter.
        state: The state after the embeddings.
        exits: Layer and head of each exit, in order.
    """

    def __init__(self, adapter: EncoderAdapter, state: EncoderState, exits: Sequence[tuple[int, ExitHead]]) -> None:
        self._adapter = adapter
        self._exits = exits
        self._next = 0
        self._remembers = any(head.reads_earlier for _, head in exits)
        self.state = state
        self.earlier = EarlierExits()

    def step_to_exit(self) -> tuple[ExitHead, list[torch.Tensor]]:
        """Run the layers up to the next exit.

        Returns:
            The exit's head, and the state after each layer run (the head reads the last).

        Raises:
            ModelError: Every exit has been run.
        """
        if self._next == len(self._exits):
            raise ModelError(f"advance: this model has {len(self._exits)} exits and all of them have been run")
        layer, head = self._exits[self._next]
        self._next += 1
        states = []
        while self.state.layer < layer:
            self._adapter.step(self.state)
            states.append(self.state.hidden)
        return head, states

    def advance(self) -> ExitOutput:
        """Run the encoder layers up to the next exit and that exit's head.

        Returns:
            Logits in float32 and pooled states of the rows still in the batch.

        Raises:
            ModelError: Every exit has been run.
        """
        head, _ = self.step_to_exit()
        pooled, logits = self.read(head, padded=True)
        return ExitOutput(logits=logits.float(), pooled=pooled)

    def read(self, head: ExitHead, *, padded: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
        """Let a head read the current state, and remember what it read and said if later heads will ask.

        Args:
            head: What `step_to_exit` returned.
            padded: Read with filler rows, so that a row's logits do not depend on how many there are.

        Returns:
            The pooled state [rows, width] and the logits [rows, classes].
        """
        read = head.read_padded if padded else head
        pooled, logits = read(self.state.hidden, self.state.mask, self.earlier)
        if self._remembers:
            self.earlier.add(pooled, logits)
        return pooled, logits

    def keep(self, rows: torch.Tensor) -> None:
        """Drop every row not in `rows` (indices into the current batch, in the order to keep)."""
        self.state.keep(rows)
        self.earlier.keep(rows)

    def detach(self) -> None:
        """Stop gradients of later exits from flowing into what has been computed so far."""
        self.state.detach()
        self.earlier.detach()


class MultiExitForSequenceClassification(PreTrainedModel):  # type: ignore[no-untyped-call]
    """A text classifier with an exit after some or all encoder layers.

    Args:
        config: Encoder, exit layers and heads.
        encoder: A loaded encoder to take instead of a randomly initialised one.

    Attributes:
        exit_layers: Encoder layer of each exit, 1-based.
        num_exits: K.
        encoder_layers: Layers of the encoder.
        cut_gradients: `forward` stops gradients after every exit: none reaches the layers below the exit before.
    """

    config_class = MultiExitConfig
    base_model_prefix = "encoder"
    main_input_name = "input_ids"
    supports_gradient_checkpointing = False
    _supports_sdpa = True

    def __init__(self, config: MultiExitConfig, encoder: PreTrainedModel | None = None) -> None:
        super().__init__(config)
        self.encoder: PreTrainedModel = new_encoder(config.encoder) if encoder is None else encoder
        adapter_for(self.encoder)
        self.heads = build_exit_heads(config)
        if self.heads_shared:
            # Saved once, under the first exit's names.
            self._tied_weights_keys = [r"^heads\.[1-9]\d*\.head\."]  # type: ignore[assignment]  # typed None there
        self.exit_layers: tuple[int, ...] = config.exit_layers
        self.num_exits = len(config.exit_layers)
        self.encoder_layers = config.num_hidden_layers
        # Set while a regime trains every exit's span of layers apart (SWEET); no part of the saved model.
        self.cut_gradients = False
        self.post_init()  # type: ignore[no-untyped-call]

    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Linear):
            module.weight.data.normal_(mean=0.0, std=0.02)
            if module.bias is not None:
                module.bias.data.zero_()
        elif isinstance(module, nn.LayerNorm):
            module.weight.data.fill_(1.0)
            module.bias.data.zero_()

    def layerwise(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.Tensor | None = None,
    ) -> MultiExitRun:
        """Start a pass that runs one exit at a time.

        Args:
            input_ids: Shape [rows, tokens], int64.
            attention_mask: 1 for tokens, 0 for padding, shape [rows, tokens]; None for no padding.
            token_type_ids: Segments of a text pair, for families that have them, shape [rows, tokens].

        Returns:
            The pass, after the embeddings and before layer 1. Gradients are recorded unless the caller
            turns them off.

        Raises:
            ModelError: Inputs that do not fit each other or the encoder.
        """
        adapter = adapter_for(self.encoder)
        state = adapter.embed(input_ids, attention_mask, token_type_ids)
        return MultiExitRun(adapter, state, list(zip(self.exit_layers, self._exit_heads(), strict=True)))

    @property
    def heads_read_tokens(self) -> bool:
        """Whether a head reads token states, so that pooled states alone do not give its logits."""
        return any(exit_head.reads_tokens for exit_head in self._exit_heads())

    @property
    def heads_read_earlier(self) -> bool:
        """Whether a head reads the exits before, so that changing one head changes the logits of later exits."""
        return any(exit_head.reads_earlier for exit_head in self._exit_heads())

    @property
    def heads_shared(self) -> bool:
        """Whether all exits read with one head, so that training one of them changes all."""
        first, *others = self._exit_heads()
        return bool(others) and all(exit_head.head is first.head for exit_head in others)

    def _exit_heads(self) -> list[ExitHead]:
        return list(cast("Iterable[ExitHead]", self.heads))

    def head_logits(self, pooled: torch.Tensor) -> torch.Tensor:
        """Compute every exit's logits from stored pooled states, with gradients to the heads.

        Args:
            pooled: What the heads read (`MultiExitOutput.pooled`), shape [rows, exits, width].

        Returns:
            Shape [rows, exits, classes], float32.

        Raises:
            ModelError: A head reads token states, or the shape does not fit this model.
        """
        if self.heads_read_tokens:
            raise ModelError(
                f"head_logits: the heads {self.config.head!r} read every token's state, and stored pooled states do "
                "not hold those; run the encoder (a regime that trains it), or choose another head"
            )
        expected = (self.num_exits, self.config.hidden_size)
        if pooled.dim() != 3 or tuple(pooled.shape[1:]) != expected:
            raise ModelError(
                f"head_logits: expected pooled states of shape [rows, {expected[0]}, {expected[1]}], got "
                f"{tuple(pooled.shape)}; they come from another model"
            )
        earlier = EarlierExits()
        for index, exit_head in enumerate(self._exit_heads()):
            earlier.add(pooled[:, index], exit_head.classify(pooled[:, index], earlier))
        return torch.stack(earlier.logits, dim=1).float()

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> MultiExitOutput | tuple[Any, ...]:
        """Compute every exit.

        Args:
            input_ids: Shape [rows, tokens], int64.
            attention_mask: 1 for tokens, 0 for padding, shape [rows, tokens]; None for no padding.
            token_type_ids: Segments of a text pair, for families that have them, shape [rows, tokens].
            labels: Class indices, shape [rows], for the loss.
            output_hidden_states: Return the states of every layer up to the last exit's.
            return_dict: False for a plain tuple without the absent members.

        Returns:
            Loss, logits, pooled states and, if asked for, hidden states.

        Raises:
            ModelError: Inputs that do not fit each other or the encoder.
        """
        run = self.layerwise(input_ids, attention_mask, token_type_ids)
        states = [run.state.hidden]
        read: list[tuple[torch.Tensor, torch.Tensor]] = []
        for _ in range(self.num_exits):
            head, new_states = run.step_to_exit()
            states.extend(new_states)
            read.append(run.read(head))
            if self.cut_gradients:
                run.detach()
        logits = torch.stack([logits for _, logits in read], dim=1)
        wants_states = self.config.output_hidden_states if output_hidden_states is None else output_hidden_states
        output = MultiExitOutput(
            loss=None if labels is None else _mean_exit_loss(logits, labels),
            logits=logits,
            pooled=torch.stack([pooled for pooled, _ in read], dim=1),
            hidden_states=tuple(states) if wants_states else None,
        )
        as_dict = self.config.use_return_dict if return_dict is None else return_dict
        return output if as_dict else output.to_tuple()

    @classmethod
    def from_backbone(
        cls,
        name_or_path: str | Path,
        *,
        label_names: Sequence[str],
        exit_layers: Sequence[int] | None = None,
        head: str = "linear",
        head_options: Mapping[str, Any] | None = None,
        pooling: str = "mean",
        dropout: float = 0.1,
        head_norm: bool | None = None,
        max_length: int | None = None,
        field_names: Sequence[str] = ("text",),
        seed: int = 0,
        allow_network: bool = False,
        trust_remote_code: bool = False,
    ) -> MultiExitForSequenceClassification:
        """Put new heads on a pretrained encoder.

        Args:
            name_or_path: Folder or Hub id of an encoder (or of a model that contains one), or
                ``"embedded:minilm"``.
            label_names: Name of each class, at least two.
            exit_layers: Encoder layers (1-based) that get a head; None for every layer.
            head: Registered head name.
            head_options: Options of the head by name; None for its defaults.
            pooling: ``"mean"`` or ``"cls"``.
            dropout: Dropout probability in the heads.
            head_norm: LayerNorm before each head; None chooses by family.
            max_length: Longest input in tokens; None for the encoder's own limit.
            field_names: Text fields, in the order the tokenizer sees them.
            seed: Seed of the new heads; the global random state is left as it was.
            allow_network: Let the Hub be asked.
            trust_remote_code: Passed on when the encoder is loaded.

        Returns:
            The model in evaluation mode; its heads are untrained.

        Raises:
            ModelError: Unsupported family, or a checkpoint that cannot be read or lacks weights.
            ConfigError: Settings that cannot work.
            ResourceError: The embedded encoder's package is not installed.
        """
        encoder = load_encoder(name_or_path, allow_network=allow_network, trust_remote_code=trust_remote_code)
        # Saved with the model: the name the user gave, not the folder it resolved to on this machine.
        encoder.config._name_or_path = str(name_or_path)
        config = MultiExitConfig(
            encoder=encoder.config,
            exit_layers=exit_layers,
            head=head,
            head_options=head_options,
            pooling=pooling,
            dropout=dropout,
            head_norm=head_norm,
            field_names=field_names,
            max_length=max_length,
            id2label=dict(enumerate(label_names)),
            label2id={name: index for index, name in enumerate(label_names)},
            pad_token_id=encoder.config.pad_token_id,
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = cls(config, encoder=encoder)
        model.train(False)
        return model


def _mean_exit_loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return the cross-entropy averaged over rows and exits, from logits of shape [rows, exits, classes]."""
    per_exit = labels.unsqueeze(1).expand(logits.shape[:2])
    return nn.functional.cross_entropy(logits.flatten(0, 1).float(), per_exit.flatten())


def load_encoder(
    name_or_path: str | Path, *, allow_network: bool = False, trust_remote_code: bool = False
) -> PreTrainedModel:
    """Load a pretrained encoder of a supported family, or the one inside a multi-exit folder.

    Args:
        name_or_path: Folder, Hub id or ``"embedded:minilm"``.
        allow_network: Let the Hub be asked.
        trust_remote_code: Run configuration code that comes with the checkpoint.

    Raises:
        ModelError: Unsupported family, or a checkpoint that cannot be read or lacks weights.
        ResourceError: The embedded encoder's package is not installed.
    """
    where = resolve_backbone(name_or_path, allow_network=allow_network)
    check_config_file(where)
    access = {"allow_network": allow_network, "trust_remote_code": trust_remote_code}
    config: PretrainedConfig = read_checked(
        "configuration",
        where,
        lambda: AutoConfig.from_pretrained(
            where, local_files_only=not allow_network, trust_remote_code=trust_remote_code
        ),
    )
    if config.model_type == MODEL_TYPE:
        whole = load_weights(MultiExitForSequenceClassification, where, **access)
        return cast("MultiExitForSequenceClassification", whole).encoder
    options = adapter_class(config.model_type).build_options
    return load_weights(MODEL_MAPPING[type(config)], where, config=config, **access, **options)


AutoConfig.register(MODEL_TYPE, MultiExitConfig, exist_ok=True)
AutoModelForSequenceClassification.register(MultiExitConfig, MultiExitForSequenceClassification, exist_ok=True)
