//! What a user asked for, whole and proven.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    Digest, ExecutorKind, Grants, InstanceName, Limits, Placement, RestartPolicy, failure::Invalid,
    grant::GRANTS_MAX,
};

/// Most arguments, environment variables or configuration entries of one instance.
pub const ENTRIES_MAX: usize = 1024;
/// All arguments, environment variables and configuration entries together, in bytes.
pub const ENTRIES_BYTES_MAX: usize = 1 << 20;

/// All that defines an instance. Kept as long as the instance is listed; says nothing of what it does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InstanceSpec {
    /// What the user calls it; also the namespace of its key-value buckets.
    pub name: InstanceName,
    /// Which artifact it runs.
    pub digest: Digest,
    /// Where it runs.
    #[serde(default)]
    pub executor: ExecutorKind,
    /// Its arguments, without the program's name in front.
    #[serde(default)]
    pub args: Vec<String>,
    /// Its environment variables; it sees none of the host's.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// What `wasi:config` tells it.
    #[serde(default)]
    pub config: BTreeMap<String, String>,
    /// What it may do when it starts. What it may do now is in its status.
    #[serde(default)]
    pub grants: Grants,
    /// How much it may use.
    #[serde(default)]
    pub limits: Limits,
    /// When it is started again.
    #[serde(default)]
    pub restart: RestartPolicy,
    /// Which nodes may run it.
    #[serde(default)]
    pub placement: Placement,
}

impl InstanceSpec {
    /// A spec with nothing but defaults: no grants, no arguments, in process, never restarted.
    pub fn new(name: InstanceName, digest: Digest) -> Self {
        Self {
            name,
            digest,
            executor: ExecutorKind::default(),
            args: Vec::new(),
            env: BTreeMap::new(),
            config: BTreeMap::new(),
            grants: Grants::default(),
            limits: Limits::default(),
            restart: RestartPolicy::default(),
            placement: Placement::default(),
        }
    }

    /// Checks what the types of the fields leave open.
    ///
    /// # Errors
    /// The first field that breaks a rule.
    pub fn validate(&self) -> Result<(), Invalid> {
        self.limits.validate().map_err(|invalid| invalid.within("limits"))?;
        self.restart.validate().map_err(|invalid| invalid.within("restart"))?;
        if self.grants.iter().len() > GRANTS_MAX {
            return Err(Invalid::new("grants", format!("an instance holds at most {GRANTS_MAX} grants")));
        }
        entries("args", self.args.iter().map(|arg| ("", arg.as_str())))?;
        entries("env", self.env.iter().map(|(name, value)| (name.as_str(), value.as_str())))?;
        entries("config", self.config.iter().map(|(name, value)| (name.as_str(), value.as_str())))?;
        if let Some(name) = self.env.keys().find(|name| name.is_empty() || name.contains('=')) {
            return Err(Invalid::new("env", format!("`{name}` is no variable's name")));
        }
        self.placement.validate().map_err(|invalid| invalid.within("placement"))
    }
}

fn entries<'a>(field: &str, entries: impl Iterator<Item = (&'a str, &'a str)>) -> Result<(), Invalid> {
    let (mut count, mut bytes) = (0_usize, 0_usize);
    for (name, value) in entries {
        count += 1;
        bytes = bytes.saturating_add(name.len()).saturating_add(value.len());
        if count > ENTRIES_MAX || bytes > ENTRIES_BYTES_MAX {
            return Err(Invalid::new(
                field,
                format!("at most {ENTRIES_MAX} entries of {ENTRIES_BYTES_MAX} bytes together are taken"),
            ));
        }
        if name.contains('\0') || value.contains('\0') {
            return Err(Invalid::new(field, "a NUL byte can't be passed to a guest"));
        }
    }
    Ok(())
}
