# Good: Focused task
class FetchUserDataTask(ExecutableTask):
    # Only fetches user data

# Bad: Does too much
class ProcessEverythingTask(ExecutableTask):
    # Fetches, processes, saves, sends notifications, etc.
