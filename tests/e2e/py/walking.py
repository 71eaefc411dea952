"""What walks through the lab's EC2 share: a client whose answers are all held against EC2's published model, and checks."""

import os
import sys
import time
import xml.etree.ElementTree

import boto3
import botocore.config
import botocore.exceptions
import botocore.session

import botocore_model

MODEL = botocore.session.get_session().get_service_model("ec2", botocore_model.VERSION)

# Actions that were answered, other than by a refusal.
ANSWERED = set()

ACCESS_KEY = "AKIALABEXAMPLE00000A"
SECRET_KEY = "lab-secret"
PATIENCE_SECONDS = 60


def check(condition, what):
    if not condition:
        sys.exit(f"not so: {what}")


def step(text):
    print(f"- {text}", flush=True)


def connect(endpoint, region, access_key=ACCESS_KEY, secret_key=SECRET_KEY, token=None):
    client = boto3.client(
        "ec2",
        region_name=region,
        endpoint_url=endpoint,
        aws_access_key_id=access_key,
        aws_secret_access_key=secret_key,
        aws_session_token=token,
        config=botocore.config.Config(retries={"total_max_attempts": 2}, parameter_validation=True),
    )
    client.meta.events.register("response-received.ec2", judge)
    return client


def judge(response_dict, context=None, exception=None, **_):
    """Holds every answer against the model: nothing in it is unknown to botocore, and every value comes back from its parser."""
    if exception is not None or response_dict is None or response_dict["status_code"] != 200:
        return
    body = response_dict["body"].decode()
    root = xml.etree.ElementTree.fromstring(body)
    name = root.tag.removeprefix(botocore_model.NAMESPACE).removesuffix("Response")
    request_id = root.findtext(f"{botocore_model.NAMESPACE}requestId")
    check(request_id, f"the answer of {name} has a request id")
    exchange = {"answer": body, "request_id": request_id}
    complaints = list(botocore_model.compare_answer(exchange, name, MODEL.operation_model(name)))
    check(not complaints, f"the answer of {name} is as in the model: {complaints}: {body}")
    ANSWERED.add(name)


def refused(code, call, **arguments):
    """The call must be refused with this code; returns the refusal's text."""
    try:
        call(**arguments)
    except botocore.exceptions.ClientError as error:
        check(error.response["Error"]["Code"] == code, f"{call.__name__} is refused with {code}: {error}")
        check(error.response["ResponseMetadata"].get("RequestId"), f"the refusal of {call.__name__} has a request id")
        return error.response["Error"]["Message"]
    sys.exit(f"not so: {call.__name__} is refused with {code}: it was accepted")


def wait_for(what, look):
    end = time.monotonic() + PATIENCE_SECONDS
    while not look():
        if time.monotonic() > end:
            sys.exit(f"not so within {PATIENCE_SECONDS} s: {what}")
        time.sleep(0.2)


def endpoints(usage):
    """Where EC2 and where IMDS is, by the command line and the environment."""
    named = sys.argv[1] if len(sys.argv) > 1 else None
    ec2 = named or os.environ.get("AWS_ENDPOINT_URL_EC2") or os.environ.get("AWS_ENDPOINT_URL")
    if len(sys.argv) > 2 or not ec2 or not ec2.startswith("http"):
        sys.exit(usage)
    imds = ec2 if named else os.environ.get("AWS_EC2_METADATA_SERVICE_ENDPOINT", ec2)
    return ec2, imds


def imds_client(kind, imds):
    """One of botocore's own clients of the metadata service. It is to use sessions (IMDSv2)."""
    config = {"ec2_metadata_service_endpoint": imds, "ec2_metadata_v1_disabled": True}
    return kind(timeout=5, num_attempts=2, config=config)
