"""The former paths of executors. Those that come with an extra are imported on first use."""
