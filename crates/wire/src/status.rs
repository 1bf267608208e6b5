//! What is known of an instance, a provider or a node now.

use wasmatrix_model::{
    InstanceStatus, NodeStatus, ProviderStatus, Usage, failure::Invalid, status::ExecutorStatus,
};

use crate::{
    field,
    grant::{grants_from_v1, grants_to_v1},
    time::{
        duration_to_v1, optional_duration_from_v1, optional_timestamp_from_v1, timestamp_from_v1,
        timestamp_to_v1,
    },
    v1,
};

impl From<InstanceStatus> for v1::InstanceStatus {
    fn from(status: InstanceStatus) -> Self {
        Self {
            id: status.id.to_string(),
            node: status.node.into(),
            spec: Some(status.spec.into()),
            phase: v1::Phase::from(status.phase).into(),
            grants: grants_to_v1(&status.grants),
            created_at: Some(timestamp_to_v1(status.created_at)),
            started_at: status.started_at.map(timestamp_to_v1),
            last_exit: status.last_exit.map(Into::into),
            restart_count: status.restart_count,
            next_restart_at: status.next_restart_at.map(timestamp_to_v1),
            usage: Some(status.usage.into()),
        }
    }
}

impl TryFrom<v1::InstanceStatus> for InstanceStatus {
    type Error = Invalid;

    fn try_from(status: v1::InstanceStatus) -> Result<Self, Invalid> {
        Ok(Self {
            id: field::text("id", &status.id)?,
            node: field::text("node", &status.node)?,
            spec: field::message("spec", field::required("spec", status.spec)?)?,
            phase: field::choice::<v1::Phase, _>("phase", status.phase)?,
            grants: grants_from_v1(&status.grants)?,
            created_at: timestamp_from_v1("created_at", field::required("created_at", status.created_at)?)?,
            started_at: optional_timestamp_from_v1("started_at", status.started_at)?,
            last_exit: status.last_exit.map(|exit| field::message("last_exit", exit)).transpose()?,
            restart_count: status.restart_count,
            next_restart_at: optional_timestamp_from_v1("next_restart_at", status.next_restart_at)?,
            usage: field::message("usage", status.usage.unwrap_or_default())?,
        })
    }
}

impl From<Usage> for v1::Usage {
    fn from(usage: Usage) -> Self {
        Self {
            memory_bytes: usage.memory_bytes,
            memory_bytes_peak: usage.memory_bytes_peak,
            cpu_time: Some(duration_to_v1(usage.cpu_time)),
            calls_allowed: usage.calls_allowed,
            calls_denied: usage.calls_denied,
        }
    }
}

impl TryFrom<v1::Usage> for Usage {
    type Error = Invalid;

    fn try_from(usage: v1::Usage) -> Result<Self, Invalid> {
        Ok(Self {
            memory_bytes: usage.memory_bytes,
            memory_bytes_peak: usage.memory_bytes_peak,
            cpu_time: optional_duration_from_v1("cpu_time", usage.cpu_time)?.unwrap_or_default(),
            calls_allowed: usage.calls_allowed,
            calls_denied: usage.calls_denied,
        })
    }
}

impl From<ProviderStatus> for v1::ProviderStatus {
    fn from(status: ProviderStatus) -> Self {
        Self {
            capability: status.capability.to_string(),
            backend: status.backend,
            phase: v1::ProviderPhase::from(status.phase).into(),
        }
    }
}

impl TryFrom<v1::ProviderStatus> for ProviderStatus {
    type Error = Invalid;

    fn try_from(status: v1::ProviderStatus) -> Result<Self, Invalid> {
        Ok(Self {
            capability: field::text("capability", &status.capability)?,
            backend: status.backend,
            phase: field::choice::<v1::ProviderPhase, _>("phase", status.phase)?,
        })
    }
}

impl From<ExecutorStatus> for v1::ExecutorStatus {
    fn from(status: ExecutorStatus) -> Self {
        Self {
            kind: v1::ExecutorKind::from(status.kind).into(),
            unavailable: status.unavailable.unwrap_or_default(),
        }
    }
}

impl TryFrom<v1::ExecutorStatus> for ExecutorStatus {
    type Error = Invalid;

    fn try_from(status: v1::ExecutorStatus) -> Result<Self, Invalid> {
        Ok(Self {
            kind: field::choice::<v1::ExecutorKind, _>("kind", status.kind)?,
            unavailable: field::none_if_empty(status.unavailable),
        })
    }
}

impl From<NodeStatus> for v1::NodeStatus {
    fn from(status: NodeStatus) -> Self {
        Self {
            id: status.id.into(),
            version: status.version,
            started_at: Some(timestamp_to_v1(status.started_at)),
            executors: status.executors.into_iter().map(Into::into).collect(),
            providers: status.providers.into_iter().map(Into::into).collect(),
            instances: status.instances,
            instances_max: status.instances_max,
        }
    }
}

impl TryFrom<v1::NodeStatus> for NodeStatus {
    type Error = Invalid;

    fn try_from(status: v1::NodeStatus) -> Result<Self, Invalid> {
        Ok(Self {
            id: field::text("id", &status.id)?,
            version: status.version,
            started_at: timestamp_from_v1("started_at", field::required("started_at", status.started_at)?)?,
            executors: field::messages("executors", status.executors)?,
            providers: field::messages("providers", status.providers)?,
            instances: status.instances,
            instances_max: status.instances_max,
        })
    }
}
