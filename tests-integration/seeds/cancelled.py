"""Starts a task, cancels it once it runs, and returns what has become of it."""

async def cancelled(name):
    task = await task_manager.task_repository.create_task(name=name, user_id="user123")
    async with asyncio.TaskGroup() as group:
        group.create_task(task_manager.distribute_task_tree(TaskTreeNode(task)))
        async for event in task_manager.subscribe(task.id, after=0):
            if event.type == "task_started":
                async with asyncio.timeout(10):  # its start is told before it is called
                    while task.id not in task_manager.executor_instances:
                        await asyncio.sleep(0.001)
                answer = await task_manager.cancel_task(task.id)
    assert answer["status"] == "cancelled", answer
    return await task_manager.task_repository.get_task_by_id(task.id)
