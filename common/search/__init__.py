"""Search for good values of a bundle's ids: trainings, chosen, compared and kept by Optuna."""

from common.search.space import Space, read_space
from common.search.study import run_search

__all__ = ["Space", "read_space", "run_search"]
