//! Things to show, for tests.

use wasmatrix_model::{
    Digest, Exit, ExitCause, Frame, InstanceId, InstanceSpec, InstanceStatus, Phase, Usage,
};

/// An instance of that name that has crashed and will be started again.
pub(crate) fn instance(name: &str) -> InstanceStatus {
    let mut spec = InstanceSpec::new(name.parse().unwrap(), Digest::of(b""));
    spec.grants.assign("kv:read".parse().unwrap()).unwrap();
    let trap = ExitCause::Trapped {
        trap: "wasm trap: integer divide by zero".to_owned(),
        backtrace: vec![Frame { module: None, function: "main".to_owned(), offset: Some(16) }],
    };
    InstanceStatus {
        id: "01890a5d-ac96-774b-bcce-b302099a8057".parse::<InstanceId>().unwrap(),
        node: "local".parse().unwrap(),
        grants: spec.grants.clone(),
        spec,
        phase: Phase::Crashed,
        created_at: "2026-11-20T11:50:00Z".parse().unwrap(),
        started_at: Some("2026-11-20T11:55:00Z".parse().unwrap()),
        last_exit: Some(Exit { at: "2026-11-20T11:59:00Z".parse().unwrap(), cause: trap }),
        restart_count: 2,
        next_restart_at: Some("2026-11-20T12:00:04Z".parse().unwrap()),
        usage: Usage { memory_bytes: 64 << 10, ..Usage::default() },
        generation: 1,
        predecessor: None,
        idempotency_key: None,
        revision: 0,
        unknown: None,
    }
}
