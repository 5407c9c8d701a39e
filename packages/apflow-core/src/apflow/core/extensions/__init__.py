"""What plugs in: executors, hooks, tools and runners, and the registry that finds them."""
