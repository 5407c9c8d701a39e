async def execute(self, inputs: Dict[str, Any]) -> Dict[str, Any]:
    try:
        result = perform_operation(inputs)
        return {"status": "completed", "result": result}
    except SpecificError as e:
        return {
            "status": "failed",
            "error": f"Operation failed: {str(e)}",
            "error_code": "SPECIFIC_ERROR"
        }
