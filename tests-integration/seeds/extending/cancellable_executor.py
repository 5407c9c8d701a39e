class CancellableExecutor(ExecutableTask):
    """Executor with cancellation support"""

    id = "cancellable_executor"
    name = "Cancellable Executor"
    description = "Supports cancellation during execution"

    async def execute(self, inputs: Dict[str, Any]) -> Dict[str, Any]:
        """Execute with cancellation checks"""
        # TaskManager sets cancellation_checker if executor supports it
        cancellation_checker = getattr(self, 'cancellation_checker', None)

        for i in range(100):
            # Check for cancellation
            if cancellation_checker and cancellation_checker():
                return {
                    "status": "cancelled",
                    "message": "Task was cancelled",
                    "progress": i / 100
                }

            # Do work
            await asyncio.sleep(0.1)

        return {"status": "completed", "progress": 1.0}

    async def cancel(self) -> Dict[str, Any]:
        """Handle cancellation request"""
        # Cleanup logic here
        return {
            "status": "cancelled",
            "message": "Cancellation requested"
        }
