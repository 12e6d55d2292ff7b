"""The module of a command that needs a package which is not installed; only `test_cli` runs it."""

import a_package_that_is_not_installed  # type: ignore[import-not-found]  # noqa: F401 - must fail
