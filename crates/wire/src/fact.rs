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
            kind: kind_to_v1(fact.kind),
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
            // A newer version may have more to tell than there are words for here; that it happened is told all the same.
            kind: match fact.kind.map(FactKind::try_from) {
                None => FactKind::Unrecognized,
                Some(Err(invalid)) if field::is_newer(&invalid) => FactKind::Unrecognized,
                Some(read) => read?,
            },
        })
    }
}

/// A kind as it travels; one that has no word here has none there.
#[allow(clippy::too_many_lines, reason = "one arm for each kind of fact")]
fn kind_to_v1(kind: FactKind) -> Option<Kind> {
    use v1::fact as wire;
    Some(match kind {
        FactKind::NodeStarted { version } => Kind::NodeStarted(wire::NodeStarted { version }),
        FactKind::NodeStopping => Kind::NodeStopping(wire::NodeStopping {}),
        FactKind::InstanceCreated { instance, digest, executor, generation, predecessor } => {
            Kind::InstanceCreated(wire::InstanceCreated {
                instance: Some(instance.into()),
                digest: digest.into(),
                executor: v1::ExecutorKind::from(executor).into(),
                generation,
                predecessor: predecessor.map(|id| id.to_string()).unwrap_or_default(),
            })
        }
        FactKind::InstanceStarted { instance, restart_count } => {
            Kind::InstanceStarted(wire::InstanceStarted { instance: Some(instance.into()), restart_count })
        }
        FactKind::InstanceStopping { instance } => {
            Kind::InstanceStopping(wire::InstanceStopping { instance: Some(instance.into()) })
        }
        FactKind::InstanceStopped { instance, exit, next_restart_at } => {
            Kind::InstanceStopped(wire::InstanceStopped {
                instance: Some(instance.into()),
                exit: Some(exit.into()),
                next_restart_at: next_restart_at.map(timestamp_to_v1),
            })
        }
        FactKind::InstanceCrashed { instance, exit, restart_count, next_restart_at } => {
            Kind::InstanceCrashed(wire::InstanceCrashed {
                instance: Some(instance.into()),
                exit: Some(exit.into()),
                restart_count,
                next_restart_at: next_restart_at.map(timestamp_to_v1),
            })
        }
        FactKind::InstanceRestarted { instance, restart_count } => {
            Kind::InstanceRestarted(wire::InstanceRestarted {
                instance: Some(instance.into()),
                restart_count,
            })
        }
        FactKind::RestartsExhausted { instance, restart_count } => {
            Kind::RestartsExhausted(wire::RestartsExhausted {
                instance: Some(instance.into()),
                restart_count,
            })
        }
        FactKind::InstanceRemoved { instance } => {
            Kind::InstanceRemoved(wire::InstanceRemoved { instance: Some(instance.into()) })
        }
        FactKind::GrantAssigned { instance, grant } => {
            Kind::GrantAssigned(wire::GrantAssigned { instance: Some(instance.into()), grant: grant.into() })
        }
        FactKind::GrantRevoked { instance, grant } => {
            Kind::GrantRevoked(wire::GrantRevoked { instance: Some(instance.into()), grant: grant.into() })
        }
        FactKind::CapabilityDenied { instance, operation, permission } => {
            Kind::CapabilityDenied(wire::CapabilityDenied {
                instance: Some(instance.into()),
                operation,
                permission,
            })
        }
        FactKind::ProviderStarted { capability } => {
            Kind::ProviderStarted(wire::ProviderStarted { capability: capability.to_string() })
        }
        FactKind::ProviderStopped { capability } => {
            Kind::ProviderStopped(wire::ProviderStopped { capability: capability.to_string() })
        }
        FactKind::InstanceFenced { instance, generation } => {
            Kind::InstanceFenced(wire::InstanceFenced { instance: Some(instance.into()), generation })
        }
        FactKind::ControlPlaneStarted { version } => {
            Kind::ControlPlaneStarted(wire::ControlPlaneStarted { version })
        }
        FactKind::NodeRegistered { node, address, version } => {
            Kind::NodeRegistered(wire::NodeRegistered { node: node.into(), address, version })
        }
        FactKind::NodePhaseChanged { node, phase, reason } => {
            Kind::NodePhaseChanged(wire::NodePhaseChanged {
                node: node.into(),
                phase: v1::NodePhase::from(phase).into(),
                reason,
            })
        }
        FactKind::NodeCordoned { node, cordoned, by } => {
            Kind::NodeCordoned(wire::NodeCordoned { node: node.into(), cordoned, by })
        }
        FactKind::NodeForgotten { node, by } => {
            Kind::NodeForgotten(wire::NodeForgotten { node: node.into(), by })
        }
        FactKind::InstanceUnknown { instance, node, last_phase } => {
            Kind::InstanceUnknown(wire::InstanceUnknown {
                instance: Some(instance.into()),
                node: node.into(),
                last_phase: v1::Phase::from(last_phase).into(),
            })
        }
        FactKind::InstanceLost { instance, node, reason } => Kind::InstanceLost(wire::InstanceLost {
            instance: Some(instance.into()),
            node: node.into(),
            reason,
        }),
        FactKind::InstanceSucceeded { instance, successor, node, generation } => {
            Kind::InstanceSucceeded(wire::InstanceSucceeded {
                instance: Some(instance.into()),
                successor: successor.to_string(),
                node: node.into(),
                generation,
            })
        }
        FactKind::SuccessionFailed { instance, reason } => {
            Kind::SuccessionFailed(wire::SuccessionFailed { instance: Some(instance.into()), reason })
        }
        FactKind::AccessRefused { peer, method, reason } => {
            Kind::AccessRefused(wire::AccessRefused { peer, method, reason })
        }
        FactKind::Unrecognized => return None,
    })
}

impl TryFrom<Kind> for FactKind {
    type Error = Invalid;

    #[allow(clippy::too_many_lines, reason = "one arm for each kind of fact")]
    fn try_from(kind: Kind) -> Result<Self, Invalid> {
        Ok(match kind {
            Kind::NodeStarted(fact) => Self::NodeStarted { version: fact.version },
            Kind::NodeStopping(_) => Self::NodeStopping,
            Kind::InstanceCreated(fact) => Self::InstanceCreated {
                instance: subject("instance_created.instance", fact.instance)?,
                digest: field::text("instance_created.digest", &fact.digest)?,
                executor: field::choice::<v1::ExecutorKind, _>("instance_created.executor", fact.executor)?,
                generation: fact.generation.max(1),
                predecessor: field::optional_text("instance_created.predecessor", &fact.predecessor)?,
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
            Kind::InstanceFenced(fact) => Self::InstanceFenced {
                instance: subject("instance_fenced.instance", fact.instance)?,
                generation: fact.generation,
            },
            Kind::ControlPlaneStarted(fact) => Self::ControlPlaneStarted { version: fact.version },
            Kind::NodeRegistered(fact) => Self::NodeRegistered {
                node: field::text("node_registered.node", &fact.node)?,
                address: fact.address,
                version: fact.version,
            },
            Kind::NodePhaseChanged(fact) => Self::NodePhaseChanged {
                node: field::text("node_phase_changed.node", &fact.node)?,
                phase: field::choice::<v1::NodePhase, _>("node_phase_changed.phase", fact.phase)?,
                reason: fact.reason,
            },
            Kind::NodeCordoned(fact) => Self::NodeCordoned {
                node: field::text("node_cordoned.node", &fact.node)?,
                cordoned: fact.cordoned,
                by: fact.by,
            },
            Kind::NodeForgotten(fact) => {
                Self::NodeForgotten { node: field::text("node_forgotten.node", &fact.node)?, by: fact.by }
            }
            Kind::InstanceUnknown(fact) => Self::InstanceUnknown {
                instance: subject("instance_unknown.instance", fact.instance)?,
                node: field::text("instance_unknown.node", &fact.node)?,
                last_phase: field::choice::<v1::Phase, _>("instance_unknown.last_phase", fact.last_phase)?,
            },
            Kind::InstanceLost(fact) => Self::InstanceLost {
                instance: subject("instance_lost.instance", fact.instance)?,
                node: field::text("instance_lost.node", &fact.node)?,
                reason: fact.reason,
            },
            Kind::InstanceSucceeded(fact) => Self::InstanceSucceeded {
                instance: subject("instance_succeeded.instance", fact.instance)?,
                successor: field::text("instance_succeeded.successor", &fact.successor)?,
                node: field::text("instance_succeeded.node", &fact.node)?,
                generation: fact.generation,
            },
            Kind::SuccessionFailed(fact) => Self::SuccessionFailed {
                instance: subject("succession_failed.instance", fact.instance)?,
                reason: fact.reason,
            },
            Kind::AccessRefused(fact) => {
                Self::AccessRefused { peer: fact.peer, method: fact.method, reason: fact.reason }
            }
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
