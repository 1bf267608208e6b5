//! What a user asks for: specs, limits and restart policies. An absent field means the model's default.

use wasmatrix_model::{InstanceSpec, Labels, Limits, Placement, RestartPolicy, failure::Invalid};

use crate::{
    field,
    grant::{grants_from_v1, grants_to_v1},
    time::{duration_to_v1, optional_duration_from_v1},
    v1,
};

impl From<InstanceSpec> for v1::InstanceSpec {
    fn from(spec: InstanceSpec) -> Self {
        Self {
            name: spec.name.into(),
            digest: spec.digest.into(),
            executor: v1::ExecutorKind::from(spec.executor).into(),
            args: spec.args,
            env: spec.env,
            config: spec.config,
            grants: grants_to_v1(&spec.grants),
            limits: Some(spec.limits.into()),
            restart: Some(spec.restart.into()),
            placement: Some(spec.placement.into()),
        }
    }
}

impl TryFrom<v1::InstanceSpec> for InstanceSpec {
    type Error = Invalid;

    fn try_from(spec: v1::InstanceSpec) -> Result<Self, Invalid> {
        let read = Self {
            name: field::text("name", &spec.name)?,
            digest: field::text("digest", &spec.digest)?,
            executor: field::choice::<v1::ExecutorKind, _>("executor", spec.executor)?,
            args: spec.args,
            env: spec.env,
            config: spec.config,
            grants: grants_from_v1(&spec.grants)?,
            limits: field::message("limits", spec.limits.unwrap_or_default())?,
            restart: field::message("restart", spec.restart.unwrap_or_default())?,
            placement: field::message("placement", spec.placement.unwrap_or_default())?,
        };
        read.validate()?;
        Ok(read)
    }
}

impl From<Limits> for v1::Limits {
    fn from(limits: Limits) -> Self {
        Self {
            memory_bytes_max: Some(limits.memory_bytes_max),
            table_elements_max: Some(limits.table_elements_max),
            handles_max: Some(limits.handles_max),
            wall_time_max: limits.wall_time_max.map(duration_to_v1),
            cpu_millis_per_second: Some(limits.cpu_millis_per_second),
            log_lines_per_second: Some(limits.log_lines_per_second),
            log_line_bytes_max: Some(limits.log_line_bytes_max),
            log_lines_kept: Some(limits.log_lines_kept),
        }
    }
}

impl TryFrom<v1::Limits> for Limits {
    type Error = Invalid;

    fn try_from(limits: v1::Limits) -> Result<Self, Invalid> {
        let default = Self::default();
        let read = Self {
            memory_bytes_max: limits.memory_bytes_max.unwrap_or(default.memory_bytes_max),
            table_elements_max: limits.table_elements_max.unwrap_or(default.table_elements_max),
            handles_max: limits.handles_max.unwrap_or(default.handles_max),
            wall_time_max: optional_duration_from_v1("wall_time_max", limits.wall_time_max)?,
            cpu_millis_per_second: limits.cpu_millis_per_second.unwrap_or(default.cpu_millis_per_second),
            log_lines_per_second: limits.log_lines_per_second.unwrap_or(default.log_lines_per_second),
            log_line_bytes_max: limits.log_line_bytes_max.unwrap_or(default.log_line_bytes_max),
            log_lines_kept: limits.log_lines_kept.unwrap_or(default.log_lines_kept),
        };
        read.validate().map_err(in_proto_words)?;
        Ok(read)
    }
}

/// The model names a limit as the configuration does, without the unit; the proto file names it with the unit.
fn in_proto_words(invalid: Invalid) -> Invalid {
    let field = match invalid.field.as_str() {
        "memory" => "memory_bytes_max",
        "table_elements" => "table_elements_max",
        "handles" => "handles_max",
        "wall_time" => "wall_time_max",
        "log_line_bytes" => "log_line_bytes_max",
        same => same,
    };
    Invalid::new(field, invalid.problem)
}

impl From<RestartPolicy> for v1::RestartPolicy {
    fn from(policy: RestartPolicy) -> Self {
        Self {
            mode: v1::RestartMode::from(policy.mode).into(),
            backoff_initial: Some(duration_to_v1(policy.backoff_initial)),
            backoff_max: Some(duration_to_v1(policy.backoff_max)),
            jitter_percent: Some(policy.jitter_percent.into()),
            restarts_max: policy.restarts_max,
            reset_after: Some(duration_to_v1(policy.reset_after)),
        }
    }
}

impl TryFrom<v1::RestartPolicy> for RestartPolicy {
    type Error = Invalid;

    fn try_from(policy: v1::RestartPolicy) -> Result<Self, Invalid> {
        let default = Self::default();
        let read = Self {
            mode: field::choice::<v1::RestartMode, _>("mode", policy.mode)?,
            backoff_initial: optional_duration_from_v1("backoff_initial", policy.backoff_initial)?
                .unwrap_or(default.backoff_initial),
            backoff_max: optional_duration_from_v1("backoff_max", policy.backoff_max)?
                .unwrap_or(default.backoff_max),
            jitter_percent: match policy.jitter_percent {
                Some(percent) => field::number("jitter_percent", percent, "0 to 100")?,
                None => default.jitter_percent,
            },
            restarts_max: policy.restarts_max,
            reset_after: optional_duration_from_v1("reset_after", policy.reset_after)?
                .unwrap_or(default.reset_after),
        };
        read.validate()?;
        Ok(read)
    }
}

impl From<Placement> for v1::Placement {
    fn from(placement: Placement) -> Self {
        Self {
            node: placement.node.map(Into::into).unwrap_or_default(),
            labels: placement.labels.into(),
            group: placement.group.map(Into::into).unwrap_or_default(),
            on_node_loss: v1::OnNodeLoss::from(placement.on_node_loss).into(),
        }
    }
}

impl TryFrom<v1::Placement> for Placement {
    type Error = Invalid;

    fn try_from(placement: v1::Placement) -> Result<Self, Invalid> {
        Ok(Self {
            node: field::optional_text("node", &placement.node)?,
            labels: Labels::try_from(placement.labels)?,
            group: field::optional_text("group", &placement.group)?,
            on_node_loss: field::choice::<v1::OnNodeLoss, _>("on_node_loss", placement.on_node_loss)?,
        })
    }
}
