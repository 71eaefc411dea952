#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use proptest::prelude::*;

use super::sample::Dice;
use super::*;

/// Values of every action and of its answer survive the wire. Texts are compared: a structure without any member has none, and
/// comes back as absent.
fn survive(mut dice: Dice) {
    let samples = samples(&mut dice);
    assert_eq!(samples.len(), catalogue().len());
    for (request, answer) in samples {
        let query = Query::parse(request.query().encode().as_bytes());
        assert_eq!(query, request.query());
        assert_eq!(AnyRequest::from_query(&query).unwrap().query(), query);

        let document = answer.to_xml("4b5d");
        let read =
            AnyResponse::from_xml(answer.name(), &document).unwrap_or_else(|error| panic!("{error}: {document}"));
        assert!(read.body.to_xml("4b5d") == document, "{document}");
        assert_eq!(read.request_id, "4b5d");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_request_and_answer_survives_the_wire(seed: u64, full: bool) {
        survive(if full { Dice::full(seed) } else { Dice::new(seed) });
    }

    #[test]
    fn no_text_breaks_the_readers(text in "\\PC{0,80}", bytes in prop::collection::vec(any::<u8>(), 0..80)) {
        let _ = Element::parse(&text);
        let _ = Element::parse(&String::from_utf8_lossy(&bytes));
        let _ = AnyRequest::from_query(&Query::parse(&bytes));
        let _ = ErrorAnswer::from_xml(&text);
    }
}

fn form(pairs: &str) -> Query {
    Query::parse(pairs.as_bytes())
}

fn refusal(pairs: &str) -> ParamError {
    AnyRequest::from_query(&form(pairs)).unwrap_err()
}

#[test]
fn requests_are_spelt_as_ec2_wants_them() {
    let mut create = CreateNetworkInterface::new("subnet-0a".parse().unwrap());
    create.description = Some("aws-K8S-i-0b".into());
    create.groups = vec!["sg-01".parse().unwrap(), "sg-02".parse().unwrap()];
    create.ipv4_prefix_count = Some(2);
    create.tag_specifications = vec![TagSpecification {
        resource_type: ResourceType::NetworkInterface,
        tags: vec![Tag::new("a/b", "c d"), Tag::new("e", "")],
    }];
    create.connection_tracking = Some(ConnectionTrackingSpecification { udp_timeout: Some(30), ..Default::default() });
    create.client_token = Some("t-1".into());
    assert_eq!(
        create.query().encode(),
        "Action=CreateNetworkInterface&Version=2016-11-15&SubnetId=subnet-0a&Description=aws-K8S-i-0b\
         &SecurityGroupId.1=sg-01&SecurityGroupId.2=sg-02&Ipv4PrefixCount=2\
         &TagSpecification.1.ResourceType=network-interface&TagSpecification.1.Tag.1.Key=a%2Fb\
         &TagSpecification.1.Tag.1.Value=c+d&TagSpecification.1.Tag.2.Key=e&TagSpecification.1.Tag.2.Value=\
         &ConnectionTrackingSpecification.UdpTimeout=30&ClientToken=t-1"
    );

    let list = DescribeNetworkInterfaces {
        filters: vec![Filter::new("status", ["available"]), Filter::new("vpc-id", ["vpc-1", "vpc-2"])],
        max_results: Some(1000),
        next_token: Some("page=2".into()),
        ..Default::default()
    };
    assert_eq!(
        list.query().encode(),
        "Action=DescribeNetworkInterfaces&Version=2016-11-15&Filter.1.Name=status&Filter.1.Value.1=available\
         &Filter.2.Name=vpc-id&Filter.2.Value.1=vpc-1&Filter.2.Value.2=vpc-2&MaxResults=1000&NextToken=page%3D2"
    );

    let mut modify = ModifyNetworkInterfaceAttribute::new("eni-0c".parse().unwrap());
    modify.attachment = Some(NetworkInterfaceAttachmentChanges {
        attachment_id: Some("eni-attach-0d".parse().unwrap()),
        delete_on_termination: Some(true),
    });
    assert_eq!(
        modify.query().encode(),
        "Action=ModifyNetworkInterfaceAttribute&Version=2016-11-15&NetworkInterfaceId=eni-0c\
         &Attachment.AttachmentId=eni-attach-0d&Attachment.DeleteOnTermination=true"
    );

    let unassign = UnassignPrivateIpAddresses {
        network_interface_id: "eni-0c".parse().unwrap(),
        private_ip_addresses: vec!["10.0.0.9".parse().unwrap()],
        ipv4_prefixes: Vec::new(),
    };
    assert_eq!(
        unassign.query().encode(),
        "Action=UnassignPrivateIpAddresses&Version=2016-11-15&NetworkInterfaceId=eni-0c&PrivateIpAddress.1=10.0.0.9"
    );
}

#[test]
fn ipv6_actions_are_spelt_as_ec2_wants_them() {
    // In the published model, the lists' own names differ: `Ipv6Addresses` in the plural, `Ipv6Prefix` not.
    let eni = || "eni-0c".parse().unwrap();
    let mut assign = AssignIpv6Addresses::addresses(eni(), 2);
    assign.ipv6_addresses = vec!["fd00::1".parse().unwrap(), "fd00::2".parse().unwrap()];
    assert_eq!(
        assign.query().encode(),
        "Action=AssignIpv6Addresses&Version=2016-11-15&NetworkInterfaceId=eni-0c&Ipv6AddressCount=2\
         &Ipv6Addresses.1=fd00%3A%3A1&Ipv6Addresses.2=fd00%3A%3A2"
    );
    let mut assign = AssignIpv6Addresses::prefixes(eni(), 1);
    assign.ipv6_prefixes = vec!["fd00:1:2:3:4::/80".parse().unwrap()];
    assert_eq!(
        assign.query().encode(),
        "Action=AssignIpv6Addresses&Version=2016-11-15&NetworkInterfaceId=eni-0c&Ipv6PrefixCount=1\
         &Ipv6Prefix.1=fd00%3A1%3A2%3A3%3A4%3A%3A%2F80"
    );
    let unassign = UnassignIpv6Addresses {
        network_interface_id: eni(),
        ipv6_addresses: vec!["fd00::1".parse().unwrap()],
        ipv6_prefixes: vec!["fd00:1:2:3:4::/80".parse().unwrap()],
    };
    assert_eq!(
        unassign.query().encode(),
        "Action=UnassignIpv6Addresses&Version=2016-11-15&NetworkInterfaceId=eni-0c&Ipv6Addresses.1=fd00%3A%3A1\
         &Ipv6Prefix.1=fd00%3A1%3A2%3A3%3A4%3A%3A%2F80"
    );
    let base = "Action=AssignIpv6Addresses&Version=2016-11-15&NetworkInterfaceId=eni-0c";
    for (pair, code, word) in [
        ("Ipv6Addresses.1=10.0.0.9", "InvalidParameterValue", "an IPv6 address"),
        ("Ipv6Prefix.1=fd00::", "InvalidParameterValue", "an IPv6 network"),
        ("Ipv6AddressCount=-1", "InvalidParameterValue", "at least 0"),
        ("Ipv6Prefixes.1=fd00::/80", "UnknownParameter", "Ipv6Prefixes.1"),
        // Neither action has a dry run.
        ("DryRun=true", "UnknownParameter", "DryRun"),
    ] {
        let error = refusal(&format!("{base}&{pair}"));
        assert_eq!(error.code(), code, "{pair}: {error}");
        assert!(error.to_string().contains(word), "{pair}: {error}");
    }
}

#[test]
fn ipv6_answers_of_ec2_are_read() {
    // Bare values in the items, other than for IPv4.
    let document = r#"<AssignIpv6AddressesResponse xmlns="http://ec2.amazonaws.com/doc/2016-11-15/">
    <requestId>ec6b91ec-EXAMPLE</requestId>
    <networkInterfaceId>eni-0c</networkInterfaceId>
    <assignedIpv6Addresses><item>2600:1f14::a</item><item>2600:1f14::b</item></assignedIpv6Addresses>
    <assignedIpv6PrefixSet><item>2600:1f14:0:0:1::/80</item></assignedIpv6PrefixSet>
</AssignIpv6AddressesResponse>"#;
    let answer = answer_from_xml::<AssignIpv6Addresses>(document).unwrap().body;
    let texts: Vec<_> = answer.assigned_ipv6_addresses.iter().map(ToString::to_string).collect();
    assert_eq!(
        (answer.network_interface_id.as_str(), texts),
        ("eni-0c", vec!["2600:1f14::a".into(), "2600:1f14::b".into()])
    );
    assert_eq!(answer.assigned_ipv6_prefixes, ["2600:1f14:0:0:1::/80".parse().unwrap()]);

    let document = "<UnassignIpv6AddressesResponse><requestId>94d446d7</requestId>\
        <networkInterfaceId>eni-0c</networkInterfaceId><unassignedIpv6Addresses><item>2600:1f14::a</item>\
        </unassignedIpv6Addresses><unassignedIpv6PrefixSet/></UnassignIpv6AddressesResponse>";
    let answer = answer_from_xml::<UnassignIpv6Addresses>(document).unwrap().body;
    assert_eq!(answer.unassigned_ipv6_addresses, ["2600:1f14::a".parse::<std::net::Ipv6Addr>().unwrap()]);
    assert!(answer.unassigned_ipv6_prefixes.is_empty());
    let bad = document.replace("::a", ":a");
    let error = answer_from_xml::<UnassignIpv6Addresses>(&bad).unwrap_err();
    assert!(error.to_string().contains("unassignedIpv6Addresses/item[1]"), "{error}");
}

#[test]
fn a_server_refuses_what_is_not_in_the_action() {
    let base = "Action=DeleteNetworkInterface&Version=2016-11-15";
    let cases = [
        (String::new(), "MissingParameter", "Action"),
        ("Action=DeleteNetworkInterface".into(), "MissingParameter", "Version"),
        ("Action=DeleteNetworkInterface&Version=2014-10-01".into(), "NoSuchVersion", "2014-10-01"),
        ("Action=RunFlowers&Version=2016-11-15".into(), "InvalidAction", "RunFlowers"),
        (base.into(), "MissingParameter", "NetworkInterfaceId"),
        (format!("{base}&NetworkInterfaceId=eni-1&Forse=true"), "UnknownParameter", "Forse"),
        (
            format!("{base}&NetworkInterfaceId=eni-1&NetworkInterfaceId.1=eni-1"),
            "UnknownParameter",
            "NetworkInterfaceId.1",
        ),
        (format!("{base}&NetworkInterfaceId=subnet-1"), "InvalidNetworkInterfaceId.Malformed", "subnet-1"),
        (
            format!("{base}&NetworkInterfaceId=eni-1&NetworkInterfaceId=eni-2"),
            "InvalidParameterCombination",
            "NetworkInterfaceId",
        ),
        (format!("{base}&NetworkInterfaceId=eni-1&DryRun=yes"), "InvalidParameterValue", "true or false"),
    ];
    for (pairs, code, word) in cases {
        let error = refusal(&pairs);
        assert_eq!(error.code(), code, "{pairs}: {error}");
        assert!(error.to_string().contains(word), "{pairs}: {error}");
    }
    let describe = "Action=DescribeSubnets&Version=2016-11-15";
    for (pairs, name) in [
        ("&SubnetId=subnet-1", "SubnetId"),
        ("&SubnetId.0=subnet-1", "SubnetId.0"),
        ("&SubnetId.01=subnet-1", "SubnetId.01"),
        ("&SubnetId.x=subnet-1", "SubnetId.x"),
        ("&Filter.1.Name=a&Filter.1.Values.1=b", "Filter.1.Values.1"),
    ] {
        assert_eq!(refusal(&format!("{describe}{pairs}")), ParamError::Unknown { name: name.into() }, "{pairs}");
    }
    assert_eq!(
        refusal(&format!("{describe}&Filter.1.Value.1=b")),
        ParamError::Missing { name: "Filter.1.Name".into() }
    );
}

#[test]
fn lists_are_read_in_the_order_of_their_numbers() {
    let query =
        form("Action=DescribeSubnets&Version=2016-11-15&SubnetId.10=subnet-c&SubnetId.2=subnet-b&SubnetId.1=subnet-a");
    let AnyRequest::DescribeSubnets(request) = AnyRequest::from_query(&query).unwrap() else { panic!("{query:?}") };
    assert_eq!(
        request.subnet_ids.iter().map(|id| id.as_str()).collect::<Vec<_>>(),
        ["subnet-a", "subnet-b", "subnet-c"]
    );
}

#[test]
fn dry_run_is_seen_on_every_action_that_has_it() {
    let ask = DescribeVpcs { dry_run: Some(true), ..Default::default() };
    assert!(AnyRequest::from(ask.clone()).dry_run());
    assert!(!AnyRequest::from(DescribeVpcs { dry_run: Some(false), ..ask }).dry_run());
    assert!(!AnyRequest::from(AssignPrivateIpAddresses::addresses("eni-1".parse().unwrap(), 1)).dry_run());
}

#[test]
fn an_answer_of_ec2_is_read() {
    let document = r#"<?xml version="1.0" encoding="UTF-8"?>
<DescribeNetworkInterfacesResponse xmlns="http://ec2.amazonaws.com/doc/2016-11-15/">
    <requestId>fc45294c-EXAMPLE</requestId>
    <networkInterfaceSet>
        <item>
            <networkInterfaceId>eni-0f62d866</networkInterfaceId>
            <subnetId>subnet-c53c87ac</subnetId>
            <vpcId>vpc-cc3c87a5</vpcId>
            <description/>
            <status>in-use</status>
            <macAddress>02:81:60:cb:27:37</macAddress>
            <privateIpAddress>10.0.0.146</privateIpAddress>
            <something><new/></something>
            <groupSet><item><groupId>sg-3f4b5653</groupId><groupName>a &amp; &lt;b&gt;</groupName></item></groupSet>
            <attachment>
                <attachmentId>ela-attach-0c0d</attachmentId>
                <deviceIndex>1</deviceIndex>
                <status>attached</status>
                <attachTime>2026-07-01T21:45:27.000Z</attachTime>
                <deleteOnTermination>true</deleteOnTermination>
            </attachment>
            <tagSet/>
            <privateIpAddressesSet>
                <item><privateIpAddress>10.0.0.146</privateIpAddress><primary>true</primary></item>
                <item><privateIpAddress>10.0.0.148</privateIpAddress><primary>false</primary></item>
            </privateIpAddressesSet>
            <ipv4PrefixSet><item><ipv4Prefix>10.0.1.16/28</ipv4Prefix></item></ipv4PrefixSet>
            <interfaceType>something_new</interfaceType>
        </item>
    </networkInterfaceSet>
</DescribeNetworkInterfacesResponse>"#;
    let answer = answer_from_xml::<DescribeNetworkInterfaces>(document).unwrap();
    assert_eq!(answer.request_id, "fc45294c-EXAMPLE");
    let [eni] = answer.body.network_interfaces.as_slice() else { panic!("one ENI") };
    assert_eq!(eni.description.as_deref(), Some(""));
    assert_eq!(eni.groups[0].group_name.as_deref(), Some("a & <b>"));
    assert_eq!(eni.interface_type, InterfaceType::Other("something_new".into()));
    assert_eq!(eni.private_ip_addresses.len(), 2);
    assert_eq!(eni.ipv4_prefixes[0].ipv4_prefix.to_string(), "10.0.1.16/28");
    let attachment = eni.attachment.as_ref().unwrap();
    assert_eq!(attachment.attachment_id, ServiceOr::Service("ela-attach-0c0d".into()));
    assert_eq!(attachment.attach_time.unwrap().to_string(), "2026-07-01T21:45:27.000Z");
}

#[test]
fn a_wrong_answer_is_named_by_its_path() {
    let wrap = |inside: &str| format!("<AssignPrivateIpAddressesResponse>{inside}</AssignPrivateIpAddressesResponse>");
    let read = |document: &str| answer_from_xml::<AssignPrivateIpAddresses>(document).unwrap_err();
    assert_eq!(read(&wrap("")), XmlError::Missing { path: "networkInterfaceId".into() });
    let second = wrap(
        "<networkInterfaceId>eni-1</networkInterfaceId><assignedPrivateIpAddressesSet>\
         <item><privateIpAddress>10.0.0.1</privateIpAddress></item>\
         <item><privateIpAddress>10.0.0</privateIpAddress></item></assignedPrivateIpAddressesSet>",
    );
    assert_eq!(
        read(&second).to_string(),
        "the answer has `10.0.0` in assignedPrivateIpAddressesSet/item[2]/privateIpAddress, expected an IPv4 address"
    );
    assert!(matches!(read("<Other/>"), XmlError::WrongRoot { .. }));
    let deep = "<a>".repeat(100);
    for bad in ["", "text", "<a", "<a>", "<a></b>", "<a/><b/>", "<a>&nope;</a>", deep.as_str()] {
        assert!(matches!(read(bad), XmlError::Syntax(_)), "{bad}: {:?}", read(bad));
    }
}

#[test]
fn errors_survive_the_wire() {
    let error = ErrorAnswer {
        code: "InvalidNetworkInterfaceID.NotFound".into(),
        message: "The networkInterface ID 'eni-<1>' does not exist".into(),
        request_id: "ea966190".into(),
    };
    assert_eq!(ErrorAnswer::from_xml(&error.to_xml()).unwrap(), error);
    assert!(error.to_xml().contains("<Response><Errors><Error><Code>InvalidNetworkInterfaceID.NotFound</Code>"));
    assert!(ErrorAnswer::from_xml("<html><body>502</body></html>").is_err());
}

#[test]
fn rules_are_read_in_both_spellings() {
    let base = "Action=AuthorizeSecurityGroupIngress&Version=2016-11-15&GroupId=sg-01";
    let rules = |pairs: &str| match AnyRequest::from_query(&form(&format!("{base}{pairs}"))).unwrap() {
        AnyRequest::AuthorizeSecurityGroupIngress(request) => request.rules,
        other => panic!("{other:?}"),
    };
    let single = rules("&IpProtocol=tcp&FromPort=22&ToPort=23&CidrIp=10.0.0.0/8");
    let listed = rules(
        "&IpPermissions.1.IpProtocol=tcp&IpPermissions.1.FromPort=22&IpPermissions.1.ToPort=23\
         &IpPermissions.1.IpRanges.1.CidrIp=10.0.0.0/8",
    );
    assert_eq!(single.permissions(), listed.permissions());
    assert!(single.has_single() && !listed.has_single());
    assert_eq!(listed, RuleParameters::of(listed.permissions()));
    let group = rules("&IpPermissions.1.IpProtocol=-1&IpPermissions.1.Groups.1.GroupId=sg-02");
    assert_eq!(group.permissions()[0].groups, [UserIdGroupPair::new("sg-02".parse().unwrap())]);
    assert!(rules("").permissions().is_empty());
    for pairs in ["&ipProtocol=tcp", "&IpPermissions.1.ipProtocol=tcp", "&.IpProtocol=tcp"] {
        let error = refusal(&format!("{base}{pairs}"));
        assert!(matches!(error, ParamError::Unknown { .. } | ParamError::Missing { .. }), "{pairs}: {error}");
    }
}

#[test]
fn an_absent_list_is_not_an_empty_one() {
    let read = |inside: &str| {
        let document = format!(
            "<DescribeNetworkInterfaceAttributeResponse><networkInterfaceId>eni-1</networkInterfaceId>{inside}\
             </DescribeNetworkInterfaceAttributeResponse>"
        );
        answer_from_xml::<DescribeNetworkInterfaceAttribute>(&document).unwrap().body
    };
    assert_eq!(read("").groups, None);
    assert_eq!(read("<groupSet/>").groups, Some(Vec::new()));
    let described = read("<description><value>a</value></description>");
    assert_eq!(described.description, Some(AttributeValue { value: Some("a".into()) }));
    assert!(!answer_to_xml::<DescribeNetworkInterfaceAttribute>("r", &described).contains("groupSet"));
}
