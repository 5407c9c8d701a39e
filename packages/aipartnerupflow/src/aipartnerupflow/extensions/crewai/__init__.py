"""The former path of `apflow.executor.crewai`, of the extra `crewai`, for Python 3.11 to 3.13."""

from aipartnerupflow.extensions.optional import optional_names

# Not typed: CrewAI needs other versions of libraries, and is not installed where the rest is checked.
_NAMES = ("BatchManager", "CrewManager", "CrewaiExecutor")

__getattr__ = optional_names(__name__, "apflow.executor.crewai", _NAMES, extra="crewai")
