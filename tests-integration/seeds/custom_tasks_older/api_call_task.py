from aipartnerupflow import ExecutableTask
from typing import Dict, Any
import aiohttp
import asyncio

class APICallTask(ExecutableTask):
    """Task that calls an external HTTP API"""
    
    @property
    def id(self) -> str:
        return "api_call_task"
    
    @property
    def name(self) -> str:
        return "API Call Task"
    
    @property
    def description(self) -> str:
        return "Calls an external HTTP API and returns the response"
    
    async def execute(self, inputs: Dict[str, Any]) -> Dict[str, Any]:
        """Execute API call"""
        url = inputs.get("url")
        method = inputs.get("method", "GET")
        headers = inputs.get("headers", {})
        data = inputs.get("data")
        timeout = inputs.get("timeout", 30)
        
        if not url:
            raise ValueError("URL is required")
        
        try:
            async with aiohttp.ClientSession() as session:
                async with session.request(
                    method,
                    url,
                    headers=headers,
                    json=data if method != "GET" else None,
                    timeout=aiohttp.ClientTimeout(total=timeout)
                ) as response:
                    result = await response.json() if response.content_type == "application/json" else await response.text()
                    
                    return {
                        "status": "completed",
                        "status_code": response.status,
                        "data": result,
                        "headers": dict(response.headers)
                    }
        except asyncio.TimeoutError:
            return {
                "status": "failed",
                "error": f"Request timeout after {timeout} seconds"
            }
        except Exception as e:
            return {
                "status": "failed",
                "error": str(e)
            }
    
    def get_input_schema(self) -> Dict[str, Any]:
        """Define input parameters"""
        return {
            "type": "object",
            "properties": {
                "url": {
                    "type": "string",
                    "description": "API endpoint URL"
                },
                "method": {
                    "type": "string",
                    "enum": ["GET", "POST", "PUT", "DELETE", "PATCH"],
                    "description": "HTTP method",
                    "default": "GET"
                },
                "headers": {
                    "type": "object",
                    "description": "HTTP headers"
                },
                "data": {
                    "type": "object",
                    "description": "Request body data"
                },
                "timeout": {
                    "type": "integer",
                    "description": "Request timeout in seconds",
                    "default": 30
                }
            },
            "required": ["url"]
        }
