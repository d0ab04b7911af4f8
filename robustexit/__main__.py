"""``python -m robustexit``."""

from robustexit.cli import main

main()
