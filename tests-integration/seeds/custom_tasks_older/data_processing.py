class DataProcessingTask(ExecutableTask):
    async def execute(self, inputs: Dict[str, Any]) -> Dict[str, Any]:
        data = inputs.get("data", [])
        operation = inputs.get("operation", "sum")
        
        if operation == "sum":
            result = sum(data)
        elif operation == "average":
            result = sum(data) / len(data) if data else 0
        else:
            raise ValueError(f"Unknown operation: {operation}")
        
        return {"status": "completed", "result": result}
