//! What happened.

use wasmatrix_model::{Exit, Fact, FactKind, Subject, failure::Invalid};

use crate::{
    field,
    time::{optional_timestamp_from_v1, timestamp_from_v1, timestamp_to_v1},
    v1::{self, fact::Kind},
};

impl From<Fact> for v1::Fact {
    fn from(fact: Fact) -> Self {
        Self {
            seq: fact.seq,
            at: Some(timestamp_to_v1(fact.at)),
            node: fact.node.into(),
            kind: Some(fact.kind.into()),
        }
    }
}

impl TryFrom<v1::Fact> for Fact {
    type Error = Invalid;

    fn try_from(fact: v1::Fact) -> Result<Self, Invalid> {
        Ok(Self {
            seq: fact.seq,
            at: timestamp_from_v1("at", field::required("at", fact.at)?)?,
            node: field::text("node", &fact.node)?,
            kind: field::required("kind", fact.kind)?.try_into()?,
        })
    }
}

impl From<FactKind> for Kind {
    fn from(kind: FactKind) -> Self {
        use v1::fact as wire;
        match kind {
            FactKind::NodeStarted { version } => Self::NodeStarted(wire::NodeStarted { version }),
            FactKind::NodeStopping => Self::NodeStopping(wire::NodeStopping {}),
            FactKind::InstanceCreated { instance, digest, executor } => {
                Self::InstanceCreated(wire::InstanceCreated {
                    instance: Some(instance.into()),
                    digest: digest.into(),
                    executor: v1::ExecutorKind::from(executor).into(),
                })
            }
            FactKind::InstanceStarted { instance, restart_count } => {
                Self::InstanceStarted(wire::InstanceStarted {
                    instance: Some(instance.into()),
                    restart_count,
                })
            }
            FactKind::InstanceStopping { instance } => {
                Self::InstanceStopping(wire::InstanceStopping { instance: Some(instance.into()) })
            }
            FactKind::InstanceStopped { instance, exit, next_restart_at } => {
                Self::InstanceStopped(wire::InstanceStopped {
                    instance: Some(instance.into()),
                    exit: Some(exit.into()),
                    next_restart_at: next_restart_at.map(timestamp_to_v1),
                })
            }
            FactKind::InstanceCrashed { instance, exit, restart_count, next_restart_at } => {
                Self::InstanceCrashed(wire::InstanceCrashed {
                    instance: Some(instance.into()),
                    exit: Some(exit.into()),
                    restart_count,
                    next_restart_at: next_restart_at.map(timestamp_to_v1),
                })
            }
            FactKind::InstanceRestarted { instance, restart_count } => {
                Self::InstanceRestarted(wire::InstanceRestarted {
                    instance: Some(instance.into()),
                    restart_count,
                })
            }
            FactKind::RestartsExhausted { instance, restart_count } => {
                Self::RestartsExhausted(wire::RestartsExhausted {
                    instance: Some(instance.into()),
                    restart_count,
                })
            }
            FactKind::InstanceRemoved { instance } => {
                Self::InstanceRemoved(wire::InstanceRemoved { instance: Some(instance.into()) })
            }
            FactKind::GrantAssigned { instance, grant } => Self::GrantAssigned(wire::GrantAssigned {
                instance: Some(instance.into()),
                grant: grant.into(),
            }),
            FactKind::GrantRevoked { instance, grant } => Self::GrantRevoked(wire::GrantRevoked {
                instance: Some(instance.into()),
                grant: grant.into(),
            }),
            FactKind::CapabilityDenied { instance, operation, permission } => {
                Self::CapabilityDenied(wire::CapabilityDenied {
                    instance: Some(instance.into()),
                    operation,
                    permission,
                })
            }
            FactKind::ProviderStarted { capability } => {
                Self::ProviderStarted(wire::ProviderStarted { capability: capability.to_string() })
            }
            FactKind::ProviderStopped { capability } => {
                Self::ProviderStopped(wire::ProviderStopped { capability: capability.to_string() })
            }
        }
    }
}

impl TryFrom<Kind> for FactKind {
    type Error = Invalid;

    fn try_from(kind: Kind) -> Result<Self, Invalid> {
        Ok(match kind {
            Kind::NodeStarted(fact) => Self::NodeStarted { version: fact.version },
            Kind::NodeStopping(_) => Self::NodeStopping,
            Kind::InstanceCreated(fact) => Self::InstanceCreated {
                instance: subject("instance_created.instance", fact.instance)?,
                digest: field::text("instance_created.digest", &fact.digest)?,
                executor: field::choice::<v1::ExecutorKind, _>("instance_created.executor", fact.executor)?,
            },
            Kind::InstanceStarted(fact) => Self::InstanceStarted {
                instance: subject("instance_started.instance", fact.instance)?,
                restart_count: fact.restart_count,
            },
            Kind::InstanceStopping(fact) => {
                Self::InstanceStopping { instance: subject("instance_stopping.instance", fact.instance)? }
            }
            Kind::InstanceStopped(fact) => Self::InstanceStopped {
                instance: subject("instance_stopped.instance", fact.instance)?,
                exit: exit("instance_stopped.exit", fact.exit)?,
                next_restart_at: optional_timestamp_from_v1(
                    "instance_stopped.next_restart_at",
                    fact.next_restart_at,
                )?,
            },
            Kind::InstanceCrashed(fact) => Self::InstanceCrashed {
                instance: subject("instance_crashed.instance", fact.instance)?,
                exit: exit("instance_crashed.exit", fact.exit)?,
                restart_count: fact.restart_count,
                next_restart_at: optional_timestamp_from_v1(
                    "instance_crashed.next_restart_at",
                    fact.next_restart_at,
                )?,
            },
            Kind::InstanceRestarted(fact) => Self::InstanceRestarted {
                instance: subject("instance_restarted.instance", fact.instance)?,
                restart_count: fact.restart_count,
            },
            Kind::RestartsExhausted(fact) => Self::RestartsExhausted {
                instance: subject("restarts_exhausted.instance", fact.instance)?,
                restart_count: fact.restart_count,
            },
            Kind::InstanceRemoved(fact) => {
                Self::InstanceRemoved { instance: subject("instance_removed.instance", fact.instance)? }
            }
            Kind::GrantAssigned(fact) => Self::GrantAssigned {
                instance: subject("grant_assigned.instance", fact.instance)?,
                grant: field::text("grant_assigned.grant", &fact.grant)?,
            },
            Kind::GrantRevoked(fact) => Self::GrantRevoked {
                instance: subject("grant_revoked.instance", fact.instance)?,
                grant: field::text("grant_revoked.grant", &fact.grant)?,
            },
            Kind::CapabilityDenied(fact) => Self::CapabilityDenied {
                instance: subject("capability_denied.instance", fact.instance)?,
                operation: fact.operation,
                permission: fact.permission,
            },
            Kind::ProviderStarted(fact) => Self::ProviderStarted {
                capability: field::text("provider_started.capability", &fact.capability)?,
            },
            Kind::ProviderStopped(fact) => Self::ProviderStopped {
                capability: field::text("provider_stopped.capability", &fact.capability)?,
            },
        })
    }
}

fn subject(name: &str, subject: Option<v1::Subject>) -> Result<Subject, Invalid> {
    field::message(name, field::required(name, subject)?)
}

fn exit(name: &str, exit: Option<v1::Exit>) -> Result<Exit, Invalid> {
    field::message(name, field::required(name, exit)?)
}

impl From<Subject> for v1::Subject {
    fn from(subject: Subject) -> Self {
        Self { id: subject.id.to_string(), name: subject.name.into() }
    }
}

impl TryFrom<v1::Subject> for Subject {
    type Error = Invalid;

    fn try_from(subject: v1::Subject) -> Result<Self, Invalid> {
        Ok(Self { id: field::text("id", &subject.id)?, name: field::text("name", &subject.name)? })
    }
}
