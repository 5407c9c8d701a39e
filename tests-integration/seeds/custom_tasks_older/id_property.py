@property
def id(self) -> str:
    return "my_task_id"  # Must be unique
