//! What is known of an instance or a provider now.

use wasmatrix_model::{InstanceStatus, Phase, ProviderStatus, Unknown, Usage, failure::Invalid};

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
            generation: status.generation,
            predecessor: status.predecessor.map(|id| id.to_string()).unwrap_or_default(),
            idempotency_key: status.idempotency_key.unwrap_or_default(),
            revision: status.revision,
            unknown: status.unknown.map(Into::into),
        }
    }
}

impl TryFrom<v1::InstanceStatus> for InstanceStatus {
    type Error = Invalid;

    fn try_from(status: v1::InstanceStatus) -> Result<Self, Invalid> {
        let phase = field::choice::<v1::Phase, _>("phase", status.phase)?;
        let unknown = match (phase, status.unknown) {
            (Phase::Unknown, unknown) => {
                Some(field::message("unknown", field::required("unknown", unknown)?)?)
            }
            (_, None) => None,
            (_, Some(_)) => return Err(Invalid::new("unknown", "is set, though the phase is known")),
        };
        Ok(Self {
            id: field::text("id", &status.id)?,
            node: field::text("node", &status.node)?,
            spec: field::message("spec", field::required("spec", status.spec)?)?,
            phase,
            grants: grants_from_v1(&status.grants)?,
            created_at: timestamp_from_v1("created_at", field::required("created_at", status.created_at)?)?,
            started_at: optional_timestamp_from_v1("started_at", status.started_at)?,
            last_exit: status.last_exit.map(|exit| field::message("last_exit", exit)).transpose()?,
            restart_count: status.restart_count,
            next_restart_at: optional_timestamp_from_v1("next_restart_at", status.next_restart_at)?,
            usage: field::message("usage", status.usage.unwrap_or_default())?,
            generation: status.generation.max(1),
            predecessor: field::optional_text("predecessor", &status.predecessor)?,
            idempotency_key: field::none_if_empty(status.idempotency_key),
            revision: status.revision,
            unknown,
        })
    }
}

impl From<Unknown> for v1::Unknown {
    fn from(unknown: Unknown) -> Self {
        Self {
            since: Some(timestamp_to_v1(unknown.since)),
            last_phase: v1::Phase::from(unknown.last_phase).into(),
            reason: unknown.reason,
        }
    }
}

impl TryFrom<v1::Unknown> for Unknown {
    type Error = Invalid;

    fn try_from(unknown: v1::Unknown) -> Result<Self, Invalid> {
        Ok(Self {
            since: timestamp_from_v1("since", field::required("since", unknown.since)?)?,
            last_phase: field::choice::<v1::Phase, _>("last_phase", unknown.last_phase)?,
            reason: unknown.reason,
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
            capability: field::text("capability", &status.capability).map_err(|_| {
                let shown: String = status.capability.chars().take(40).collect();
                field::newer("capability", &format!("`{shown}`"))
            })?,
            backend: status.backend,
            phase: field::choice::<v1::ProviderPhase, _>("phase", status.phase)?,
        })
    }
}
