"""Creates a Firehose stream at moto, or reads the bucket that one delivers to.

    firehose.py create URL STREAM BUCKET
    firehose.py read URL BUCKET      prints a line for each object: its content in base64
"""

import base64
import sys

import boto3

REGION = "eu-west-1"


def client(service, url):
    return boto3.client(service, region_name=REGION, endpoint_url=url, aws_access_key_id="test", aws_secret_access_key="test")


def create(url, stream, bucket):
    client("s3", url).create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": REGION})
    client("firehose", url).create_delivery_stream(
        DeliveryStreamName=stream,
        S3DestinationConfiguration={
            "RoleARN": "arn:aws:iam::123456789012:role/delivery",
            "BucketARN": f"arn:aws:s3:::{bucket}",
        },
    )


def read(url, bucket):
    s3 = client("s3", url)
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket):
        for found in page.get("Contents", []):
            content = s3.get_object(Bucket=bucket, Key=found["Key"])["Body"].read()
            print(base64.b64encode(content).decode("ascii"))


{"create": create, "read": read}[sys.argv[1]](*sys.argv[2:])
