"""What every store must do, as tests. Subclass `StoreContract` and say how a store is made.

```python
class TestMyStore(StoreContract):
    def make_store(self, folder: Path) -> TaskStore:
        return MyStore(f"my:///{folder}/tasks")
```

What a store can do beyond the contract is asked of its `capabilities`; tests of what it cannot are skipped.
"""

from __future__ import annotations

from apflow.testing.storeapproval import StoreApprovalContract
from apflow.testing.storeattempt import StoreAttemptContract
from apflow.testing.storelog import StoreLogContract
from apflow.testing.storequery import StoreQueryContract
from apflow.testing.storerace import StoreRaceContract
from apflow.testing.storerecord import StoreRecordContract
from apflow.testing.storeschedule import StoreScheduleContract
from apflow.testing.storeshare import StoreShareContract
from apflow.testing.storesql import StoreSqlContract
from apflow.testing.storestatistics import StoreStatisticsContract
from apflow.testing.storeusage import StoreUsageContract
from apflow.testing.storewrite import StoreWriteContract


class StoreContract(
    StoreWriteContract,
    StoreAttemptContract,
    StoreQueryContract,
    StoreRaceContract,
    StoreShareContract,
    StoreRecordContract,
    StoreScheduleContract,
    StoreApprovalContract,
    StoreUsageContract,
    StoreStatisticsContract,
    StoreSqlContract,
    StoreLogContract,
):
    """Every test of a store. One method to write: `make_store`."""
