"""Walks through a VPC with the AWS CLI (version 1, from PyPI) against the lab's cloud.

usage: aws_cli_walk.py

AWS_ENDPOINT_URL_EC2, AWS_DEFAULT_REGION, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY say where and as whom, as for any AWS
program. Each step is one command line, run by the CLI's own driver in this process (a process each would take a second each);
the first and the last are run by the program itself. Prints one line for each step, and `ok` at the end.
"""

import contextlib
import io
import json
import os
import subprocess
import sys

import awscli.clidriver

os.environ.setdefault("AWS_PAGER", "")
os.environ.setdefault("AWS_MAX_ATTEMPTS", "2")


def check(condition, what):
    if not condition:
        sys.exit(f"not so: {what}")


def run(line):
    """One command line: exit code, standard output, standard error."""
    words = line.split()
    print(f"- aws {line}", flush=True)
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = awscli.clidriver.create_clidriver().main(words)
        except SystemExit as end:
            code = end.code
    return code, out.getvalue(), err.getvalue()


def aws(line):
    """A command that must succeed; its answer."""
    code, out, err = run(line + " --output json")
    check(code == 0, f"`aws {line}` succeeds: exit code {code}: {err}")
    return json.loads(out) if out.strip() else None


def refused(error, line):
    """A command that must be refused with this code."""
    code, out, err = run(line)
    check(code not in (0, None) and f"({error})" in err, f"`aws {line}` is refused with {error}: {code} {out}{err}")


def program(*words):
    """The same as a process of its own, as people run it."""
    result = subprocess.run([sys.executable, "-m", "awscli", *words], capture_output=True, text=True, check=False)
    check(result.returncode == 0, f"`aws {' '.join(words)}` succeeds: {result.stderr}")
    return result.stdout


zones = program("ec2", "describe-availability-zones", "--query", "AvailabilityZones[].ZoneName", "--output", "text").split()
check(len(zones) == 3, f"three zones: {zones}")

vpc = aws("ec2 describe-vpcs")["Vpcs"][0]
subnets = aws(f"ec2 describe-subnets --filters Name=vpc-id,Values={vpc['VpcId']} Name=availability-zone,Values={zones[0]}")["Subnets"]
check(subnets and all(s["AvailabilityZone"] == zones[0] for s in subnets), "subnets are chosen by zone")
none = aws("ec2 describe-subnets --filters Name=availability-zone,Values=nowhere-*")["Subnets"]
check(none == [], "a wildcard that fits nothing finds nothing")
refused("InvalidParameterValue", "ec2 describe-subnets --filters Name=colour,Values=blue")

# A subnet of its own, in a CIDR that is added for it.
added = aws(f"ec2 associate-vpc-cidr-block --vpc-id {vpc['VpcId']} --cidr-block 10.77.0.0/16")["CidrBlockAssociation"]
check(added["CidrBlock"] == "10.77.0.0/16", "the CIDR is being added")
tags = "ResourceType=subnet,Tags=[{Key=Name,Value=walk}]"
subnet = aws(
    f"ec2 create-subnet --vpc-id {vpc['VpcId']} --cidr-block 10.77.1.0/24 --availability-zone {zones[0]} --tag-specifications {tags}"
)["Subnet"]
check(subnet["AvailableIpAddressCount"] == 251, "251 of 256 addresses are free")
aws(f"ec2 wait subnet-available --subnet-ids {subnet['SubnetId']}")
aws(f"ec2 create-subnet-cidr-reservation --subnet-id {subnet['SubnetId']} --cidr 10.77.1.64/26 --reservation-type prefix")
refused("InvalidSubnet.Conflict", f"ec2 create-subnet --vpc-id {vpc['VpcId']} --cidr-block 10.77.1.128/25")

# A group with rules.
group = aws(f"ec2 create-security-group --group-name walk --description walking --vpc-id {vpc['VpcId']}")["GroupId"]
aws(f"ec2 authorize-security-group-ingress --group-id {group} --protocol tcp --port 8080-8090 --cidr 10.0.0.0/8")
refused("InvalidPermission.Duplicate", f"ec2 authorize-security-group-ingress --group-id {group} --protocol tcp --port 8080-8090 --cidr 10.0.0.0/8")
aws(f"ec2 authorize-security-group-ingress --group-id {group} --protocol icmp --port -1 --source-group {group}")
shown = aws(f"ec2 describe-security-groups --group-ids {group}")["SecurityGroups"][0]["IpPermissions"]
check(
    sorted((p["IpProtocol"], p.get("FromPort"), p.get("ToPort")) for p in shown) == [("icmp", -1, -1), ("tcp", 8080, 8090)],
    f"the rules are those written: {shown}",
)
aws(f"ec2 revoke-security-group-ingress --group-id {group} --protocol tcp --port 8080-8090 --cidr 10.0.0.0/8")

# An instance, and an ENI that is attached to it.
instance = aws(
    f"ec2 run-instances --image-id ami-12345678 --instance-type m5.large --subnet-id {subnet['SubnetId']} --security-group-ids {group}"
    " --tag-specifications ResourceType=instance,Tags=[{Key=Name,Value=walker}]"
)["Instances"][0]
aws(f"ec2 wait instance-running --instance-ids {instance['InstanceId']}")
eni = aws(
    f"ec2 create-network-interface --subnet-id {subnet['SubnetId']} --groups {group} --description walk --ipv4-prefix-count 1"
)["NetworkInterface"]
check(eni["Ipv4Prefixes"][0]["Ipv4Prefix"].startswith("10.77.1."), f"one prefix: {eni}")
aws(f"ec2 wait network-interface-available --network-interface-ids {eni['NetworkInterfaceId']}")
refused("DryRunOperation", f"ec2 delete-network-interface --network-interface-id {eni['NetworkInterfaceId']} --dry-run")
attachment = aws(
    f"ec2 attach-network-interface --network-interface-id {eni['NetworkInterfaceId']} --instance-id {instance['InstanceId']} --device-index 1"
)["AttachmentId"]
aws(
    f"ec2 modify-network-interface-attribute --network-interface-id {eni['NetworkInterfaceId']}"
    f" --attachment AttachmentId={attachment},DeleteOnTermination=true"
)
aws(f"ec2 assign-private-ip-addresses --network-interface-id {eni['NetworkInterfaceId']} --secondary-private-ip-address-count 3")
described = aws(f"ec2 describe-network-interfaces --network-interface-ids {eni['NetworkInterfaceId']}")["NetworkInterfaces"][0]
check(len(described["PrivateIpAddresses"]) == 4, f"one primary and three more: {described}")
own = f"ec2 describe-network-interfaces --filters Name=attachment.instance-id,Values={instance['InstanceId']}"
check(len(aws(own)["NetworkInterfaces"]) == 2, "the instance has two ENIs")

# Pages: the CLI asks for the next one by itself.
everything = aws("ec2 describe-network-interfaces")["NetworkInterfaces"]
paged = aws("ec2 describe-network-interfaces --page-size 5")["NetworkInterfaces"]
ids = [e["NetworkInterfaceId"] for e in paged]
check(sorted(ids) == sorted(e["NetworkInterfaceId"] for e in everything), "page by page it is the same")
refused("InvalidNetworkInterfaceID.NotFound", "ec2 describe-network-interfaces --network-interface-ids eni-0123456789abcdef0")
refused("InvalidParameterCombination", f"ec2 describe-network-interfaces --network-interface-ids {eni['NetworkInterfaceId']} --max-results 5")

# And away with everything.
aws(f"ec2 terminate-instances --instance-ids {instance['InstanceId']}")
aws(f"ec2 wait instance-terminated --instance-ids {instance['InstanceId']}")
refused("InvalidNetworkInterfaceID.NotFound", f"ec2 describe-network-interfaces --network-interface-ids {eni['NetworkInterfaceId']}")
aws(f"ec2 delete-security-group --group-id {group}")
aws(f"ec2 delete-subnet --subnet-id {subnet['SubnetId']}")
aws(f"ec2 disassociate-vpc-cidr-block --association-id {added['AssociationId']}")
left = program("ec2", "describe-subnets", "--filters", "Name=tag:Name,Values=walk", "--query", "length(Subnets)", "--output", "text")
check(left.strip() == "0", f"nothing is left: {left}")
print("ok")
