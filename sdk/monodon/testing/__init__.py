"""The pytest plug-in: fixtures for tests of components (on by installing Monodon)."""
