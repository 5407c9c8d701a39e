"""For authors of executors, stores and runners: contract suites, fixtures and a fake clock.

`apflow.testing.executor.ExecutorContract`, `apflow.testing.store.StoreContract` and
`apflow.testing.runner.RunnerContract` are classes to inherit from. The fixtures come by themselves wherever
this distribution is installed.
"""
