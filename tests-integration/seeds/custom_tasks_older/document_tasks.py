class MyCustomTask(ExecutableTask):
    """
    Custom task that performs specific operations.
    
    This task processes input data and returns processed results.
    It supports various processing modes and configurations.
    """
    
    @property
    def description(self) -> str:
        return "Processes input data using configured processing mode"
