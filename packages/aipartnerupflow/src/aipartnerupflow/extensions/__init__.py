"""The former paths of executors that come with extras."""
