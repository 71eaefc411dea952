"""Changes the network of the lab's cloud with boto3, launches an instance in it, and takes everything away again.

usage: boto3_network.py [ENDPOINT]

ENDPOINT is as for boto3_walk.py. Every answer is held against EC2's published model. Ends with a non-zero exit status at the
first thing that is not as EC2 has it. Prints one line for each step, and at the end `answered` with the actions that were
answered (other than by a refusal), and `ok`.
"""

import botocore.utils

from walking import ANSWERED, check, connect, endpoints, imds_client, refused, step, wait_for

CIDR = "10.77.0.0/16"
# For botocore's waiters, which look every 15 s by themselves.
QUICK = {"Delay": 1, "MaxAttempts": 120}


def tagged(kind, **tags):
    tags = {"walk": "network", **tags}
    return [{"ResourceType": kind, "Tags": [{"Key": key, "Value": value} for key, value in tags.items()]}]


def tags_of(found):
    return {tag["Key"]: tag["Value"] for tag in found}


def only(found):
    check(len(found) == 1, f"there is exactly one: {found}")
    return found[0]


def look(ec2):
    """Everything there is, by kind: ids, and rules and routes with them."""
    instances = [i for r in ec2.describe_instances()["Reservations"] for i in r["Instances"]]
    return {
        "cidrs": sorted(b["CidrBlock"] for b in only(ec2.describe_vpcs()["Vpcs"])["CidrBlockAssociationSet"]),
        "subnets": sorted((s["SubnetId"], s["AvailableIpAddressCount"]) for s in ec2.describe_subnets()["Subnets"]),
        "tables": sorted((t["RouteTableId"], len(t["Routes"]), len(t["Associations"])) for t in ec2.describe_route_tables()["RouteTables"]),
        "groups": sorted(g["GroupId"] for g in ec2.describe_security_groups()["SecurityGroups"]),
        "rules": sorted(r["SecurityGroupRuleId"] for r in ec2.describe_security_group_rules()["SecurityGroupRules"]),
        "enis": sorted(e["NetworkInterfaceId"] for e in ec2.describe_network_interfaces()["NetworkInterfaces"]),
        "instances": sorted(i["InstanceId"] for i in instances if i["State"]["Name"] != "terminated"),
        "tags": sorted((t["ResourceId"], t["Key"]) for t in ec2.describe_tags()["Tags"] if t["ResourceType"] != "instance"),
    }


def add_cidr(ec2, vpc):
    added = ec2.associate_vpc_cidr_block(VpcId=vpc, CidrBlock=CIDR)
    block = added["CidrBlockAssociation"]
    check((added["VpcId"], block["CidrBlock"]) == (vpc, CIDR), "the block is the one asked for")
    check(block["CidrBlockState"]["State"] == "associating", "it is on its way")
    wait_for("the block is associated", lambda: states(ec2).get(CIDR) == "associated")
    refused("InvalidVpc.Range", ec2.associate_vpc_cidr_block, VpcId=vpc, CidrBlock="10.77.128.0/20")
    step(f"{CIDR} is part of {vpc}")
    return block["AssociationId"]


def states(ec2):
    blocks = only(ec2.describe_vpcs()["Vpcs"])["CidrBlockAssociationSet"]
    return {block["CidrBlock"]: block["CidrBlockState"]["State"] for block in blocks}


def add_subnet(ec2, vpc, zone):
    asked = {"VpcId": vpc, "CidrBlock": "10.77.8.0/24", "AvailabilityZone": zone, "TagSpecifications": tagged("subnet", Name="walk <&>")}
    refused("DryRunOperation", ec2.create_subnet, DryRun=True, **asked)
    subnet = ec2.create_subnet(**asked)["Subnet"]
    check(subnet["AvailableIpAddressCount"] == 251 and subnet["MapPublicIpOnLaunch"] is False, "251 addresses, none public")
    check(tags_of(subnet["Tags"]) == {"walk": "network", "Name": "walk <&>"}, "with its tags")
    refused("InvalidSubnet.Conflict", ec2.create_subnet, VpcId=vpc, CidrBlock="10.77.8.0/28")
    refused("InvalidSubnet.Range", ec2.create_subnet, VpcId=vpc, CidrBlock="10.99.8.0/28")
    name = subnet["SubnetId"]
    ec2.modify_subnet_attribute(SubnetId=name, MapPublicIpOnLaunch={"Value": True})
    shown = only(ec2.describe_subnets(Filters=[{"Name": "tag:Name", "Values": ["walk <&>"]}])["Subnets"])
    check(shown == {**subnet, "State": "available", "MapPublicIpOnLaunch": True}, f"it is shown as it was created: {shown}")
    step(f"{name} in {zone}")
    return name


def reserve(ec2, subnet):
    asked = {"SubnetId": subnet, "Cidr": "10.77.8.128/26", "ReservationType": "prefix", "Description": "for pods"}
    reservation = ec2.create_subnet_cidr_reservation(**asked, TagSpecifications=tagged("subnet-cidr-reservation"))
    reservation = reservation["SubnetCidrReservation"]
    check({key: reservation[key] for key in asked} == asked, "the reservation is the one asked for")
    shown = ec2.get_subnet_cidr_reservations(SubnetId=subnet)
    check(shown["SubnetIpv4CidrReservations"] == [reservation], f"it is the only one: {shown}")
    check(shown["SubnetIpv6CidrReservations"] == [], "and none is of IPv6")
    eni = ec2.create_network_interface(SubnetId=subnet, Ipv4PrefixCount=2)["NetworkInterface"]
    prefixes = [entry["Ipv4Prefix"] for entry in eni["Ipv4Prefixes"]]
    reserved = {"10.77.8.128/28", "10.77.8.144/28", "10.77.8.160/28", "10.77.8.176/28"}
    check(len(prefixes) == 2 and set(prefixes) <= reserved, f"prefixes come out of it: {prefixes}")
    ec2.delete_network_interface(NetworkInterfaceId=eni["NetworkInterfaceId"])
    deleted = ec2.delete_subnet_cidr_reservation(SubnetCidrReservationId=reservation["SubnetCidrReservationId"])
    check(deleted["DeletedSubnetCidrReservation"] == reservation, "the deleted one is it")
    step(f"reserved {asked['Cidr']} and let go of it")


def add_routes(ec2, vpc, subnet):
    """A table with a route through the NAT gateway that is there already."""
    existing = [route for table in ec2.describe_route_tables()["RouteTables"] for route in table["Routes"]]
    nat = next(route["NatGatewayId"] for route in existing if "NatGatewayId" in route)
    igw = next(route["GatewayId"] for route in existing if route.get("GatewayId", "").startswith("igw-"))
    table = ec2.create_route_table(VpcId=vpc, TagSpecifications=tagged("route-table"))["RouteTable"]
    name = table["RouteTableId"]
    check({route["GatewayId"] for route in table["Routes"]} == {"local"}, "a new table has local routes alone")
    everywhere = {"RouteTableId": name, "DestinationCidrBlock": "0.0.0.0/0"}
    check(ec2.create_route(**everywhere, NatGatewayId=nat)["Return"] is True, "a route is made")
    ec2.replace_route(**everywhere, GatewayId=igw)
    tied = ec2.associate_route_table(RouteTableId=name, SubnetId=subnet)
    check(tied["AssociationState"]["State"] in ("associating", "associated"), "the subnet is tied to the table")
    shown = only(ec2.describe_route_tables(Filters=[{"Name": "association.subnet-id", "Values": [subnet]}])["RouteTables"])
    check(only(shown["Associations"])["RouteTableAssociationId"] == tied["AssociationId"], "by the tie it was given")
    route = only([route for route in shown["Routes"] if route["DestinationCidrBlock"] == "0.0.0.0/0"])
    check((route["GatewayId"], route["State"], route["Origin"]) == (igw, "active", "CreateRoute"), f"the route is the last one: {route}")
    refused("DependencyViolation", ec2.delete_route_table, RouteTableId=name)

    other = ec2.create_route_table(VpcId=vpc)["RouteTable"]["RouteTableId"]
    again = ec2.replace_route_table_association(AssociationId=tied["AssociationId"], RouteTableId=other)["NewAssociationId"]
    ec2.delete_route(**everywhere)
    ec2.delete_route_table(RouteTableId=name)
    step(f"{subnet} used {name}, now {other}")
    return other, again


def add_group(ec2, vpc):
    asked = {"GroupName": "walk", "Description": "of the walk", "VpcId": vpc}
    created = ec2.create_security_group(**asked, TagSpecifications=tagged("security-group"))
    name = created["GroupId"]
    check(tags_of(created["Tags"]) == {"walk": "network"}, "a group is born with its tags")
    refused("InvalidGroup.Duplicate", ec2.create_security_group, **asked)
    listed = [
        {
            "IpProtocol": "tcp",
            "FromPort": 443,
            "ToPort": 444,
            "IpRanges": [{"CidrIp": "10.20.0.0/16", "Description": "the nodes"}, {"CidrIp": "10.77.0.0/16"}],
            "UserIdGroupPairs": [{"GroupId": name}],
        },
        {"IpProtocol": "icmp", "FromPort": -1, "ToPort": -1, "IpRanges": [{"CidrIp": "0.0.0.0/0"}]},
    ]
    rules = ec2.authorize_security_group_ingress(GroupId=name, IpPermissions=listed)
    check(rules["Return"] is True and len(rules["SecurityGroupRules"]) == 4, f"a rule for each network and group: {rules}")
    single = {"GroupId": name, "IpProtocol": "udp", "FromPort": 53, "ToPort": 53, "CidrIp": "10.20.0.0/16"}
    dns = only(ec2.authorize_security_group_ingress(**single)["SecurityGroupRules"])
    check((dns["CidrIpv4"], dns["FromPort"], dns["IsEgress"]) == ("10.20.0.0/16", 53, False), f"the short spelling works: {dns}")
    refused("InvalidPermission.Duplicate", ec2.authorize_security_group_ingress, **single)
    out = [{"IpProtocol": "tcp", "FromPort": 25, "ToPort": 25, "IpRanges": [{"CidrIp": "10.0.0.0/8"}]}]
    mail = only(ec2.authorize_security_group_egress(GroupId=name, IpPermissions=out)["SecurityGroupRules"])

    shown = only(ec2.describe_security_groups(GroupIds=[name])["SecurityGroups"])
    tcp = only([rule for rule in shown["IpPermissions"] if rule["IpProtocol"] == "tcp"])
    check(tcp["IpRanges"] == listed[0]["IpRanges"], f"networks and their descriptions come back: {tcp}")
    check([pair["GroupId"] for pair in tcp["UserIdGroupPairs"]] == [name], "so does the group")
    check({"PrefixListIds", "Ipv6Ranges"} <= tcp.keys(), "empty lists are there, too")
    of_group = [{"Name": "group-id", "Values": [name]}]
    found = ec2.describe_security_group_rules(Filters=of_group)["SecurityGroupRules"]
    check(len(found) == 7, f"five rules in, two out: {found}")

    revoked = ec2.revoke_security_group_ingress(GroupId=name, SecurityGroupRuleIds=[dns["SecurityGroupRuleId"]])
    check(only(revoked["RevokedSecurityGroupRules"])["SecurityGroupRuleId"] == dns["SecurityGroupRuleId"], "by id")
    gone = only(ec2.revoke_security_group_egress(GroupId=name, IpPermissions=out)["RevokedSecurityGroupRules"])
    check(gone["SecurityGroupRuleId"] == mail["SecurityGroupRuleId"], "by what it says")
    refused("InvalidPermission.NotFound", ec2.revoke_security_group_egress, GroupId=name, IpPermissions=out)
    check(len(ec2.describe_security_group_rules(Filters=of_group)["SecurityGroupRules"]) == 5, "five are left")
    step(f"{name} with rules")
    return name


def add_eni(ec2, subnet, group):
    asked = {"SubnetId": subnet, "Groups": [group], "PrivateIpAddress": "10.77.8.77", "Description": "of the walk"}
    eni = ec2.create_network_interface(**asked, TagSpecifications=tagged("network-interface"))["NetworkInterface"]
    name = eni["NetworkInterfaceId"]

    def attribute(which):
        shown = ec2.describe_network_interface_attribute(NetworkInterfaceId=name, Attribute=which)
        check(shown["NetworkInterfaceId"] == name, "the attribute is of the ENI asked for")
        return {key: value for key, value in shown.items() if key not in ("NetworkInterfaceId", "ResponseMetadata")}

    check(attribute("description") == {"Description": {"Value": "of the walk"}}, "its description, and nothing else")
    check(attribute("sourceDestCheck") == {"SourceDestCheck": {"Value": True}}, "its source check")
    check(attribute("groupSet") == {"Groups": [{"GroupId": group, "GroupName": "walk"}]}, "its group")
    check(attribute("attachment") == {}, "it is attached to nothing")
    ec2.modify_network_interface_attribute(NetworkInterfaceId=name, SourceDestCheck={"Value": False})
    ec2.modify_network_interface_attribute(NetworkInterfaceId=name, Description={"Value": "changed"})
    check(attribute("sourceDestCheck") == {"SourceDestCheck": {"Value": False}}, "the source check is off")
    refused("InvalidParameterValue", ec2.assign_ipv6_addresses, NetworkInterfaceId=name, Ipv6AddressCount=1)
    refused("InvalidParameterValue", ec2.unassign_ipv6_addresses, NetworkInterfaceId=name, Ipv6Addresses=["fd00::1"])
    got = ec2.assign_private_ip_addresses(NetworkInterfaceId=name, PrivateIpAddresses=["10.77.8.78"])
    check([entry["PrivateIpAddress"] for entry in got["AssignedPrivateIpAddresses"]] == ["10.77.8.78"], "a second address")
    ec2.unassign_private_ip_addresses(NetworkInterfaceId=name, PrivateIpAddresses=["10.77.8.78"])
    ec2.create_tags(Resources=[name, group], Tags=[{"Key": "more", "Value": ""}])
    ec2.delete_tags(Resources=[name], Tags=[{"Key": "more", "Value": "another"}])
    check("more" in tags_of(only(ec2.describe_network_interfaces(NetworkInterfaceIds=[name])["NetworkInterfaces"])["TagSet"]), "a tag with another value stays")
    ec2.delete_tags(Resources=[name, group], Tags=[{"Key": "more"}])
    check("more" not in tags_of(only(ec2.describe_network_interfaces(NetworkInterfaceIds=[name])["NetworkInterfaces"])["TagSet"]), "without a value it goes")
    step(f"{name} with 10.77.8.77")
    return name


def launch(ec2, image, subnet, group, profile):
    asked = {
        "ImageId": image,
        "InstanceType": "m5.large",
        "MinCount": 1,
        "MaxCount": 1,
        "NetworkInterfaces": [
            {"DeviceIndex": 0, "SubnetId": subnet, "Groups": [group], "PrivateIpAddress": "10.77.8.9", "SecondaryPrivateIpAddressCount": 2, "DeleteOnTermination": True},
        ],
        "MetadataOptions": {"HttpTokens": "required", "HttpPutResponseHopLimit": 3, "HttpEndpoint": "enabled"},
        "IamInstanceProfile": {"Arn": profile},
        "TagSpecifications": tagged("instance", Name="walker"),
        "ClientToken": "walk-launch",
        "UserData": "#!/bin/sh\ntrue\n",
    }
    refused("DryRunOperation", ec2.run_instances, DryRun=True, **asked)
    reservation = ec2.run_instances(**asked)
    instance = only(reservation["Instances"])
    name = instance["InstanceId"]
    check(instance["State"] == {"Code": 0, "Name": "pending"}, f"it is on its way: {instance['State']}")
    check(only(ec2.run_instances(**asked)["Instances"])["InstanceId"] == name, "the same token gives the same instance")
    ec2.get_waiter("instance_running").wait(InstanceIds=[name], WaiterConfig=QUICK)
    found = only(ec2.describe_instances(InstanceIds=[name])["Reservations"])
    check(found["ReservationId"] == reservation["ReservationId"], "it is listed with its launch")
    shown = only(found["Instances"])
    check(shown["PrivateIpAddress"] == "10.77.8.9" and shown["SubnetId"] == subnet, "where it was wanted")
    check(shown["MetadataOptions"]["HttpPutResponseHopLimit"] == 3, "with the hop limit it was given")
    check(shown["IamInstanceProfile"]["Arn"] == profile, "and with its profile")
    primary = only(shown["NetworkInterfaces"])
    check(len(primary["PrivateIpAddresses"]) == 3 and primary["Attachment"]["DeleteOnTermination"] is True, "and its addresses")
    ec2.get_waiter("instance_status_ok").wait(InstanceIds=[name], WaiterConfig=QUICK)
    status = only(ec2.describe_instance_status(InstanceIds=[name])["InstanceStatuses"])
    check(status["SystemStatus"]["Status"] == "ok", "its host does well")
    step(f"{name} runs")
    return name, primary["NetworkInterfaceId"]


def live(ec2, instance, eni):
    """Attaches the ENI (at the second try, at another place), restarts, stops and starts the instance."""
    tie = ec2.attach_network_interface(InstanceId=instance, NetworkInterfaceId=eni, DeviceIndex=2)["AttachmentId"]
    wait_for("the ENI is attached", lambda: attachment(ec2, eni).get("Status") == "attached")
    ec2.detach_network_interface(AttachmentId=tie)
    ec2.get_waiter("network_interface_available").wait(NetworkInterfaceIds=[eni], WaiterConfig=QUICK)
    tie = ec2.attach_network_interface(InstanceId=instance, NetworkInterfaceId=eni, DeviceIndex=1)["AttachmentId"]
    wait_for("the ENI is attached", lambda: attachment(ec2, eni).get("Status") == "attached")
    shown = ec2.describe_network_interface_attribute(NetworkInterfaceId=eni, Attribute="attachment")["Attachment"]
    check((shown["AttachmentId"], shown["InstanceId"]) == (tie, instance), "its attachment is shown as an attribute, too")
    ec2.reboot_instances(InstanceIds=[instance])
    change = only(ec2.stop_instances(InstanceIds=[instance])["StoppingInstances"])
    check((change["PreviousState"]["Name"], change["CurrentState"]["Name"]) == ("running", "stopping"), f"it stops: {change}")
    ec2.get_waiter("instance_stopped").wait(InstanceIds=[instance], WaiterConfig=QUICK)
    change = only(ec2.start_instances(InstanceIds=[instance])["StartingInstances"])
    check((change["PreviousState"]["Name"], change["CurrentState"]["Name"]) == ("stopped", "pending"), f"it starts: {change}")
    ec2.get_waiter("instance_running").wait(InstanceIds=[instance], WaiterConfig=QUICK)
    check(attachment(ec2, eni)["AttachmentId"] == tie, "the ENI is still there")
    step(f"{instance} had {eni} attached, was restarted, stopped and started")


def attachment(ec2, eni):
    return only(ec2.describe_network_interfaces(NetworkInterfaceIds=[eni])["NetworkInterfaces"]).get("Attachment", {})


def end(ec2, instance, primary, eni):
    change = only(ec2.terminate_instances(InstanceIds=[instance])["TerminatingInstances"])
    check(change["CurrentState"]["Name"] == "shutting-down", f"it ends: {change}")
    ec2.get_waiter("instance_terminated").wait(InstanceIds=[instance], WaiterConfig=QUICK)
    refused("InvalidNetworkInterfaceID.NotFound", ec2.describe_network_interfaces, NetworkInterfaceIds=[primary])
    left = only(ec2.describe_network_interfaces(NetworkInterfaceIds=[eni])["NetworkInterfaces"])
    check(left["Status"] == "available", f"the ENI it did not bring stays: {left['Status']}")
    shown = only(only(ec2.describe_instances(InstanceIds=[instance])["Reservations"])["Instances"])
    check(shown["State"]["Name"] == "terminated" and shown["StateReason"]["Code"].startswith("Client."), "it is still listed")
    step(f"{instance} is gone, and its primary ENI with it")


def main():
    endpoint, imds = endpoints(__doc__)
    region = imds_client(botocore.utils.InstanceMetadataRegionFetcher, imds).retrieve_region()
    ec2 = connect(endpoint, region)
    before = look(ec2)
    vpc = only(ec2.describe_vpcs()["Vpcs"])["VpcId"]
    node = ec2.describe_instances()["Reservations"][0]["Instances"][0]
    zone = ec2.describe_availability_zones()["AvailabilityZones"][0]["ZoneName"]
    check(ec2.describe_instance_types(InstanceTypes=["m5.large"])["InstanceTypes"], "there are m5.large")

    block = add_cidr(ec2, vpc)
    subnet = add_subnet(ec2, vpc, zone)
    reserve(ec2, subnet)
    table, tie = add_routes(ec2, vpc, subnet)
    group = add_group(ec2, vpc)
    eni = add_eni(ec2, subnet, group)
    instance, primary = launch(ec2, node["ImageId"], subnet, group, node["IamInstanceProfile"]["Arn"])
    live(ec2, instance, eni)
    refused("DependencyViolation", ec2.delete_security_group, GroupId=group)
    refused("DependencyViolation", ec2.delete_subnet, SubnetId=subnet)
    end(ec2, instance, primary, eni)

    ec2.delete_network_interface(NetworkInterfaceId=eni)
    check(ec2.delete_security_group(GroupId=group)["GroupId"] == group, "the group is gone")
    ec2.disassociate_route_table(AssociationId=tie)
    ec2.delete_route_table(RouteTableId=table)
    refused("InvalidCidrBlock.InUse", ec2.disassociate_vpc_cidr_block, AssociationId=block)
    ec2.delete_subnet(SubnetId=subnet)
    gone = ec2.disassociate_vpc_cidr_block(AssociationId=block)["CidrBlockAssociation"]
    check(gone["CidrBlockState"]["State"] == "disassociating", "the block is on its way out")
    wait_for("the block is gone", lambda: states(ec2).get(CIDR, "disassociated") == "disassociated")
    wait_for("everything is as before", lambda: look(ec2) == before)
    step("everything is as before")
    print("answered", *sorted(ANSWERED))
    print("ok")


if __name__ == "__main__":
    main()
