"""One boto3 session for all tests of a process: a session reads the models of its services anew, 0.1 s each."""

import functools

import boto3

REGION = "us-east-1"


@functools.cache
def session() -> boto3.session.Session:
    """Return the session; its clients may have keys and regions of their own."""
    return boto3.session.Session(aws_access_key_id="test", aws_secret_access_key="test", region_name=REGION)
