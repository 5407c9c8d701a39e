async def execute(self, inputs: Dict[str, Any]) -> Dict[str, Any]:
    """
    Execute the task
    
    Args:
        inputs: Input parameters from task.inputs
        
    Returns:
        Execution result dictionary
    """
    # Your logic here
    result = perform_operation(inputs)
    return {"status": "completed", "result": result}
