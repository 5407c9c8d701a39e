"""The executor `approval_executor`: asks people for an approval, and waits for their decision."""

from apflow.executor.approval.executor import ApprovalExecutor

__all__ = ["ApprovalExecutor"]
