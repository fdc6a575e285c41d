"""Buckets: create, head, delete, list, and lists of what is in them."""

import re
from typing import Any
from xml.sax.saxutils import escape

from monodon.cloud.context import RequestContext
from monodon.cloud.protocol import ServiceError, WireResponse
from monodon.cloud.s3.listing import Listing, list_keys, read_token, url_encode, write_token
from monodon.cloud.s3.records import OWN_BUCKET, Records, check_bucket_name
from monodon.core.json import Json

Request = dict[str, Any]
_NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"
_REGION = re.compile(r"[a-z]{2}(-[a-z]+)+-\d")


class Buckets:
    """Operations of S3 on buckets, named as in the model."""

    def __init__(self, records: Records) -> None:
        self._records = records

    def create_bucket(self, request: Request, context: RequestContext) -> dict[str, Json]:
        name = request["Bucket"]
        check_bucket_name(name)
        region = request.get("CreateBucketConfiguration", {}).get("LocationConstraint")
        if region is not None and (_REGION.fullmatch(region) is None or region == "us-east-1"):
            raise ServiceError(
                "InvalidLocationConstraint",
                "The specified location-constraint is not valid; us-east-1 is asked for by leaving it out",
                status=400,
            )
        existing = self._records.buckets.get(name)
        if existing is not None and (region is not None or existing["region"] is not None):
            raise ServiceError(
                "BucketAlreadyOwnedByYou",
                "Your previous request to create the named bucket succeeded and you already own it.",
                status=409,
                BucketName=name,
            )
        if existing is None:
            self._records.buckets.put(name, {"created": self._records.now(), "region": region})
        return {"Location": f"/{name}"}

    def head_bucket(self, request: Request, context: RequestContext) -> dict[str, Json]:
        record = self._records.bucket(request["Bucket"])
        return {"BucketRegion": record["region"] or "us-east-1"}

    def delete_bucket(self, request: Request, context: RequestContext) -> None:
        name = request["Bucket"]
        self._records.bucket(name)
        if next(self._records.objects.keys(f"{name}/"), None) is not None:
            raise ServiceError(
                "BucketNotEmpty", "The bucket you tried to delete is not empty", status=409, BucketName=name
            )
        self._records.buckets.delete(name)

    def list_buckets(self, request: Request, context: RequestContext) -> dict[str, Json]:
        prefix = request.get("Prefix", "")
        limit = request.get("MaxBuckets", 10_000)
        after = read_token(request.get("ContinuationToken"))
        found: list[dict[str, Json]] = []
        token = None
        for name, record in self._records.buckets.items(prefix, after=after):
            if len(found) == limit:
                token = write_token(found[-1]["Name"])
                break
            if name == OWN_BUCKET:
                continue
            found.append({"Name": name, "CreationDate": record["created"]})
        return {"Buckets": found, "Owner": {"ID": context.account}, "ContinuationToken": token}

    def get_bucket_location(self, request: Request, context: RequestContext) -> WireResponse:
        region = self._records.bucket(request["Bucket"])["region"] or ""
        body = f'<?xml version="1.0"?>\n<LocationConstraint xmlns="{_NAMESPACE}">{escape(region)}</LocationConstraint>'
        return WireResponse(status=200, headers=(("content-type", "application/xml"),), body=body.encode())

    def get_bucket_versioning(self, request: Request, context: RequestContext) -> dict[str, Json]:
        self._records.bucket(request["Bucket"])
        return {}

    def put_bucket_tagging(self, request: Request, context: RequestContext) -> None:
        self._change(request["Bucket"], "tags", request["Tagging"]["TagSet"])

    def get_bucket_tagging(self, request: Request, context: RequestContext) -> dict[str, Json]:
        tags = self._records.bucket(request["Bucket"]).get("tags")
        if not tags:
            raise ServiceError("NoSuchTagSet", "The TagSet does not exist", status=404)
        return {"TagSet": tags}

    def delete_bucket_tagging(self, request: Request, context: RequestContext) -> None:
        self._change(request["Bucket"], "tags", None)

    def put_public_access_block(self, request: Request, context: RequestContext) -> None:
        self._change(request["Bucket"], "public_access", request["PublicAccessBlockConfiguration"])

    def get_public_access_block(self, request: Request, context: RequestContext) -> dict[str, Json]:
        settings = self._records.bucket(request["Bucket"]).get("public_access")
        if settings is None:
            raise ServiceError(
                "NoSuchPublicAccessBlockConfiguration",
                "The public access block configuration was not found",
                status=404,
            )
        return {"PublicAccessBlockConfiguration": settings}

    def list_objects_v2(self, request: Request, context: RequestContext) -> dict[str, Json]:
        token = request.get("ContinuationToken")
        after = read_token(token) if token else request.get("StartAfter")
        listing = self._list(request, after)
        encode = url_encode(request.get("EncodingType"))
        return {
            "Name": request["Bucket"],
            "Prefix": encode(request.get("Prefix", "")),
            "Delimiter": encode(request["Delimiter"]) if "Delimiter" in request else None,
            "MaxKeys": listing.limit,
            "EncodingType": request.get("EncodingType"),
            "KeyCount": len(listing.keys) + len(listing.prefixes),
            "IsTruncated": listing.next_after is not None,
            "ContinuationToken": token,
            "NextContinuationToken": write_token(listing.next_after),
            "StartAfter": encode(request["StartAfter"]) if "StartAfter" in request else None,
            **self._contents(listing, request, with_owner=bool(request.get("FetchOwner")), context=context),
        }

    def list_objects(self, request: Request, context: RequestContext) -> dict[str, Json]:
        listing = self._list(request, request.get("Marker"))
        encode = url_encode(request.get("EncodingType"))
        has_delimiter = "Delimiter" in request
        return {
            "Name": request["Bucket"],
            "Prefix": encode(request.get("Prefix", "")),
            "Marker": encode(request.get("Marker", "")),
            "Delimiter": encode(request["Delimiter"]) if has_delimiter else None,
            "MaxKeys": listing.limit,
            "EncodingType": request.get("EncodingType"),
            "IsTruncated": listing.next_after is not None,
            "NextMarker": encode(listing.next_after) if has_delimiter and listing.next_after is not None else None,
            **self._contents(listing, request, with_owner=True, context=context),
        }

    def _list(self, request: Request, after: str | None) -> Listing:
        bucket = request["Bucket"]
        self._records.bucket(bucket)
        start = len(bucket) + 1

        def page(prefix: str, later_than: str | None) -> Any:
            names = self._records.objects.items(
                f"{bucket}/{prefix}", after=None if later_than is None else f"{bucket}/{later_than}"
            )
            return ((name[start:], record) for name, record in names)

        return list_keys(
            page,
            prefix=request.get("Prefix", ""),
            delimiter=request.get("Delimiter") or None,
            after=after or None,
            limit=min(request.get("MaxKeys", 1000), 1000),
        )

    @staticmethod
    def _contents(listing: Listing, request: Request, *, with_owner: bool, context: RequestContext) -> dict[str, Json]:
        encode = url_encode(request.get("EncodingType"))
        contents = []
        for key, record in listing.keys:
            entry = {
                "Key": encode(key),
                "LastModified": record["modified"],
                "ETag": record["etag"],
                "Size": record["size"],
                "StorageClass": "STANDARD",
            }
            if with_owner:
                entry["Owner"] = {"ID": context.account}
            contents.append(entry)
        return {"Contents": contents, "CommonPrefixes": [{"Prefix": encode(text)} for text in listing.prefixes]}

    def _change(self, bucket: str, name: str, value: Json) -> None:
        record = self._records.bucket(bucket)
        record[name] = value
        self._records.buckets.put(bucket, record)
