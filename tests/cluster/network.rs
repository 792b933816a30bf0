//! The addresses of a local cluster, and the cables between its namespaces and the machine.
//!
//! ```text
//!   machine            control namespace                     node namespaces
//!   10.x.0.1           br0 10.x.0.2  (API server, DNS)       10.x.0.11 … eth0
//!   warren-<index> ──── host0 ┐                        ┌──── node-1 ── eth0, pods 10.x.65.0/24
//!                             └───────── br0 ──────────┴──── node-2 ── eth0, pods 10.x.66.0/24
//! ```
//!
//! The machine gets one interface and the routes of one `10.x.0.0/16`; all of it goes when the namespaces end.

use std::net::Ipv4Addr;
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use super::namespace::Namespace;
use crate::command::output_of;

/// Which addresses a cluster uses. Clusters on one machine differ in their index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct AddressPlan {
    index: u8,
}

/// A route of the machine, as `ip -json route` prints it.
#[derive(Debug, Deserialize)]
struct Route {
    #[serde(default)]
    dst: String,
}

impl AddressPlan {
    /// Second byte of the addresses of the cluster with index 0.
    const FIRST: u8 = 128;
    /// How many clusters there can be on a machine.
    const COUNT: u8 = 96;

    /// The plan with this index, below [`Self::COUNT`].
    pub(super) fn new(index: u8) -> Option<Self> {
        (index < Self::COUNT).then_some(Self { index })
    }

    /// The first plan that is not in `taken` and that no route of the machine overlaps.
    pub(super) fn free(taken: &[u8]) -> Result<Self> {
        let printed = output_of(Command::new("ip").args(["-json", "-4", "route", "show", "table", "all"]))?;
        let routes: Vec<Route> = serde_json::from_str(&printed).context("read the routes of the machine")?;
        Self::first_free(taken, &routes)
            .context("every 10.128-223.0.0/16 is in use on this machine; take some cluster down")
    }

    fn first_free(taken: &[u8], routes: &[Route]) -> Option<Self> {
        let mut plans = (0..Self::COUNT).map(|index| Self { index });
        plans.find(|plan| !taken.contains(&plan.index) && !routes.iter().any(|route| plan.overlaps(&route.dst)))
    }

    /// Whether the destination of a route lies in these addresses or covers them. One that covers all of 10.0.0.0/8 does
    /// not count: ours are more exact and win.
    fn overlaps(self, destination: &str) -> bool {
        let (address, bits) = destination.split_once('/').unwrap_or((destination, "32"));
        let (Ok(address), Ok(bits)) = (address.parse::<Ipv4Addr>(), bits.parse::<u32>()) else {
            return false;
        };
        let shift = 32_u32.saturating_sub(bits.min(16));
        bits > 8 && u32::from(address).checked_shr(shift) == u32::from(self.host()).checked_shr(shift)
    }

    pub(super) fn index(self) -> u8 {
        self.index
    }

    /// The machine, seen from the cluster.
    pub(super) fn host(self) -> Ipv4Addr {
        self.address(0, 1)
    }

    /// The API server and the DNS server.
    pub(super) fn control(self) -> Ipv4Addr {
        self.address(0, 2)
    }

    /// A node; the first has number 1.
    pub(super) fn node(self, number: u8) -> Ipv4Addr {
        self.address(0, 10 + number)
    }

    /// The pods of a node.
    pub(super) fn pods_of(self, number: u8) -> String {
        format!("{}/24", self.address(64 + number, 0))
    }

    /// The pods of all nodes.
    pub(super) fn pods(self) -> String {
        format!("{}/18", self.address(64, 0))
    }

    /// Virtual addresses of Services.
    pub(super) fn services(self) -> String {
        format!("{}/20", self.address(128, 0))
    }

    /// The Service `kubernetes`: always the first address.
    pub(super) fn kubernetes_service(self) -> Ipv4Addr {
        self.address(128, 1)
    }

    /// The Service `kube-dns`.
    pub(super) fn dns_service(self) -> Ipv4Addr {
        self.address(128, 10)
    }

    /// Name of the machine's end of the cable.
    pub(super) fn host_interface(self) -> String {
        format!("warren-{}", self.index)
    }

    fn address(self, third: u8, fourth: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, Self::FIRST + self.index, third, fourth)
    }
}

/// Connects the control namespace to the machine.
pub(super) fn connect_control(plan: AddressPlan, control: &Namespace) -> Result<()> {
    control.ip(&["link", "set", "lo", "up"])?;
    control.ip(&["link", "add", "br0", "type", "bridge"])?;
    control.ip(&["address", "add", &format!("{}/24", plan.control()), "dev", "br0"])?;
    control.ip(&["link", "set", "br0", "up"])?;
    let host = plan.host_interface();
    let peer = control.pid().to_string();
    ip(&["link", "add", &host, "type", "veth", "peer", "name", "host0", "netns", &peer])?;
    control.ip(&["link", "set", "host0", "master", "br0", "up"])?;
    ip(&["address", "add", &format!("{}/24", plan.host()), "dev", &host])?;
    ip(&["link", "set", &host, "up"])
}

/// Connects a node to the control namespace, and makes its pods reachable from the other nodes given and from the machine.
pub(super) fn connect_node(
    plan: AddressPlan,
    control: &Namespace,
    node: &Namespace,
    number: u8,
    nodes: u8,
) -> Result<()> {
    let (address, name, peer) = (plan.node(number).to_string(), format!("node-{number}"), node.pid().to_string());
    control.ip(&["link", "add", &name, "type", "veth", "peer", "name", "eth0", "netns", &peer])?;
    control.ip(&["link", "set", &name, "master", "br0", "up"])?;
    node.ip(&["link", "set", "lo", "up"])?;
    node.ip(&["address", "add", &format!("{address}/24"), "dev", "eth0"])?;
    node.ip(&["link", "set", "eth0", "up"])?;
    node.run(&["sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward"])?;
    for other in (1..=nodes).filter(|other| *other != number) {
        node.ip(&["route", "add", &plan.pods_of(other), "via", &plan.node(other).to_string()])?;
    }
    control.ip(&["route", "add", &plan.pods_of(number), "via", &address])?;
    ip(&["route", "add", &plan.pods_of(number), "via", &address])?;
    if number == 1 {
        ip(&["route", "add", &plan.services(), "via", &address])?;
    }
    Ok(())
}

/// Whether the machine's end of the cable is there.
pub(super) fn is_connected(plan: AddressPlan) -> bool {
    std::path::Path::new("/sys/class/net").join(plan.host_interface()).exists()
}

/// Removes the machine's end of the cable, and with it the other end and the routes.
pub(super) fn disconnect(plan: AddressPlan) -> Result<()> {
    if is_connected(plan) && ip(&["link", "delete", &plan.host_interface()]).is_err() && is_connected(plan) {
        bail!("cannot remove the interface {}", plan.host_interface());
    }
    Ok(())
}

fn ip(arguments: &[&str]) -> Result<()> {
    output_of(Command::new("ip").args(arguments)).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(dst: &str) -> Route {
        Route { dst: dst.to_owned() }
    }

    #[test]
    fn addresses_of_the_parts_do_not_overlap() {
        let plan = AddressPlan::new(3).unwrap();
        assert_eq!(plan.host(), Ipv4Addr::new(10, 131, 0, 1));
        assert_eq!(plan.control(), Ipv4Addr::new(10, 131, 0, 2));
        assert_eq!(plan.node(9), Ipv4Addr::new(10, 131, 0, 19));
        assert_eq!(plan.pods(), "10.131.64.0/18");
        assert_eq!(plan.pods_of(9), "10.131.73.0/24");
        assert_eq!(plan.services(), "10.131.128.0/20");
    }

    #[test]
    fn a_plan_is_free_if_neither_taken_nor_routed() {
        let check = |taken: &[u8], routes: &[Route], expected| {
            assert_eq!(AddressPlan::first_free(taken, routes).map(AddressPlan::index), expected, "{routes:?}");
        };
        check(&[], &[], Some(0));
        check(&[0, 1], &[], Some(2));
        check(&[], &[route("10.128.5.0/24")], Some(1));
        check(&[], &[route("10.128.5.7")], Some(1));
        check(&[1], &[route("10.128.0.0/16")], Some(2));
        check(&[], &[route("10.128.0.0/15")], Some(2));
        check(&[], &[route("default"), route("10.0.0.0/8"), route("192.0.2.0/24")], Some(0));
        check(&(0..AddressPlan::COUNT).collect::<Vec<_>>(), &[], None);
    }

    #[test]
    fn an_interface_name_fits_the_kernels_15_bytes() {
        let last = AddressPlan::new(AddressPlan::COUNT - 1).unwrap();
        assert!(last.host_interface().len() <= 15);
        assert_eq!(AddressPlan::new(AddressPlan::COUNT), None);
    }
}
