import aiofiles

class FileReadTask(ExecutableTask):
    async def execute(self, inputs: Dict[str, Any]) -> Dict[str, Any]:
        file_path = inputs.get("file_path")
        
        async with aiofiles.open(file_path, 'r') as f:
            content = await f.read()
        
        return {"status": "completed", "content": content}
