def get_input_schema(self) -> Dict[str, Any]:
    return {
        "type": "object",
        "properties": {
            "field_name": {
                "type": "string",  # or "integer", "boolean", "array", "object"
                "description": "Field description",
                "default": "default_value"  # Optional default
            }
        },
        "required": ["field_name"]  # List required fields
    }
