//! A real DNS server for the zone `test`, whose names change under load.

use std::{
    collections::BTreeMap,
    fmt::Write,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use nix::sys::signal::Signal;

use super::{Folder, Port, Process, bounded::wait_until};

/// dnsmasq on a port of its own. Whatever ends with `.test` and has no record does not exist.
pub struct Dnsmasq {
    folder: Folder,
    port: Port,
    ttl: u32,
    addresses: BTreeMap<String, Vec<IpAddr>>,
    /// Lines `srv-host=`.
    services: Vec<String>,
    /// None: it is down.
    process: Option<Process>,
}

impl Dnsmasq {
    /// Its records live for `ttl` seconds.
    #[track_caller]
    pub fn start(ttl: u32) -> Self {
        let (folder, port) = (Folder::new(), Port::free());
        let (addresses, services) = (BTreeMap::new(), Vec::new());
        let mut server = Self { folder, port, ttl, addresses, services, process: None };
        server.up();
        server
    }

    pub fn address(&self) -> SocketAddr {
        self.port.address()
    }

    /// From now on a name has these addresses; without any it does not exist.
    #[track_caller]
    pub fn set(&mut self, name: &str, addresses: &[IpAddr]) {
        self.addresses.insert(name.to_owned(), addresses.to_vec());
        self.write_hosts();
        if let Some(process) = &self.process {
            let before = self.readings();
            process.signal(Signal::SIGHUP);
            wait_until("dnsmasq has read its names", || self.readings() > before);
        }
    }

    /// From now on a service has these targets: priority, weight, port, name. It is down for a moment meanwhile.
    #[track_caller]
    pub fn set_services(&mut self, name: &str, targets: &[(u16, u16, u16, &str)]) {
        self.services.retain(|line| !line.starts_with(&format!("srv-host={name},")));
        for (priority, weight, port, target) in targets {
            self.services.push(format!("srv-host={name},{target},{port},{priority},{weight}"));
        }
        self.down();
        self.up();
    }

    /// Ends it: the kernel refuses what is asked.
    pub fn down(&mut self) {
        self.process = None;
    }

    #[track_caller]
    pub fn up(&mut self) {
        self.write_hosts();
        let hosts = self.folder.join("hosts").display().to_string();
        let (port, ttl, services) = (self.port.number(), self.ttl, self.services.join("\n"));
        let text = format!(
            "port={port}\nlisten-address=127.0.0.1\nbind-interfaces\nuser=root\nno-resolv\nno-hosts\nno-poll\n\
             addn-hosts={hosts}\nlocal=/test/\nlocal-ttl={ttl}\nlog-facility=-\n{services}\n"
        );
        let file = self.folder.write("dnsmasq.conf", &text).display().to_string();
        let arguments = ["--keep-in-foreground", &format!("--conf-file={file}"), "--pid-file"];
        let mut process = Process::start(&self.folder, "dnsmasq.log", "dnsmasq", arguments);
        process.wait_ready(&self.folder, || self.readings() > 0);
        self.process = Some(process);
    }

    /// It hears nothing and answers nothing until [`Self::thaw`].
    #[track_caller]
    pub fn freeze(&self) {
        self.process.as_ref().expect("it is up").signal(Signal::SIGSTOP);
    }

    #[track_caller]
    pub fn thaw(&self) {
        self.process.as_ref().expect("it is up").signal(Signal::SIGCONT);
    }

    fn write_hosts(&self) {
        let mut text = String::new();
        for (name, addresses) in &self.addresses {
            for address in addresses {
                writeln!(text, "{address} {name}").expect("write to a String");
            }
        }
        self.folder.write("hosts", &text);
    }

    /// How often it has read its names since it started.
    fn readings(&self) -> usize {
        let read = format!("read {}", self.folder.join("hosts").display());
        self.folder.read("dnsmasq.log").matches(&read).count()
    }
}
