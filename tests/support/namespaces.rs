//! Two network namespaces with a thin and lossy cable between them: one for a gateway, one for the cloud.
//!
//! Invariant: nothing outside of them is touched, and both are gone when the handle is dropped.

use std::{
    fs::File,
    net::{Ipv4Addr, TcpListener},
    process::{Command, Output},
    thread,
};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// Where the cloud is; only its own namespace knows this address.
pub const CLOUD: Ipv4Addr = Ipv4Addr::new(10, 213, 0, 2);
const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 213, 0, 1);

/// A pair of namespaces.
pub struct Namespaces {
    gateway: String,
    cloud: String,
}

impl Namespaces {
    /// A new pair; why not, where this process may not make one.
    pub fn new() -> Result<Self, String> {
        let id = std::process::id();
        let pair = Self { gateway: format!("hw-{id}-gateway"), cloud: format!("hw-{id}-cloud") };
        let (gateway, cloud) = (&pair.gateway, &pair.cloud);
        run(&["ip", "netns", "add", gateway])?;
        run(&["ip", "netns", "add", cloud])?;
        run(&["ip", "-n", gateway, "link", "add", "up0", "type", "veth", "peer", "name", "down0", "netns", cloud])?;
        for (name, link, address) in [(gateway, "up0", GATEWAY), (cloud, "down0", CLOUD)] {
            run(&["ip", "-n", name, "address", "add", &format!("{address}/24"), "dev", link])?;
            run(&["ip", "-n", name, "link", "set", link, "up"])?;
            run(&["ip", "-n", name, "link", "set", "lo", "up"])?;
        }
        Ok(pair)
    }

    /// Both directions carry so many kilobits a second, and lose so many packets of a hundred.
    pub fn is_thin(&self, kbit: u32, percent: u32) -> Result<(), String> {
        let rate = format!("{kbit}kbit");
        for (name, link) in [(&self.gateway, "up0"), (&self.cloud, "down0")] {
            let shape =
                ["tc", "-n", name, "qdisc", "add", "dev", link, "root", "tbf", "rate", &rate, "burst", "4kb", "latency", "2s"];
            run(&shape)?;
            let lose = format!("numgen random mod 100 < {percent} drop");
            for rule in [
                "add table ip hw".to_owned(),
                "add chain ip hw in { type filter hook input priority 0 ; }".to_owned(),
                format!("add rule ip hw in iifname {link} {lose}"),
            ] {
                run(&["ip", "netns", "exec", name, "nft", &rule])?;
            }
        }
        Ok(())
    }

    /// What a program is started with to be the gateway's.
    pub fn prefix(&self) -> Vec<String> {
        ["ip", "netns", "exec", &self.gateway].map(str::to_owned).to_vec()
    }

    /// Listens at [`CLOUD`]. A socket stays where it was made, whoever uses it.
    pub fn listens(&self) -> TcpListener {
        let namespace = File::open(format!("/run/netns/{}", self.cloud)).expect("the namespace is there");
        let listening = thread::spawn(move || {
            move_into_link_name_space(std::os::fd::AsFd::as_fd(&namespace), Some(LinkNameSpaceType::Network))?;
            TcpListener::bind((CLOUD, 0)).map_err(|error| rustix::io::Errno::from_io_error(&error).unwrap_or(rustix::io::Errno::IO))
        });
        listening.join().expect("it does not panic").expect("who made the namespace may enter it")
    }
}

impl Drop for Namespaces {
    fn drop(&mut self) {
        for name in [&self.gateway, &self.cloud] {
            let _ = run(&["ip", "netns", "delete", name]);
        }
    }
}

fn run(command: &[&str]) -> Result<(), String> {
    let ended = Command::new(command[0]).args(&command[1..]).output();
    match ended {
        Ok(Output { status, .. }) if status.success() => Ok(()),
        Ok(Output { stderr, .. }) => Err(format!("{}: {}", command.join(" "), String::from_utf8_lossy(&stderr).trim())),
        Err(error) => Err(format!("{}: {error}", command.join(" "))),
    }
}
