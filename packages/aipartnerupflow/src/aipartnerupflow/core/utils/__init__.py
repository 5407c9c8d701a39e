"""The former path of helpers."""

from aipartnerupflow.core.utils.helpers import tree_node_to_dict
from aipartnerupflow.core.utils.logger import get_logger

__all__ = ["get_logger", "tree_node_to_dict"]
