"""Functions as tasks: `@task`, `@flow`, and running what they build."""
