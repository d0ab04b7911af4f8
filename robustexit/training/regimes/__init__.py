"""Training regimes: which parts of a multi-exit model learn, in which order, and from which loss.

Every file of this folder is imported, and registers its regimes when it is: a new regime is one file. Other
packages add theirs through the entry-point group ``robustexit.regimes``.
"""

from robustexit.discovery import import_all
from robustexit.training.losses import (
    by_depth,
    depth_weighted_loss,
    exit_cross_entropies,
    exit_divergences,
    final_loss,
    inner_divergences,
    inner_loss,
    sum_loss,
)
from robustexit.training.objectives import (
    Batch,
    ExitLoss,
    Objective,
    SecondStream,
    Setting,
    Step,
    as_objective,
    frozen_copy,
)
from robustexit.training.regimes.base import (
    HeadChoice,
    OptionValue,
    Regime,
    RegimeFactory,
    Stage,
    build_regime,
    every_head,
    inner_heads,
    last_head,
    no_head,
    regimes,
)

__all__ = [
    "Batch",
    "ExitLoss",
    "HeadChoice",
    "Objective",
    "OptionValue",
    "Regime",
    "RegimeFactory",
    "SecondStream",
    "Setting",
    "Stage",
    "Step",
    "as_objective",
    "build_regime",
    "by_depth",
    "depth_weighted_loss",
    "every_head",
    "exit_cross_entropies",
    "exit_divergences",
    "final_loss",
    "frozen_copy",
    "inner_divergences",
    "inner_heads",
    "inner_loss",
    "last_head",
    "no_head",
    "regimes",
    "sum_loss",
]

import_all(__name__, __path__)
