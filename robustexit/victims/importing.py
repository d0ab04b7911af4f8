"""Import a checkpoint of another project as a whole victim: the model, and the post-hoc modules it came with."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from robustexit.models import load_model, weights_hash
from robustexit.models.imported import ImportReport, import_checkpoint
from robustexit.modules import ExitModule, FittedOn, ModuleShape, module_folder, modules, save_module


def import_with_modules(source: Path, format: str | None, out: Path, **settings: Any) -> tuple[ImportReport, list[str]]:
    """Import a checkpoint and save beside it the post-hoc modules that its other tensors make up.

    Args:
        source: The checkpoint; see `robustexit.models.imported.import_checkpoint`.
        format: Its format, or None to tell it from the tensors.
        out: The new folder.
        **settings: Passed on to `import_checkpoint`.

    Returns:
        What became of the tensors, and the names of the modules.

    Raises:
        ModelError: A checkpoint that cannot be read or placed; nothing is left behind.
        ConfigError: Settings that cannot work.
    """
    report = import_checkpoint(source, format, out, **settings)
    try:
        return report, [_save(name, report, source, out) for name in report.extras]
    except Exception:
        shutil.rmtree(out)
        raise


def _save(name: str, report: ImportReport, source: Path, out: Path) -> str:
    model = load_model(out).model
    shape = ModuleShape(report.num_exits, len(report.label_names), int(model.config.hidden_size))
    kind: Any = modules.get(name)  # only modules that come with checkpoints can be made of their tensors
    module: ExitModule = kind.from_original(report.extras[name], shape)
    fitted_on = FittedOn(weights_hash(model), f"imported with {source.name}", "", 0, 0, {})
    save_module(module_folder(out), module, fitted_on)
    return name
