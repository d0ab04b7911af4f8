"""Leave where the answer from past and imagined future states is certain."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from robustexit.exits.policy import policies
from robustexit.exits.rules.confidence import Entropy


@policies.register("past-future")
@dataclass(frozen=True)
class PastFuture(Entropy):
    """Leave at the first exit with H(softmax(z_i)) < t in raw nats, z_i from the post-hoc module of the same name.

    Global Past-Future Early Exit (Liao et al. 2021, NAACL).
    """

    name: ClassVar[str] = "past-future"
    source: ClassVar[str] = "Global Past-Future Early Exit, Liao et al. 2021, NAACL"
    module: ClassVar[str | None] = "past-future"
