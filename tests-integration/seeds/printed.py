"""Makes an executor of the `execute` that a document prints alone."""

class Printed(BaseTask):
    id = "printed"
    name = "Printed"
    description = "Runs the function of the document"
    execute = execute

executor_register()(Printed)
