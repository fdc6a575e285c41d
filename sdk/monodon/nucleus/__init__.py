"""The embedded nucleus: runs recipes with AWS's semantics on a laptop, in CI and in simulation."""
