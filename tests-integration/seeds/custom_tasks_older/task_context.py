async def execute(self, inputs: Dict[str, Any]) -> Dict[str, Any]:
    # Note: Task context is available through TaskManager
    # You can access it via hooks or by storing task reference
    
    # Your implementation
    return {"status": "completed"}
