"""Every built-in exit policy, one file a family; each file registers its policies when it is imported."""

from robustexit.discovery import import_all

import_all(__name__, __path__)
