async def execute(self, inputs: Dict[str, Any]) -> Dict[str, Any]:
    url = inputs.get("url")
    if not url:
        raise ValueError("URL is required")
    
    if not isinstance(url, str):
        raise TypeError("URL must be a string")
    
    # Continue with execution
