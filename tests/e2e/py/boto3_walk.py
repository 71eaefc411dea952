"""Walks an ENI through its life with boto3 against the lab's cloud.

usage: boto3_walk.py [ENDPOINT]

ENDPOINT is where `vpc-lab cloud --listen ADDR` listens (http://127.0.0.1:8080); without it, AWS_ENDPOINT_URL_EC2 (or
AWS_ENDPOINT_URL) says where EC2 is and AWS_EC2_METADATA_SERVICE_ENDPOINT where the metadata service is, if that is elsewhere.
Any answer that boto3 cannot parse, any field that is not what was asked for and any refusal with another code than EC2's
ends the walk with a non-zero exit status. Prints one line for each step, and `ok` at the end.
"""

import datetime

import botocore.utils

from walking import ACCESS_KEY, ANSWERED, check, connect, endpoints, imds_client, refused, step, wait_for


def look_round(ec2):
    """Describes what is there. Returns the first node, its primary ENI and its subnet."""
    vpc = ec2.describe_vpcs()["Vpcs"][0]
    cidrs = [block["CidrBlock"] for block in vpc["CidrBlockAssociationSet"]]
    step(f"VPC {vpc['VpcId']} with {', '.join(cidrs)}")
    reservations = ec2.describe_instances(Filters=[{"Name": "instance-state-name", "Values": ["running"]}])["Reservations"]
    nodes = [instance for reservation in reservations for instance in reservation["Instances"]]
    check(nodes, "there is a running instance")
    node = sorted(nodes, key=lambda node: node["PrivateIpAddress"])[0]
    check(isinstance(node["LaunchTime"], datetime.datetime), "an instance has a launch time")
    primary = node["NetworkInterfaces"][0]
    check(primary["Attachment"]["DeviceIndex"] == 0, "the first ENI of an instance is its primary one")
    subnets = ec2.describe_subnets(
        Filters=[
            {"Name": "vpc-id", "Values": [vpc["VpcId"]]},
            {"Name": "availability-zone", "Values": [node["Placement"]["AvailabilityZone"]]},
        ]
    )["Subnets"]
    subnet = next(subnet for subnet in subnets if subnet["SubnetId"] == node["SubnetId"])
    step(f"node {node['InstanceId']} ({node['InstanceType']}) in {subnet['SubnetId']}, {subnet['CidrBlock']}")
    groups = ec2.describe_security_groups(GroupIds=[group["GroupId"] for group in primary["Groups"]])["SecurityGroups"]
    check(groups[0]["IpPermissionsEgress"], "a security group lets something out")
    tables = ec2.describe_route_tables()["RouteTables"]
    check(any(route.get("NatGatewayId") for table in tables for route in table["Routes"]), "a route leads to a NAT gateway")
    check(len(ec2.describe_availability_zones()["AvailabilityZones"]) >= 1, "there is a zone")
    kind = ec2.describe_instance_types(InstanceTypes=[node["InstanceType"]])["InstanceTypes"][0]["NetworkInfo"]
    step(f"{kind['MaximumNetworkInterfaces']} ENIs with {kind['Ipv4AddressesPerInterface']} addresses each")
    pages = ec2.get_paginator("describe_instance_types").paginate(PaginationConfig={"PageSize": 100})
    types = [kind["InstanceType"] for page in pages for kind in page["InstanceTypes"]]
    check(len(types) == len(set(types)) > 1000, "every instance type comes once")
    return node, primary, subnet


def show(ec2, eni):
    return ec2.describe_network_interfaces(NetworkInterfaceIds=[eni])["NetworkInterfaces"][0]


def create(ec2, subnet, groups):
    asked = {
        "SubnetId": subnet["SubnetId"],
        "Description": "aws-K8S-walk <&> \"quoted\" ünïcode",
        "Groups": groups,
        "SecondaryPrivateIpAddressCount": 2,
        "ClientToken": "walk-1",
        "TagSpecifications": [
            {
                "ResourceType": "network-interface",
                "Tags": [{"Key": "node.k8s.amazonaws.com/instance_id", "Value": "walk"}, {"Key": "empty", "Value": ""}],
            }
        ],
    }
    refused("DryRunOperation", ec2.create_network_interface, DryRun=True, **asked)
    created = ec2.create_network_interface(**asked)["NetworkInterface"]
    check(created["Status"] == "pending", "a new ENI is pending")
    again = ec2.create_network_interface(**asked)["NetworkInterface"]
    eni = created["NetworkInterfaceId"]
    check(again["NetworkInterfaceId"] == eni, "the same token gives the same ENI")
    refused("IdempotentParameterMismatch", ec2.create_network_interface, **{**asked, "Description": "other"})
    shown = show(ec2, eni)
    check(shown["Description"] == asked["Description"], "the description comes back as it was given")
    check({tag["Key"]: tag["Value"] for tag in shown["TagSet"]} == {"node.k8s.amazonaws.com/instance_id": "walk", "empty": ""}, "so do tags")
    check([address["Primary"] for address in shown["PrivateIpAddresses"]] == [True, False, False], "three addresses, the first primary")
    step(f"created {eni} with {', '.join(address['PrivateIpAddress'] for address in shown['PrivateIpAddresses'])}")
    return eni


def attach(ec2, eni, node):
    instance = node["InstanceId"]
    refused("InvalidParameterValue", ec2.attach_network_interface, NetworkInterfaceId=eni, InstanceId=instance, DeviceIndex=0)
    answer = ec2.attach_network_interface(
        NetworkInterfaceId=eni, InstanceId=instance, DeviceIndex=1, NetworkCardIndex=0
    )
    attachment = answer["AttachmentId"]
    wait_for(f"{eni} is attached", lambda: show(ec2, eni)["Attachment"]["Status"] == "attached")
    tie = show(ec2, eni)["Attachment"]
    check(isinstance(tie["AttachTime"], datetime.datetime) and tie["DeviceIndex"] == 1, "the attachment is as asked")
    check(tie["DeleteOnTermination"] is False, "an attached ENI stays when the instance goes")
    ec2.modify_network_interface_attribute(
        NetworkInterfaceId=eni, Attachment={"AttachmentId": attachment, "DeleteOnTermination": True}
    )
    check(show(ec2, eni)["Attachment"]["DeleteOnTermination"] is True, "until that is changed")
    ec2.modify_network_interface_attribute(NetworkInterfaceId=eni, SourceDestCheck={"Value": False})
    check(show(ec2, eni)["SourceDestCheck"] is False, "the source check can be switched off")
    refused("InvalidNetworkInterface.InUse", ec2.attach_network_interface, NetworkInterfaceId=eni, InstanceId=instance, DeviceIndex=2)
    refused("InvalidParameterValue", ec2.delete_network_interface, NetworkInterfaceId=eni)
    step(f"attached as {attachment}")
    return attachment


def change_addresses(ec2, eni, subnet):
    def free():
        return ec2.describe_subnets(SubnetIds=[subnet["SubnetId"]])["Subnets"][0]["AvailableIpAddressCount"]

    before = free()
    got = ec2.assign_private_ip_addresses(NetworkInterfaceId=eni, SecondaryPrivateIpAddressCount=3)
    addresses = [entry["PrivateIpAddress"] for entry in got["AssignedPrivateIpAddresses"]]
    got = ec2.assign_private_ip_addresses(NetworkInterfaceId=eni, Ipv4PrefixCount=1)
    prefixes = [entry["Ipv4Prefix"] for entry in got["AssignedIpv4Prefixes"]]
    check(len(addresses) == 3 and len(prefixes) == 1 and prefixes[0].endswith("/28"), "what was asked for was given")
    check(free() == before - 3 - 16, "the subnet has as many addresses less")
    refused("PrivateIpAddressLimitExceeded", ec2.assign_private_ip_addresses, NetworkInterfaceId=eni, SecondaryPrivateIpAddressCount=100)
    shown = show(ec2, eni)
    check(len(shown["PrivateIpAddresses"]) == 6 and len(shown["Ipv4Prefixes"]) == 1, "the ENI shows them all")
    ec2.unassign_private_ip_addresses(NetworkInterfaceId=eni, PrivateIpAddresses=addresses)
    ec2.unassign_private_ip_addresses(NetworkInterfaceId=eni, Ipv4Prefixes=prefixes)
    check(free() == before, "and gets them back")
    refused("InvalidParameterValue", ec2.unassign_private_ip_addresses, NetworkInterfaceId=eni, PrivateIpAddresses=addresses)
    step(f"assigned and unassigned {', '.join(addresses + prefixes)}")


def find(ec2, eni):
    ec2.create_tags(Resources=[eni], Tags=[{"Key": "cluster.k8s.amazonaws.com/name", "Value": "walk"}])
    pages = ec2.get_paginator("describe_network_interfaces").paginate(
        Filters=[
            {"Name": "tag-key", "Values": ["node.k8s.amazonaws.com/instance_id"]},
            {"Name": "tag:cluster.k8s.amazonaws.com/name", "Values": ["wal?"]},
            {"Name": "status", "Values": ["in-use"]},
        ],
        PaginationConfig={"PageSize": 5},
    )
    found = [interface["NetworkInterfaceId"] for page in pages for interface in page["NetworkInterfaces"]]
    check(found == [eni], f"the filters find the ENI: {found}")
    tags = ec2.describe_tags(Filters=[{"Name": "resource-id", "Values": [eni]}])["Tags"]
    check({tag["ResourceType"] for tag in tags} == {"network-interface"} and len(tags) == 3, "its tags are listed")
    step("found by its tags")


def remove(ec2, eni, attachment):
    ec2.detach_network_interface(AttachmentId=attachment)
    wait_for(f"{eni} is available", lambda: show(ec2, eni)["Status"] == "available")
    ec2.delete_network_interface(NetworkInterfaceId=eni)
    text = refused("InvalidNetworkInterfaceID.NotFound", ec2.describe_network_interfaces, NetworkInterfaceIds=[eni])
    check(text == f"The networkInterface ID '{eni}' does not exist", f"the missing one is named: {text}")
    step("detached and deleted")


def with_role(endpoint, imds, region):
    """Signs with the credentials that IMDS hands out."""
    fetcher = imds_client(botocore.utils.InstanceMetadataFetcher, imds)
    role = fetcher.retrieve_iam_role_credentials()
    check(role, "IMDS hands out credentials of a role")
    ec2 = connect(endpoint, region, role["access_key"], role["secret_key"], role["token"])
    check(ec2.describe_vpcs()["Vpcs"], "they are good for a call")
    step(f"called with the credentials of role {role['role_name']}")


def strangers(endpoint, region):
    refused("AuthFailure", connect(endpoint, region, "AKIANOBODY0000000000").describe_vpcs)
    refused("AuthFailure", connect(endpoint, region, ACCESS_KEY, "wrong").describe_vpcs)
    step("strangers are refused")


def main():
    endpoint, imds = endpoints(__doc__)
    region = imds_client(botocore.utils.InstanceMetadataRegionFetcher, imds).retrieve_region()
    check(region, "IMDS tells the region")
    ec2 = connect(endpoint, region)
    node, primary, subnet = look_round(ec2)
    eni = create(ec2, subnet, [group["GroupId"] for group in primary["Groups"]])
    attachment = attach(ec2, eni, node)
    change_addresses(ec2, eni, subnet)
    find(ec2, eni)
    refused("OperationNotPermitted", ec2.detach_network_interface, AttachmentId=primary["Attachment"]["AttachmentId"])
    remove(ec2, eni, attachment)
    with_role(endpoint, imds, region)
    strangers(endpoint, region)
    check("DescribeVpcs" in ANSWERED and len(ANSWERED) > 10, f"the answers were held against the model: {ANSWERED}")
    print("ok")


if __name__ == "__main__":
    main()
