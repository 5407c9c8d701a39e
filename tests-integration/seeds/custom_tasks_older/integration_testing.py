from aipartnerupflow import TaskManager, TaskTreeNode, create_session
# Import the executor (automatically registered via @executor_register())
from my_module import MyCustomTask

async def test_task_integration():
    
    # Create and execute
    db = create_session()
    task_manager = TaskManager(db)
    
    task = await task_manager.task_repository.create_task(
        name="my_custom_task",
        user_id="test_user",
        inputs={"param1": "value1"}
    )
    
    task_tree = TaskTreeNode(task)
    result = await task_manager.distribute_task_tree(task_tree)
    
    assert result is not None
