class DatabaseQueryTask(ExecutableTask):
    def __init__(self, db_connection):
        self.db = db_connection
    
    async def execute(self, inputs: Dict[str, Any]) -> Dict[str, Any]:
        query = inputs.get("query")
        params = inputs.get("params", {})
        
        result = await self.db.fetch(query, params)
        
        return {"status": "completed", "rows": result}
