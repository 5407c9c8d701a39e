"""JSON in and out of tasks: values, schemas, references to results, secrets and JMESPath queries.

Pure: nothing here awaits or does I/O.
"""
