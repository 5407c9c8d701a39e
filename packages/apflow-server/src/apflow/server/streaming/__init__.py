"""Events of trees as server-sent events and over WebSockets."""
