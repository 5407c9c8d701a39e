# Import the executor (automatically registered via @executor_register())
from my_module import MyCustomTask
