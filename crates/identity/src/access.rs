//! Who may do a thing, as a set of roles that is decided upon purely. Which method needs which set is not said here.

use wasmatrix_model::{NodeId, Timestamp};

use crate::{certificate::Identity, role::Role};

/// A set of roles, and perhaps those without a certificate.
///
/// ```
/// # use wasmatrix_identity::Access;
/// const STOP: Access = Access::OPERATOR; // operators, and admins with them
/// const HEARTBEAT: Access = Access::NODE; // nodes only: not even an admin speaks for one
/// const LIST: Access = Access::VIEWER.or(Access::NODE);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Access(u8);

const ADMIN: u8 = 1;
const OPERATOR: u8 = 2;
const VIEWER: u8 = 4;
const NODE: u8 = 8;
const CONTROL_PLANE: u8 = 16;
const NOBODY: u8 = 32;

impl Access {
    /// Whoever can connect, with or without a certificate.
    pub const ANYONE: Self = Self(NOBODY | ADMIN | OPERATOR | VIEWER | NODE | CONTROL_PLANE);
    /// Whoever has a certificate of this cluster.
    pub const MEMBER: Self = Self(ADMIN | OPERATOR | VIEWER | NODE | CONTROL_PLANE);
    /// Those who may look: viewers, operators, admins.
    pub const VIEWER: Self = Self(ADMIN | OPERATOR | VIEWER);
    /// Those who may change what runs: operators, admins.
    pub const OPERATOR: Self = Self(ADMIN | OPERATOR);
    /// Admins.
    pub const ADMIN: Self = Self(ADMIN);
    /// Nodes. Which node it may speak for is asked of [`Identity::speaks_for`].
    pub const NODE: Self = Self(NODE);
    /// The control plane.
    pub const CONTROL_PLANE: Self = Self(CONTROL_PLANE);

    /// Those of either set.
    #[must_use]
    pub const fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether a request from that peer may pass. `None` is a peer without a certificate.
    ///
    /// # Errors
    /// It may not; the message is fit for the peer and for the log.
    pub fn check(self, peer: Option<&Identity>, now: Timestamp) -> Result<(), Denied> {
        let Some(identity) = peer else {
            return if self.0 & NOBODY != 0 { Ok(()) } else { Err(Denied::NoCertificate { needs: self }) };
        };
        // Even where nobody is asked for a certificate: who shows one that is over has a clock or a renewal to mend.
        if identity.expired(now) {
            return Err(Denied::Expired { since: identity.not_after });
        }
        if self.0 & bit(&identity.role) != 0 {
            Ok(())
        } else {
            Err(Denied::Role { is: identity.role.clone(), needs: self })
        }
    }
}

const fn bit(role: &Role) -> u8 {
    match role {
        Role::Admin => ADMIN,
        Role::Operator => OPERATOR,
        Role::Viewer => VIEWER,
        Role::Node(_) => NODE,
        Role::ControlPlane => CONTROL_PLANE,
    }
}

impl std::fmt::Display for Access {
    /// `operator or admin`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let all = [
            (VIEWER, "viewer"),
            (OPERATOR, "operator"),
            (ADMIN, "admin"),
            (NODE, "node"),
            (CONTROL_PLANE, "control plane"),
            (NOBODY, "anyone"),
        ];
        let names: Vec<&str> =
            all.iter().filter(|(bit, _)| self.0 & bit != 0).map(|(_, name)| *name).collect();
        f.write_str(&names.join(" or "))
    }
}

/// Why a request may not pass.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// The peer showed no certificate.
    #[error("this needs a certificate of role {needs}, and none was shown")]
    NoCertificate {
        /// Who would have passed.
        needs: Access,
    },
    /// The peer's certificate expired after the connection was made.
    #[error("the certificate expired at {since}: renew it and connect again")]
    Expired {
        /// Its last valid second.
        since: Timestamp,
    },
    /// The peer's certificate was revoked after the connection was made.
    #[error("the certificate was revoked")]
    Revoked,
    /// The peer has another role.
    #[error("this needs the role {needs}, and the certificate says {is}")]
    Role {
        /// Who it is.
        is: Role,
        /// Who would have passed.
        needs: Access,
    },
    /// The peer speaks for a node that it is not.
    #[error("the certificate says {is}, which may not speak for node {node}")]
    AnotherNode {
        /// Who it is.
        is: Role,
        /// Whom it spoke for.
        node: NodeId,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::certificate::Fingerprint;

    fn identity(role: Role) -> Identity {
        Identity {
            role,
            name: "x".into(),
            fingerprint: Fingerprint::of(b""),
            serial: "01".into(),
            not_before: Timestamp::from_second(0).unwrap(),
            not_after: Timestamp::from_second(100).unwrap(),
        }
    }

    fn passes(access: Access, role: Role) -> bool {
        access.check(Some(&identity(role)), Timestamp::from_second(50).unwrap()).is_ok()
    }

    #[test]
    fn each_set_lets_its_own_pass_and_nobody_else() {
        let node = || Role::Node("a".parse().unwrap());
        let table = [
            // access, admin, operator, viewer, node, control plane
            (Access::ADMIN, [true, false, false, false, false]),
            (Access::OPERATOR, [true, true, false, false, false]),
            (Access::VIEWER, [true, true, true, false, false]),
            (Access::NODE, [false, false, false, true, false]),
            (Access::CONTROL_PLANE, [false, false, false, false, true]),
            (Access::MEMBER, [true; 5]),
            (Access::ANYONE, [true; 5]),
            (Access::ADMIN.or(Access::NODE), [true, false, false, true, false]),
        ];
        for (access, expected) in table {
            let roles = [Role::Admin, Role::Operator, Role::Viewer, node(), Role::ControlPlane];
            assert_eq!(roles.map(|role| passes(access, role)), expected, "{access}");
            let nobody = access.check(None, Timestamp::from_second(50).unwrap());
            assert_eq!(nobody.is_ok(), access == Access::ANYONE, "{access}");
        }
    }

    #[test]
    fn a_certificate_that_expired_while_the_connection_was_open_opens_nothing() {
        let late = Timestamp::from_second(101).unwrap();
        let denied = Access::ANYONE.check(Some(&identity(Role::Admin)), late);
        assert!(matches!(denied, Err(Denied::Expired { .. })));
        let last = Timestamp::from_millisecond(100_900).unwrap();
        assert!(Access::ADMIN.check(Some(&identity(Role::Admin)), last).is_ok(), "its last second counts");
    }

    #[test]
    fn a_node_speaks_for_itself_only_and_nobody_else_for_it() {
        let (a, b) = ("a".parse().unwrap(), "b".parse().unwrap());
        assert!(identity(Role::Node("a".parse().unwrap())).speaks_for(&a).is_ok());
        assert!(identity(Role::Node("a".parse().unwrap())).speaks_for(&b).is_err());
        assert!(identity(Role::Admin).speaks_for(&a).is_err());
        assert!(identity(Role::ControlPlane).speaks_for(&a).is_err());
    }

    #[test]
    fn a_denial_says_who_it_was_and_who_would_pass() {
        let denied = Access::OPERATOR
            .check(Some(&identity(Role::Viewer)), Timestamp::from_second(1).unwrap())
            .unwrap_err();
        assert_eq!(
            denied.to_string(),
            "this needs the role operator or admin, and the certificate says viewer"
        );
    }
}
