"""Tiny random encoders of every family, a padded batch of text pairs, and a tokenizer with twenty words."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import (
    MODEL_MAPPING,
    AlbertConfig,
    BertConfig,
    BertTokenizerFast,
    DebertaV2Config,
    DistilBertConfig,
    ElectraConfig,
    ModernBertConfig,
    PretrainedConfig,
    PreTrainedModel,
    RobertaConfig,
    XLMRobertaConfig,
)

from robustexit.models import MultiExitConfig, MultiExitForSequenceClassification

VOCABULARY = 40
_SIZES = {
    "vocab_size": VOCABULARY,
    "hidden_size": 16,
    "num_hidden_layers": 4,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "max_position_embeddings": 40,
    # Far from zero, so that two ways of computing the same thing cannot agree by chance.
    "initializer_range": 0.4,
}
_DEBERTA = {
    "relative_attention": True,
    "max_relative_positions": -1,
    "position_buckets": 4,
    "norm_rel_ebd": "layer_norm",
    "share_att_key": True,
    "pos_att_type": ["p2c", "c2p"],
    "position_biased_input": False,
    "type_vocab_size": 0,
}
_CONFIGS: dict[str, Callable[[], PretrainedConfig]] = {
    "bert": lambda: BertConfig(**_SIZES),
    "roberta": lambda: RobertaConfig(**_SIZES, type_vocab_size=1),
    "xlm-roberta": lambda: XLMRobertaConfig(**_SIZES, type_vocab_size=1),
    "albert": lambda: AlbertConfig(**_SIZES, embedding_size=8, num_hidden_groups=2, inner_group_num=2),
    "distilbert": lambda: DistilBertConfig(
        vocab_size=VOCABULARY,
        dim=16,
        n_layers=4,
        n_heads=2,
        hidden_dim=24,
        max_position_embeddings=40,
        initializer_range=0.4,
    ),
    "electra": lambda: ElectraConfig(**_SIZES, embedding_size=8),
    "deberta-v3": lambda: DebertaV2Config(**_SIZES, **_DEBERTA),
    "deberta-v2-conv": lambda: DebertaV2Config(
        **{**_SIZES, **_DEBERTA, "type_vocab_size": 2, "position_biased_input": True},
        conv_kernel_size=3,
        conv_act="gelu",
    ),
    "modernbert": lambda: ModernBertConfig(**_SIZES, local_attention=4, global_attn_every_n_layers=3, pad_token_id=0),
}
_SDPA = {"bert", "roberta", "xlm-roberta", "albert", "distilbert", "modernbert"}


@pytest.fixture(params=list(_CONFIGS))
def family(request: pytest.FixtureRequest) -> str:
    """Each family's name in turn."""
    return str(request.param)


@pytest.fixture(
    params=[(name, kind) for name in _CONFIGS for kind in ("eager", "sdpa") if kind == "eager" or name in _SDPA],
    ids="-".join,
)
def family_and_attention(request: pytest.FixtureRequest) -> tuple[str, str]:
    """Each family with each attention implementation that Hugging Face has for it."""
    return request.param  # type: ignore[no-any-return]


@pytest.fixture
def tiny_config() -> Callable[[str], PretrainedConfig]:
    """Return an encoder configuration by family name."""
    return lambda name: _CONFIGS[name]()


@pytest.fixture
def tiny_encoder() -> Callable[..., PreTrainedModel]:
    """Return a random Hugging Face encoder in evaluation mode, by family name."""

    def build(name: str, attention: str | None = None, seed: int = 0) -> PreTrainedModel:
        torch.manual_seed(seed)
        config = _CONFIGS[name]()
        config._attn_implementation = attention
        return MODEL_MAPPING[type(config)](config).eval()

    return build


@pytest.fixture
def tiny_model() -> Callable[..., MultiExitForSequenceClassification]:
    """Return a random multi-exit model in evaluation mode, by family name and settings."""

    def build(name: str = "bert", seed: int = 0, **settings: object) -> MultiExitForSequenceClassification:
        torch.manual_seed(seed)
        config = MultiExitConfig(encoder=_CONFIGS[name](), **{"num_labels": 3, **settings})
        return MultiExitForSequenceClassification(config).eval()

    return build


@pytest.fixture
def batch() -> dict[str, torch.Tensor]:
    """Return five text pairs padded to twelve tokens, the first without padding."""
    lengths = torch.tensor([12, 5, 9, 3, 11])
    tokens = torch.randint(5, VOCABULARY, (5, 12), generator=torch.Generator().manual_seed(1))
    mask = (torch.arange(12) < lengths[:, None]).long()
    segments = ((torch.arange(12) >= lengths[:, None] // 2) & mask.bool()).long()
    return {"input_ids": tokens * mask, "attention_mask": mask, "token_type_ids": segments}


@pytest.fixture
def tokenizer(tmp_path: Path) -> BertTokenizerFast:
    """Return a WordPiece tokenizer over a few words."""
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "good", "bad", "film", "##s"]
    path = tmp_path / "vocab.txt"
    path.write_text("\n".join(words), encoding="utf-8")
    return BertTokenizerFast(vocab_file=str(path))
