"""What the documents take for granted: a database, a task manager, and the names that they use."""

import asyncio
from typing import Any, Dict
from aipartnerupflow import (
    BaseTask, ExecutableTask, TaskManager, TaskTreeNode, create_session, executor_register, get_registry
)

db = create_session()
task_manager = TaskManager(db)

async def run(name, inputs=None):
    task = await task_manager.task_repository.create_task(name=name, user_id="user123", inputs=inputs or {})
    await task_manager.distribute_task_tree(TaskTreeNode(task))
    return await task_manager.task_repository.get_task_by_id(task.id)
