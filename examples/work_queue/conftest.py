"""Switches the simulator on for the tests beside it."""

pytest_plugins = ["zmesh.testing.plugin"]
