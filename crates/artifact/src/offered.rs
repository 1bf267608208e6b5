//! The names of all interfaces that a component may import, and what to say of those that it may not.

use std::fmt;

/// `wasi:config`, whose drafts differ in name only.
pub const CONFIG: &[&str] = &[
    "wasi:config/store@0.2.0-draft",
    "wasi:config/store@0.2.0-draft-2024-09-27",
    "wasi:config/store@0.2.0-rc.1",
    "wasi:config/runtime@0.2.0-draft",
];

/// `wasi:logging`.
pub const LOGGING: &[&str] = &["wasi:logging/logging@0.1.0-draft", "wasi:logging/logging"];

/// `wasi:keyvalue`, but for its batches.
pub const KEYVALUE: &[&str] = &[
    "wasi:keyvalue/store@0.2.0-draft",
    "wasi:keyvalue/atomics@0.2.0-draft",
    "wasi:keyvalue/store@0.2.0-draft2",
    "wasi:keyvalue/atomics@0.2.0-draft2",
];

/// Its batches, whose shape is that of the component.
pub const KEYVALUE_BATCH: &[&str] = &["wasi:keyvalue/batch@0.2.0-draft", "wasi:keyvalue/batch@0.2.0-draft2"];

/// WASI interfaces of version 0.2; any 0.2.x is compatible with any other.
pub const WASI_0_2: &[&str] = &[
    "wasi:cli/environment",
    "wasi:cli/exit",
    "wasi:cli/stderr",
    "wasi:cli/stdin",
    "wasi:cli/stdout",
    "wasi:cli/terminal-input",
    "wasi:cli/terminal-output",
    "wasi:cli/terminal-stderr",
    "wasi:cli/terminal-stdin",
    "wasi:cli/terminal-stdout",
    "wasi:clocks/monotonic-clock",
    "wasi:clocks/wall-clock",
    "wasi:filesystem/preopens",
    "wasi:filesystem/types",
    "wasi:io/error",
    "wasi:io/poll",
    "wasi:io/streams",
    "wasi:random/insecure",
    "wasi:random/insecure-seed",
    "wasi:random/random",
    "wasi:sockets/instance-network",
    "wasi:sockets/ip-name-lookup",
    "wasi:sockets/network",
    "wasi:sockets/tcp",
    "wasi:sockets/tcp-create-socket",
    "wasi:sockets/udp",
    "wasi:sockets/udp-create-socket",
];

/// Interfaces that were published as drafts: each name with its very version.
const DRAFTS: &[&[&str]] = &[CONFIG, LOGGING, KEYVALUE, KEYVALUE_BATCH];

/// Whether a component may import that.
pub fn is_offered(import: &str) -> bool {
    if DRAFTS.iter().any(|names| names.contains(&import)) {
        return true;
    }
    match import.split_once('@') {
        Some((interface, version)) => is_wasi_0_2(version) && WASI_0_2.contains(&interface),
        None => false,
    }
}

/// Whether that is a release of WASI 0.2, and no draft of one.
pub fn is_wasi_0_2(version: &str) -> bool {
    let Some(patch) = version.strip_prefix("0.2.") else { return false };
    // Build data after a `+` says nothing about compatibility.
    let patch = patch.split_once('+').map_or(patch, |(patch, _)| patch);
    !patch.is_empty() && patch.bytes().all(|byte| byte.is_ascii_digit())
}

/// An import that is not offered, as a user should read it: its name and what to do.
#[derive(Debug)]
pub struct Missing<'a>(pub &'a str);

impl Missing<'_> {
    fn hint(&self) -> &'static str {
        let (interface, version) = self.0.split_once('@').unwrap_or((self.0, ""));
        let package = interface.split_once('/').map_or(interface, |(package, _)| package);
        match package {
            "wasi:http" => "HTTP is not offered by this version",
            "wasi:messaging" | "wasmcloud:messaging" => "messaging is not offered by this version",
            "wasi:blobstore" => "files and blobs are not offered; wasi:keyvalue is",
            "wasi:nn" | "wasi:webgpu" => "no device is offered to guests",
            "wasi:keyvalue" => {
                "offered are store, atomics and batch of wasi:keyvalue@0.2.0-draft and @0.2.0-draft2"
            }
            "wasi:config" => "offered is wasi:config/store@0.2.0-rc.1",
            "wasi:logging" => "offered is wasi:logging/logging@0.1.0-draft",
            _ if package.starts_with("wasi:") && version.starts_with("0.3") => {
                "this component targets WASI 0.3; build it for 0.2"
            }
            _ if package.starts_with("wasi:") && version.starts_with("0.2.0-") => {
                "this is a draft of WASI 0.2; rebuild with tools that target the release"
            }
            _ if package.starts_with("wasi:") => "no such interface is in WASI 0.2",
            _ => "compose the component with one that exports it, or build it without",
        }
    }
}

impl fmt::Display for Missing<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.0, self.hint())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_go_by_wasmtimes_rule() {
        for good in
            ["wasi:cli/exit@0.2.0", "wasi:cli/exit@0.2.6", "wasi:io/poll@0.2.99", "wasi:io/poll@0.2.1+x"]
        {
            assert!(is_offered(good), "{good}");
        }
        for bad in
            ["wasi:cli/exit", "wasi:cli/exit@0.3.0", "wasi:cli/exit@0.2.0-rc-2023-11-10", "wasi:cli/x@0.2.0"]
        {
            assert!(!is_offered(bad), "{bad}");
        }
        assert!(is_offered("wasi:logging/logging@0.1.0-draft"));
        assert!(!is_offered("wasi:logging/logging@0.1.0"));
    }
}
