@property
def name(self) -> str:
    return "My Task Name"
