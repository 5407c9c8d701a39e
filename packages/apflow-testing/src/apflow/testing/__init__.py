"""For authors of executors and stores: contract suites, fixtures and a fake clock.

`apflow.testing.executor.ExecutorContract` and `apflow.testing.store.StoreContract` are classes to inherit
from. The fixtures come by themselves wherever this distribution is installed.
"""
