"""S3, as far as artifacts need it: buckets, objects with Range and checksums, listings, multipart uploads."""

from monodon.cloud.s3.buckets import Buckets
from monodon.cloud.s3.multipart import MultipartUploads
from monodon.cloud.s3.objects import Objects
from monodon.cloud.s3.records import ObjectInfo, Records

__all__ = ["Buckets", "MultipartUploads", "ObjectInfo", "Objects", "Records"]
