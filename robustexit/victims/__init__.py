"""Victims: what is deployed, and therefore what is attacked.

Only the protocol is imported here, so that reading records or listing goals does not load torch models;
`robustexit.victims.model_victim` deploys Hugging Face models, `robustexit.victims.custom` a user's own.
"""

from robustexit.victims.base import Trace, Victim

__all__ = ["Trace", "Victim"]
