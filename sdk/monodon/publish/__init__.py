"""A bundle becomes a component version in AWS: upload, register, wait until it is deployable."""
