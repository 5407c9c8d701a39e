"""Needs a library that is not there."""

import a_library_that_nobody_has

Example = a_library_that_nobody_has.Executor
