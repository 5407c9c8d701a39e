from aipartnerupflow import BaseTask, executor_register

@executor_register()
class MyCustomTask(BaseTask):
    id = "my_custom_task"
    # ... rest of implementation
