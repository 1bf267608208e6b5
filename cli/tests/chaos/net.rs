//! A network of the test's own: a namespace for each machine, wires into a bridge, and what can befall a wire.
//!
//! ```text
//!  control ─┐
//!  node-a  ─┤
//!  node-b  ─┼── bridge, in a namespace of its own        10.77.0.0/24, known to nobody else
//!  node-c  ─┤
//!  users   ─┘
//! ```
//!
//! The namespaces bear the id of this process in their names. They go with the value; what a run left behind that was
//! killed goes when the next one begins.

use std::{ffi::OsStr, fs::File, os::fd::AsFd as _, path::Path, process::Command};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// How the namespaces of every run of this test begin.
const PREFIX: &str = "wasmatrix-chaos-";
/// Where iproute2 keeps namespaces that have names.
const NAMESPACES: &str = "/run/netns";
/// So slow that nothing comes through: the first packet is larger than what may pass at once.
const DEAD: &[&str] = &["root", "tbf", "rate", "8bit", "burst", "1", "latency", "1ms"];

/// A machine of the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Machine {
    Control,
    Node(usize),
    Users,
}

/// Which way is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// None hears the other, and nobody is told.
    Both,
    /// The machine hears nobody; what it says arrives.
    In,
    /// Nobody hears the machine; what is said arrives there.
    Out,
}

/// See the module's head.
#[derive(Debug)]
pub(crate) struct Net {
    prefix: String,
    machines: Vec<Machine>,
    /// Whether the kernel can close one way of a wire. If not, both are.
    one_way: bool,
}

impl Machine {
    fn name(self) -> String {
        match self {
            Self::Control => "control".to_owned(),
            Self::Node(number) => format!("n{number}"),
            Self::Users => "users".to_owned(),
        }
    }

    /// Its address on the network.
    pub(crate) fn address(self) -> String {
        let last = match self {
            Self::Control => 1,
            Self::Users => 2,
            Self::Node(number) => 11 + number,
        };
        format!("10.77.0.{last}")
    }
}

/// Whether networks can be made here; if not, why.
pub(crate) fn is_possible() -> Result<(), String> {
    if !rustix::process::geteuid().is_root() {
        return Err("network namespaces are root's to make".to_owned());
    }
    for (program, flag) in [("ip", "-V"), ("tc", "-V")] {
        let found = Command::new(program).arg(flag).output().is_ok_and(|output| output.status.success());
        if !found {
            return Err(format!("there is no `{program}`: install iproute2"));
        }
    }
    let probe = format!("{PREFIX}{}-probe", std::process::id());
    let made = try_ip(&["netns", "add", &probe]);
    let _ = try_ip(&["netns", "del", &probe]); // there is none if it could not be made
    made
}

impl Net {
    /// Lays it, for the control plane, so many nodes, and users.
    pub(crate) fn lay(nodes: usize) -> Self {
        sweep();
        let mut machines = vec![Machine::Control, Machine::Users];
        machines.extend((0..nodes).map(Machine::Node));
        let prefix = format!("{PREFIX}{}", std::process::id());
        let mut net = Self { prefix, machines, one_way: false };
        let bridge = net.bridge();
        ip(&["netns", "add", &bridge]);
        ip(&["-n", &bridge, "link", "add", "br0", "type", "bridge"]);
        ip(&["-n", &bridge, "link", "set", "br0", "up"]);
        for machine in &net.machines {
            let (namespace, wire) = (net.namespace(*machine), machine.name());
            ip(&["netns", "add", &namespace]);
            let ends = ["link", "add", &wire, "type", "veth", "peer", "name", "eth0", "netns", &namespace];
            ip(&[&["-n", &bridge], &ends[..]].concat());
            ip(&["-n", &bridge, "link", "set", &wire, "master", "br0", "up"]);
            let address = format!("{}/24", machine.address());
            ip(&["-n", &namespace, "addr", "add", &address, "dev", "eth0"]);
            ip(&["-n", &namespace, "link", "set", "eth0", "up"]);
            ip(&["-n", &namespace, "link", "set", "lo", "up"]);
        }
        let tried = said("tc", &[&["-n", &bridge, "qdisc", "add", "dev", "br0"], DEAD].concat());
        net.one_way = tried.map_err(|why| eprintln!("wires are cut both ways only: {why}")).is_ok();
        net
    }

    fn possible(&self, way: Way) -> Way {
        if self.one_way { way } else { Way::Both }
    }

    fn namespace(&self, machine: Machine) -> String {
        format!("{}-{}", self.prefix, machine.name())
    }

    fn bridge(&self) -> String {
        format!("{}-bridge", self.prefix)
    }

    /// A program as that machine runs it.
    pub(crate) fn command(&self, machine: Machine, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.namespace(machine)]).arg(program);
        command
    }

    /// Lets this thread, and all that it begins, be on that machine from now on.
    pub(crate) fn enter(&self, machine: Machine) {
        let path = Path::new(NAMESPACES).join(self.namespace(machine));
        let namespace = File::open(&path).expect("it was just made");
        move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
            .expect("root may enter a namespace");
    }

    /// Closes a machine's wire.
    pub(crate) fn close(&self, machine: Machine, way: Way) {
        let (bridge, wire) = (self.bridge(), machine.name());
        match self.possible(way) {
            // At the far end, so that the machine notices nothing but silence.
            Way::Both => ip(&["-n", &bridge, "link", "set", &wire, "down"]),
            Way::In => tc(&[&["-n", &bridge, "qdisc", "add", "dev", &wire], DEAD].concat()),
            Way::Out => {
                let namespace = self.namespace(machine);
                tc(&[&["-n", &namespace, "qdisc", "add", "dev", "eth0"], DEAD].concat());
            }
        }
    }

    /// Opens it again.
    pub(crate) fn open(&self, machine: Machine, way: Way) {
        let (bridge, wire) = (self.bridge(), machine.name());
        match self.possible(way) {
            Way::Both => ip(&["-n", &bridge, "link", "set", &wire, "up"]),
            Way::In => tc(&["-n", &bridge, "qdisc", "del", "dev", &wire, "root"]),
            Way::Out => tc(&["-n", &self.namespace(machine), "qdisc", "del", "dev", "eth0", "root"]),
        }
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        for namespace in self.machines.iter().map(|machine| self.namespace(*machine)).chain([self.bridge()]) {
            // The test may have failed while it was being laid.
            let _ = try_ip(&["netns", "del", &namespace]);
        }
    }
}

fn ip(arguments: &[&str]) {
    if let Err(problem) = try_ip(arguments) {
        panic!("{problem}");
    }
}

fn try_ip(arguments: &[&str]) -> Result<(), String> {
    said("ip", arguments).map(drop)
}

fn tc(arguments: &[&str]) {
    if let Err(problem) = said("tc", arguments) {
        panic!("{problem}");
    }
}

fn said(program: &str, arguments: &[&str]) -> Result<String, String> {
    let shown = || format!("{program} {}", arguments.join(" "));
    let output =
        Command::new(program).args(arguments).output().map_err(|error| format!("{}: {error}", shown()))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(format!("{}: {}", shown(), String::from_utf8_lossy(&output.stderr).trim()))
}

/// Removes what runs left behind whose process is no more: their namespaces, and what still runs in these.
fn sweep() {
    let Ok(entries) = std::fs::read_dir(NAMESPACES) else { return };
    let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    for name in names.filter(|name| name.strip_prefix(PREFIX).is_some_and(is_of_the_dead)) {
        for pid in said("ip", &["netns", "pids", &name]).unwrap_or_default().split_whitespace() {
            if let Some(pid) = pid.parse().ok().and_then(rustix::process::Pid::from_raw) {
                // It may just have ended.
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            }
        }
        let _ = try_ip(&["netns", "del", &name]); // another run may sweep too
    }
}

/// Whether the rest of a namespace's name is of a process that is no more.
fn is_of_the_dead(rest: &str) -> bool {
    let pid = rest.split('-').next().and_then(|pid| pid.parse::<u32>().ok());
    pid.is_some_and(|pid| !Path::new("/proc").join(pid.to_string()).exists())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_dead_left_is_swept() {
        assert!(!is_of_the_dead(&format!("{}-n0", std::process::id())));
        // Larger than any process id may be.
        assert!(is_of_the_dead("4194305-n0"));
        assert!(!is_of_the_dead("nobody-n0"));
    }
}
