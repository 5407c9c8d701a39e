"""The Model Context Protocol: operations and executors as tools, tasks as resources, over HTTP and stdio."""
