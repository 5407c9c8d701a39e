async def cancel(self) -> Dict[str, Any]:
    """
    Cancel task execution
    
    Returns:
        Cancellation result dictionary
    """
    # Stop any ongoing operations
    self._cancelled = True
    
    return {
        "status": "cancelled",
        "message": "Task cancelled by user",
        "partial_result": self._partial_result if hasattr(self, "_partial_result") else None
    }
