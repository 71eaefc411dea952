//! Scene 3: the pods of a node outgrow its first ENI.

use std::time::Duration;

use ipnet::Ipv4Net;
use vpc_hostnet::priority;
use vpc_model::RouteTable;

use super::stage::{Play, SceneError, Stage, address, in_pod, node, open, seen, within};
use crate::capture::Packet;
use crate::control::Place;

pub(super) fn play(stage: &mut Stage) -> Result<(), SceneError> {
    let lab = open(vec![node("node-a", "private-a", &[("WARM_ENI_TARGET", "0")]), node("node-b", "private-b", &[])])?;
    let far = address(&lab.pod("node-b", "far")?)?;
    let place = Place::Node("node-a".to_owned());
    let first = lab.pod("node-a", "pod-1")?;
    for number in 2..=8 {
        lab.pod("node-a", &format!("pod-{number}"))?;
    }
    let before = lab.node_status("node-a")?;
    stage.draw_node(&before);
    stage.same("eight pods, one address free: still one ENI", &before.enis.len(), &1);

    lab.pod("node-a", "pod-9")?;
    let fetched = within(Duration::from_secs(10), || {
        let node = lab.node_status("node-a")?;
        let up = lab.kernel_state(&place)?.links.iter().any(|link| link.name.as_str() == "eth1" && link.up);
        Ok(up && node.enis.len() == 2 && node.enis.iter().all(|eni| eni.secondary.len() == 9))
    })?;
    stage.draw_node(&lab.node_status("node-a")?);
    stage.check("the ninth empties the pool: eth1 is fetched with 9 more, before anybody waits", fetched);

    let tenth = lab.pod("node-a", "pod-10")?;
    let after = lab.node_status("node-a")?;
    stage.draw_node(&after);
    let tenth_address = address(&tenth)?;
    let home = after.enis.iter().find(|eni| eni.secondary.contains(&tenth_address)).and_then(|eni| eni.link.clone());
    stage.same(format!("the tenth pod has {tenth_address}, of eth1"), &home.as_deref(), &Some("eth1"));
    let host = lab.kernel_state(&place)?;
    let whole = Some(Ipv4Net::new_assert(tenth_address, 32));
    let rule = host
        .rules
        .iter()
        .any(|rule| rule.priority == priority::FROM_POD && rule.from == whole && rule.table == RouteTable(2));
    stage.check(format!("rule 1536, from {tenth_address} lookup 2"), rule);
    let default = host
        .routes
        .iter()
        .any(|route| route.table == RouteTable(2) && route.to.prefix_len() == 0 && route.link.as_str() == "eth1");
    stage.check("table 2: default by eth1", default);

    for (name, from, own, other) in
        [("pod-1", address(&first)?, "eth0", "eth1"), ("pod-10", tenth_address, "eth1", "eth0")]
    {
        let captures = (lab.capture(&place, own)?, lab.capture(&place, other)?);
        let answered = lab.reaches(&in_pod("node-a", name)?, far)?;
        stage.draw_path(&[
            format!("{name} {from}"),
            format!("node-a {own}"),
            "fabric".to_owned(),
            format!("far {far}"),
        ]);
        stage.check(format!("{name} reaches {far} on node-b"), answered);
        let leaving = |packet: &Packet| packet.outgoing && packet.is_echo_request() && packet.is_between(from, far);
        let by_own = seen(&captures.0, leaving).is_some();
        let by_other = captures.1.packets().iter().any(leaving);
        stage.check(format!("{name} leaves by {own}, not by {other}"), by_own && !by_other);
    }
    Ok(())
}
