"""Finite perturbation sets: every text of one is known to keep its label, or the set says that it may not."""
