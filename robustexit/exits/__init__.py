"""Exit policies: when to stop, written once for the forward and for the replay over stored logits."""

from robustexit.exits.calibration import Calibration, HeldOut, Target, calibrate, refuse_inert
from robustexit.exits.confidence import Entropy, MaxProbability, NormalisedEntropy
from robustexit.exits.fixed import Fixed
from robustexit.exits.layerwise import ExitOutput, LayerwiseRun
from robustexit.exits.online import RowResult, run_policy
from robustexit.exits.patience import Patience
from robustexit.exits.policy import ExitPolicy, Scalars, State, Update, make_policy, policies
from robustexit.exits.replay import Replay, replay

__all__ = [
    "Calibration",
    "Entropy",
    "ExitOutput",
    "ExitPolicy",
    "Fixed",
    "HeldOut",
    "LayerwiseRun",
    "MaxProbability",
    "NormalisedEntropy",
    "Patience",
    "Replay",
    "RowResult",
    "Scalars",
    "State",
    "Target",
    "Update",
    "calibrate",
    "make_policy",
    "policies",
    "refuse_inert",
    "replay",
    "run_policy",
]
