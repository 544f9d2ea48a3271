"""Shared code of the retinal imaging bundles."""
