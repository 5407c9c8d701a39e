from aipartnerupflow import ExecutableTask
from typing import Dict, Any

class MyCustomTask(ExecutableTask):
    """Your custom task implementation"""
    
    @property
    def id(self) -> str:
        """Unique identifier for this task"""
        return "my_custom_task"
    
    @property
    def name(self) -> str:
        """Display name for this task"""
        return "My Custom Task"
    
    @property
    def description(self) -> str:
        """Description of what this task does"""
        return "Performs custom operations"
    
    async def execute(self, inputs: Dict[str, Any]) -> Dict[str, Any]:
        """Execute the task logic"""
        # Your implementation here
        return {"status": "completed", "result": "..."}
    
    def get_input_schema(self) -> Dict[str, Any]:
        """Return JSON Schema for input parameters"""
        return {
            "type": "object",
            "properties": {
                "param1": {"type": "string", "description": "Parameter 1"}
            },
            "required": ["param1"]
        }
