"""Checkpoints of other early-exit projects, read into our multi-exit model. One file a source format."""

from __future__ import annotations

from robustexit.discovery import import_all
from robustexit.models.imported.base import CheckpointFormat, formats
from robustexit.models.imported.importing import ImportReport, import_checkpoint

__all__ = ["CheckpointFormat", "ImportReport", "formats", "import_checkpoint"]

import_all(__name__, __path__)
