//! What a certificate's holder may be to the system, and the one URI by which a certificate says so.
//!
//! ```text
//! wasmatrix://role/admin            a person or program that may do everything
//! wasmatrix://role/operator         one that may change what runs
//! wasmatrix://role/viewer           one that may look
//! wasmatrix://node/NODE_ID          the node of that name
//! wasmatrix://control-plane         the control plane
//! ```

use std::{fmt, str::FromStr};

use wasmatrix_model::NodeId;

const SCHEME: &str = "wasmatrix://";

/// What the holder of a certificate is.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    /// May do everything, cluster changes included.
    Admin,
    /// May change what runs.
    Operator,
    /// May look and change nothing.
    Viewer,
    /// The node of that name, and no other.
    Node(NodeId),
    /// The control plane.
    ControlPlane,
}

impl Role {
    /// The URI that a certificate carries as its one URI among the subject's alternative names.
    pub fn uri(&self) -> String {
        match self {
            Self::Admin => format!("{SCHEME}role/admin"),
            Self::Operator => format!("{SCHEME}role/operator"),
            Self::Viewer => format!("{SCHEME}role/viewer"),
            Self::Node(id) => format!("{SCHEME}node/{id}"),
            Self::ControlPlane => format!("{SCHEME}control-plane"),
        }
    }

    /// Reads what [`Role::uri`] writes.
    ///
    /// # Errors
    /// The URI names no role, which the message says with the URI, cut to a line's length.
    pub fn from_uri(uri: &str) -> Result<Self, UnknownRole> {
        let unknown = || UnknownRole(uri.chars().take(120).collect());
        match uri.strip_prefix(SCHEME).ok_or_else(unknown)? {
            "role/admin" => Ok(Self::Admin),
            "role/operator" => Ok(Self::Operator),
            "role/viewer" => Ok(Self::Viewer),
            "control-plane" => Ok(Self::ControlPlane),
            other => {
                let id = other.strip_prefix("node/").ok_or_else(unknown)?;
                id.parse().map(Self::Node).map_err(|_| unknown())
            }
        }
    }

    /// Whether its holder answers connections, and not only makes them.
    pub fn serves(&self) -> bool {
        matches!(self, Self::Node(_) | Self::ControlPlane)
    }
}

impl fmt::Display for Role {
    /// As a user says it: `admin`, `node worker-1`, `control plane`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Admin => f.write_str("admin"),
            Self::Operator => f.write_str("operator"),
            Self::Viewer => f.write_str("viewer"),
            Self::Node(id) => write!(f, "node {id}"),
            Self::ControlPlane => f.write_str("control plane"),
        }
    }
}

impl FromStr for Role {
    type Err = UnknownRole;

    /// Reads what a user types: `admin`, `operator`, `viewer`, `control-plane`, `node/NODE_ID`.
    fn from_str(text: &str) -> Result<Self, UnknownRole> {
        match text {
            "admin" | "operator" | "viewer" => Self::from_uri(&format!("{SCHEME}role/{text}")),
            _ => Self::from_uri(&format!("{SCHEME}{text}")),
        }
        .map_err(|_| UnknownRole(text.chars().take(120).collect()))
    }
}

/// Text that names no role.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no role: there are admin, operator, viewer, node/NODE_ID and control-plane")]
pub struct UnknownRole(String);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_reads_back_as_itself() {
        let node = Role::Node("worker-1".parse().unwrap());
        for role in [Role::Admin, Role::Operator, Role::Viewer, node, Role::ControlPlane] {
            assert_eq!(Role::from_uri(&role.uri()), Ok(role));
        }
        assert_eq!("node/worker-1".parse(), Ok(Role::Node("worker-1".parse().unwrap())));
        assert_eq!("control-plane".parse(), Ok(Role::ControlPlane));
    }

    #[test]
    fn what_is_almost_a_role_is_none() {
        for uri in [
            "",
            "wasmatrix://",
            "wasmatrix://role/Admin",
            "wasmatrix://role/admin/",
            "wasmatrix://role/admin?x",
            "wasmatrix://node/",
            "wasmatrix://node/A",
            "wasmatrix://node/a/b",
            "WASMATRIX://control-plane",
            "spiffe://role/admin",
        ] {
            assert!(Role::from_uri(uri).is_err(), "{uri}");
        }
    }
}
