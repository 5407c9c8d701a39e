task = await task_manager.task_repository.create_task(
    name="my_custom_task",  # Use the task's id
    user_id="user123",
    inputs={
        "param1": "value1",
        "param2": "value2"
    }
)
