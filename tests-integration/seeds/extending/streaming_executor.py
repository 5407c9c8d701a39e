class StreamingExecutor(ExecutableTask):
    """Executor with streaming support"""

    id = "streaming_executor"
    name = "Streaming Executor"
    description = "Sends real-time progress updates"

    async def execute(self, inputs: Dict[str, Any]) -> Dict[str, Any]:
        """Execute with streaming"""
        # Access event queue (set by TaskManager)
        event_queue = getattr(self, 'event_queue', None)

        total_steps = 10
        for step in range(total_steps):
            # Send progress update
            if event_queue:
                await event_queue.put({
                    "type": "progress",
                    "task_id": getattr(self, 'task_id', None),
                    "data": {
                        "step": step + 1,
                        "total": total_steps,
                        "progress": (step + 1) / total_steps
                    }
                })

            # Do work
            await asyncio.sleep(0.5)

        return {"status": "completed", "steps": total_steps}
