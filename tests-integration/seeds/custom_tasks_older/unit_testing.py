import pytest
from my_tasks import MyCustomTask

@pytest.mark.asyncio
async def test_my_custom_task():
    task = MyCustomTask()
    
    inputs = {
        "param1": "value1",
        "param2": "value2"
    }
    
    result = await task.execute(inputs)
    
    assert result["status"] == "completed"
    assert "result" in result
