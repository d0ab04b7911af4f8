"""Post-hoc modules: small networks fitted on frozen exits, saved beside the model, read by an exit policy.

One file a method; each file registers its module when it is imported.
"""

from robustexit.discovery import import_all
from robustexit.modules.base import ExitModule, FitData, ModuleShape, StoredReading, make_module, modules, read_stored
from robustexit.modules.storage import FittedOn, load_module, module_folder, save_module, saved_modules

__all__ = [
    "ExitModule",
    "FitData",
    "FittedOn",
    "ModuleShape",
    "StoredReading",
    "load_module",
    "make_module",
    "module_folder",
    "modules",
    "read_stored",
    "save_module",
    "saved_modules",
]

import_all(__name__, __path__)
