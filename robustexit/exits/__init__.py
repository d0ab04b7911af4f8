"""Exit policies: when to stop, written once for the forward and for the replay over stored logits."""

from robustexit.exits import rules as _rules  # registers every built-in policy
from robustexit.exits.calibration import Calibration, Target, calibrate, refuse_inert
from robustexit.exits.held_out import HeldOut
from robustexit.exits.layerwise import ExitOutput, ExitReader, LayerwiseRun, Reading
from robustexit.exits.online import RowResult, run_policy
from robustexit.exits.policy import ExitPolicy, Scalars, State, Update, make_policy, policies
from robustexit.exits.replay import Replay, replay
from robustexit.exits.threshold import Threshold

__all__ = [
    "Calibration",
    "ExitOutput",
    "ExitPolicy",
    "ExitReader",
    "HeldOut",
    "LayerwiseRun",
    "Reading",
    "Replay",
    "RowResult",
    "Scalars",
    "State",
    "Target",
    "Threshold",
    "Update",
    "calibrate",
    "make_policy",
    "policies",
    "refuse_inert",
    "replay",
    "run_policy",
]

del _rules
