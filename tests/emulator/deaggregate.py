"""De-aggregates Kinesis records with PyPI's aws_kinesis_agg.

Reads lines of JSON, {"partitionKey": TEXT, "data": BASE64}, and answers each with one: a list of
{"partitionKey", "explicitHashKey", "sub", "data"}, or {"error": TEXT}.
"""

import json
import sys

from aws_kinesis_agg.deaggregator import deaggregate_records


def user_records(record):
    event = {
        "kinesis": {
            "kinesisSchemaVersion": "1.0",
            "sequenceNumber": "1",
            "partitionKey": record["partitionKey"],
            "approximateArrivalTimestamp": 0,
            "data": record["data"],
        }
    }
    for user in deaggregate_records([event]):
        kinesis = user["kinesis"]
        data = kinesis["data"]
        yield {
            "partitionKey": kinesis["partitionKey"],
            "explicitHashKey": kinesis.get("explicitHashKey"),
            "sub": kinesis.get("subSequenceNumber", 0),
            "data": data if isinstance(data, str) else data.decode("ascii"),
        }


for line in sys.stdin:
    try:
        answer = list(user_records(json.loads(line)))
    except Exception as refusal:  # whatever the library throws is its answer to this record
        answer = {"error": f"{type(refusal).__name__}: {refusal}"}
    print(json.dumps(answer))
