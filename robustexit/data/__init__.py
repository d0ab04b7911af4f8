"""Datasets: the one shape everything reads, loading and checking, sampling, and a generated corpus."""

from robustexit.data.loading import load_dataset_spec
from robustexit.data.reviews import LEVELS, generate_reviews
from robustexit.data.sampling import split_half, stratified_sample
from robustexit.data.spec import DataSpec
from robustexit.data.types import Example, Fields, TextDataset

__all__ = [
    "LEVELS",
    "DataSpec",
    "Example",
    "Fields",
    "TextDataset",
    "generate_reviews",
    "load_dataset_spec",
    "split_half",
    "stratified_sample",
]
