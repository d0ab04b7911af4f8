"""Campaigns: the grid of datasets, victims, recipes, goals and seeds, run to completion."""
