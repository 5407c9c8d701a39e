"""The former helpers of trees."""

from __future__ import annotations

from apflow.core import TaskTreeNode
from apflow.core.model.task import Json

__all__ = ["tree_node_to_dict"]


def tree_node_to_dict(node: TaskTreeNode) -> dict[str, Json]:
    """Return a task as plain JSON with its `children` nested, as `node.to_dict()` does."""
    return node.to_dict()
