"""A bundle becomes a component version in AWS: upload, register, wait until it is deployable."""

from monodon.publish.publishing import ArtifactFile, Package, Progress, Registry, publish

__all__ = ["ArtifactFile", "Package", "Progress", "Registry", "publish"]
