//! Nodes: what they say of themselves, and what is known of them.

use wasmatrix_model::{
    Capacity, ExecutorStatus, Labels, Load, NodeStatus, ProtocolVersion, Registration, failure::Invalid,
};

use crate::{
    field,
    time::{optional_timestamp_from_v1, timestamp_from_v1, timestamp_to_v1},
    v1,
};

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

impl From<Capacity> for v1::Capacity {
    fn from(capacity: Capacity) -> Self {
        Self {
            instances_max: capacity.instances_max,
            memory_bytes_max: capacity.memory_bytes_max,
            memory_bytes_total: capacity.memory_bytes_total,
        }
    }
}

impl From<v1::Capacity> for Capacity {
    fn from(capacity: v1::Capacity) -> Self {
        Self {
            instances_max: capacity.instances_max,
            memory_bytes_max: capacity.memory_bytes_max,
            memory_bytes_total: capacity.memory_bytes_total,
        }
    }
}

impl From<Load> for v1::Load {
    fn from(load: Load) -> Self {
        Self {
            instances: load.instances,
            instances_live: load.instances_live,
            memory_bytes_committed: load.memory_bytes_committed,
        }
    }
}

impl From<v1::Load> for Load {
    fn from(load: v1::Load) -> Self {
        Self {
            instances: load.instances,
            instances_live: load.instances_live,
            memory_bytes_committed: load.memory_bytes_committed,
        }
    }
}

impl From<ProtocolVersion> for v1::ProtocolVersion {
    fn from(version: ProtocolVersion) -> Self {
        Self { major: version.major, minor: version.minor }
    }
}

impl From<v1::ProtocolVersion> for ProtocolVersion {
    fn from(version: v1::ProtocolVersion) -> Self {
        Self { major: version.major, minor: version.minor }
    }
}

impl From<Registration> for v1::Registration {
    fn from(registration: Registration) -> Self {
        Self {
            id: registration.id.into(),
            run: registration.run.to_string(),
            address: registration.address,
            version: registration.version,
            protocol: Some(registration.protocol.into()),
            started_at: Some(timestamp_to_v1(registration.started_at)),
            labels: registration.labels.into(),
            executors: registration.executors.into_iter().map(Into::into).collect(),
            providers: registration.providers.into_iter().map(Into::into).collect(),
            capacity: Some(registration.capacity.into()),
            cordoned: registration.cordoned,
        }
    }
}

impl TryFrom<v1::Registration> for Registration {
    type Error = Invalid;

    fn try_from(registration: v1::Registration) -> Result<Self, Invalid> {
        let started_at = field::required("started_at", registration.started_at)?;
        Ok(Self {
            id: field::text("id", &registration.id)?,
            run: field::text("run", &registration.run)?,
            address: registration.address,
            version: registration.version,
            protocol: field::required("protocol", registration.protocol)?.into(),
            started_at: timestamp_from_v1("started_at", started_at)?,
            labels: Labels::try_from(registration.labels)?,
            // A node of a newer version may have more to offer than can be asked of it from here.
            executors: field::known("executors", registration.executors)?,
            providers: field::known("providers", registration.providers)?,
            capacity: registration.capacity.unwrap_or_default().into(),
            cordoned: registration.cordoned,
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
            // What a reader of version 1.0 knows of load and capacity.
            instances: status.load.instances,
            instances_max: status.capacity.instances_max,
            address: status.address,
            labels: status.labels.into(),
            capacity: Some(status.capacity.into()),
            load: Some(status.load.into()),
            phase: v1::NodePhase::from(status.phase).into(),
            cordoned: status.cordoned,
            last_seen_at: status.last_seen_at.map(timestamp_to_v1),
            reason: status.reason.unwrap_or_default(),
        }
    }
}

impl TryFrom<v1::NodeStatus> for NodeStatus {
    type Error = Invalid;

    fn try_from(status: v1::NodeStatus) -> Result<Self, Invalid> {
        let capacity = match status.capacity {
            Some(capacity) => capacity.into(),
            None => Capacity { instances_max: status.instances_max, ..Capacity::default() },
        };
        let load = match status.load {
            Some(load) => load.into(),
            None => Load { instances: status.instances, ..Load::default() },
        };
        Ok(Self {
            id: field::text("id", &status.id)?,
            version: status.version,
            started_at: timestamp_from_v1("started_at", field::required("started_at", status.started_at)?)?,
            executors: field::messages("executors", status.executors)?,
            providers: field::messages("providers", status.providers)?,
            address: status.address,
            labels: Labels::try_from(status.labels)?,
            capacity,
            load,
            phase: field::choice::<v1::NodePhase, _>("phase", status.phase)?,
            cordoned: status.cordoned,
            last_seen_at: optional_timestamp_from_v1("last_seen_at", status.last_seen_at)?,
            reason: field::none_if_empty(status.reason),
        })
    }
}
