from aipartnerupflow.core.extensions.base import Extension
from aipartnerupflow.core.extensions.types import ExtensionCategory
from aipartnerupflow.core.extensions.storage import StorageExtension

class MyCustomStorage(StorageExtension):
    """Custom storage implementation"""

    id = "my_custom_storage"
    name = "My Custom Storage"
    category = ExtensionCategory.STORAGE

    async def save_task(self, task):
        """Save task to storage"""
        # Your storage logic
        pass

    async def get_task(self, task_id):
        """Retrieve task from storage"""
        # Your retrieval logic
        pass
