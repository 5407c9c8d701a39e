@property
def description(self) -> str:
    return "This task performs specific operations"
