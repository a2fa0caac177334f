//! Hosts with networks of their own behind a router, whose routes can be taken away: a packet to such a host then is
//! dropped without a word.

use std::{
    net::{IpAddr, Ipv4Addr},
    process::Command,
};

use super::{Folder, Process};

/// Stands in the network of the test, which must be its own: [`super::in_own_network`].
pub struct Router {
    folder: Folder,
    namespace: Process,
    hosts: u8,
}

/// One host. It may outlive neither the router nor the test's network.
pub struct Host {
    namespace: Process,
    address: IpAddr,
    router: u32,
}

/// Which packets get lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lost {
    /// Those to the host.
    Towards,
    /// Those that it sends: it hears everything, and its answers do not arrive.
    Answers,
    Both,
}

impl Router {
    #[track_caller]
    pub fn new() -> Self {
        let folder = Folder::new();
        let namespace = Process::start(&folder, "router.log", "unshare", ["--net", "--", "sleep", "600"]);
        let pid = namespace.pid();
        wait_for_namespace(pid);
        link("router", None, "10.77.0.1", pid, "10.77.0.254");
        inside(pid, "echo 1 > /proc/sys/net/ipv4/ip_forward");
        here("ip route add 10.77.0.0/16 via 10.77.0.254");
        Self { folder, namespace, hosts: 0 }
    }

    /// One more host: 10.77.1.2, 10.77.2.2, ...
    #[track_caller]
    pub fn host(&mut self) -> Host {
        self.hosts += 1;
        let (number, router) = (self.hosts, self.namespace.pid());
        let namespace =
            Process::start(&self.folder, &format!("host{number}.log"), "unshare", ["--net", "--", "sleep", "600"]);
        let pid = namespace.pid();
        wait_for_namespace(pid);
        let [gateway, own] = [format!("10.77.{number}.1"), format!("10.77.{number}.2")];
        link(&format!("host{number}"), Some(router), &gateway, pid, &own);
        inside(pid, &format!("ip route add default via {gateway}"));
        Host { namespace, address: IpAddr::from(Ipv4Addr::new(10, 77, number, 2)), router }
    }
}

impl Drop for Router {
    /// The test's network is as it was before.
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["link", "delete", "routera"]).output();
    }
}

impl Host {
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// A process of its network.
    pub fn pid(&self) -> u32 {
        self.namespace.pid()
    }

    /// From now on.
    #[track_caller]
    pub fn lose(&self, lost: Lost) {
        self.change("add", lost);
    }

    /// No longer.
    #[track_caller]
    pub fn find(&self, lost: Lost) {
        self.change("del", lost);
    }

    #[track_caller]
    fn change(&self, verb: &str, lost: Lost) {
        let address = self.address;
        if lost != Lost::Answers {
            inside(self.router, &format!("ip route {verb} blackhole {address}/32"));
        }
        if lost != Lost::Towards {
            inside(self.router, &format!("ip rule {verb} from {address} blackhole"));
        }
    }
}

/// Joins two networks; `near` is the network of a process, or the test's.
#[track_caller]
fn link(name: &str, near: Option<u32>, near_address: &str, far: u32, far_address: &str) {
    here(&format!("ip link add {name}a type veth peer name {name}b && ip link set {name}b netns {far}"));
    let set = |address: &str, end: &str| {
        format!("ip link set lo up && ip addr add {address}/24 dev {name}{end} && ip link set {name}{end} up")
    };
    match near {
        None => here(&set(near_address, "a")),
        Some(near) => {
            here(&format!("ip link set {name}a netns {near}"));
            inside(near, &set(near_address, "a"));
        }
    }
    inside(far, &set(far_address, "b"));
}

/// Until it has left the test's network.
#[track_caller]
fn wait_for_namespace(pid: u32) {
    let network = |pid: &str| std::fs::read_link(format!("/proc/{pid}/ns/net")).ok();
    let own = network("self");
    super::wait_until("a network namespace is there", || {
        network(&pid.to_string()).is_some_and(|other| Some(other) != own)
    });
}

#[track_caller]
fn here(command: &str) {
    run(Command::new("sh").args(["-c", command]), command);
}

#[track_caller]
fn inside(pid: u32, command: &str) {
    run(Command::new("nsenter").args(["-t", &pid.to_string(), "-n", "--", "sh", "-c", command]), command);
}

#[track_caller]
fn run(command: &mut Command, words: &str) {
    let output = command.output().expect("iproute2 and util-linux");
    assert!(output.status.success(), "{words}: {}", String::from_utf8_lossy(&output.stderr));
}
