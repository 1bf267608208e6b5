//! Every model value that travels, at random and legal. The large ones are boxed: proptest keeps its values on the stack,
//! and a thread of a test has little.

use std::{collections::BTreeMap, time::Duration};

use proptest::{collection, option, prelude::*, sample::select};
use wasmatrix_model::{
    Capability, Capacity, Digest, ErrorCode, ExecutorKind, ExecutorStatus, Exit, ExitCause, Fact, FactKind,
    Failure, Frame, Grant, Grants, InstanceId, InstanceName, InstanceSpec, InstanceStatus, Labels, LimitKind,
    Limits, Load, LogLevel, LogRecord, LogStream, NodeId, NodePhase, NodeStatus, OnNodeLoss, Phase,
    Placement, ProtocolVersion, ProviderPhase, ProviderStatus, Registration, RestartMode, RestartPolicy,
    RunId, Subject, Timestamp, Unknown, Usage,
};
use wasmatrix_wire::{Assignment, StartPart, StartRequest};

const NAME: &str = "[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?";

pub(crate) fn text() -> impl Strategy<Value = String> {
    "\\PC{0,24}"
}

/// A text where an empty one would mean that there is none.
fn some_text() -> impl Strategy<Value = String> {
    "\\PC{1,24}"
}

pub(crate) fn timestamp() -> impl Strategy<Value = Timestamp> {
    let (first, last) = (Timestamp::MIN.as_second(), Timestamp::MAX.as_second());
    prop_oneof![
        (first..=last, 0..1_000_000_000).prop_map(|(seconds, nanos)| Timestamp::new(seconds, nanos).unwrap()),
        (-3_i64..3, -999_999_999..1_000_000_000)
            .prop_map(|(seconds, nanos)| Timestamp::new(seconds, nanos).unwrap()),
        select(vec![Timestamp::MIN, Timestamp::UNIX_EPOCH, Timestamp::MAX]),
    ]
}

fn duration(milliseconds: std::ops::RangeInclusive<u64>) -> impl Strategy<Value = Duration> {
    (milliseconds, 0_u64..1_000_000)
        .prop_map(|(millis, nanos)| Duration::from_millis(millis) + Duration::from_nanos(nanos))
}

fn instance_name() -> impl Strategy<Value = InstanceName> {
    NAME.prop_map(|name| name.parse().unwrap())
}

fn node_id() -> impl Strategy<Value = NodeId> {
    NAME.prop_map(|name| name.parse().unwrap())
}

fn instance_id() -> impl Strategy<Value = InstanceId> {
    any::<u128>().prop_map(|id| format!("{id:032x}").parse().unwrap())
}

fn digest() -> impl Strategy<Value = Digest> {
    any::<[u8; 4]>().prop_map(|bytes| Digest::of(&bytes))
}

fn executor() -> impl Strategy<Value = ExecutorKind> {
    select(&ExecutorKind::ALL[..])
}

fn capability() -> impl Strategy<Value = Capability> {
    select(&Capability::ALL[..])
}

fn grant() -> impl Strategy<Value = Grant> {
    "kv:(read|write|delete)(:@?[a-zA-Z0-9._-]{1,9}(/[a-z/:é]{1,9}[*]?)?)?"
        .prop_map(|grant| grant.parse().unwrap())
}

fn grants() -> impl Strategy<Value = Grants> {
    collection::vec(grant(), 0..6).prop_map(|grants| grants.into_iter().collect())
}

fn environment() -> impl Strategy<Value = BTreeMap<String, String>> {
    collection::btree_map("[A-Z_]{1,12}", text(), 0..5)
}

pub(crate) fn limits() -> BoxedStrategy<Limits> {
    (
        (1_u64 << 16)..=Limits::MEMORY_BYTES_CEILING,
        1..=Limits::TABLE_ELEMENTS_CEILING,
        16_u32..=1_000_000,
        option::of(duration(1..=1_000_000)),
        10_u32..=1000,
        1_u32..=100_000,
        80_u32..=65_536,
        1_u32..=100_000,
    )
        .prop_map(|(memory, table, handles, wall_time, cpu, lines, line_bytes, kept)| Limits {
            memory_bytes_max: memory,
            table_elements_max: table,
            handles_max: handles,
            wall_time_max: wall_time,
            cpu_millis_per_second: cpu,
            log_lines_per_second: lines,
            log_line_bytes_max: line_bytes,
            log_lines_kept: kept,
        })
        .boxed()
}

pub(crate) fn restart_policy() -> BoxedStrategy<RestartPolicy> {
    (
        select(&RestartMode::ALL[..]),
        duration(1..=10_000),
        duration(0..=100_000),
        0_u8..=100,
        option::of(any::<u32>()),
        duration(0..=1_000_000),
    )
        .prop_map(|(mode, backoff_initial, more, jitter_percent, restarts_max, reset_after)| RestartPolicy {
            mode,
            backoff_initial,
            backoff_max: backoff_initial + more,
            jitter_percent,
            restarts_max,
            reset_after,
        })
        .boxed()
}

pub(crate) fn spec() -> BoxedStrategy<InstanceSpec> {
    (
        (instance_name(), digest(), executor()),
        (collection::vec(text(), 0..5), environment(), environment()),
        (grants(), limits(), restart_policy(), placement()),
    )
        .prop_map(|((name, digest, executor), (args, env, config), (grants, limits, restart, placement))| {
            InstanceSpec { name, digest, executor, args, env, config, grants, limits, restart, placement }
        })
        .boxed()
}

fn labels() -> impl Strategy<Value = Labels> {
    collection::btree_map("[a-zA-Z0-9._/-]{1,12}", "[a-zA-Z0-9._/-]{0,12}", 0..4)
        .prop_map(|labels| labels.try_into().unwrap())
}

pub(crate) fn placement() -> BoxedStrategy<Placement> {
    (option::of(node_id()), labels(), option::of(instance_name()), select(&OnNodeLoss::ALL[..]))
        .prop_map(|(node, labels, group, on_node_loss)| Placement { node, labels, group, on_node_loss })
        .prop_map(|placement| match placement.validate() {
            Ok(()) => placement,
            Err(_) => Placement { node: None, ..placement },
        })
        .boxed()
}

fn assignment() -> impl Strategy<Value = Assignment> {
    (1..=u64::MAX, option::of(instance_id()), option::of(grants()))
        .prop_map(|(generation, predecessor, grants)| Assignment { generation, predecessor, grants })
}

pub(crate) fn start_part() -> BoxedStrategy<StartPart> {
    prop_oneof![
        (spec(), option::of("[!-~]{1,64}"), option::of(assignment())).prop_map(
            |(spec, idempotency_key, assignment)| {
                StartPart::Spec(Box::new(StartRequest { spec, idempotency_key, assignment }))
            }
        ),
        collection::vec(any::<u8>(), 1..100).prop_map(|bytes| StartPart::Chunk(bytes.into())),
    ]
    .boxed()
}

fn frame() -> impl Strategy<Value = Frame> {
    (option::of(some_text()), text(), option::of(any::<u64>())).prop_map(|(module, function, offset)| Frame {
        module,
        function,
        offset,
    })
}

pub(crate) fn exit() -> BoxedStrategy<Exit> {
    let cause = prop_oneof![
        any::<u8>().prop_map(|code| ExitCause::Exited { code }),
        (text(), collection::vec(frame(), 0..4))
            .prop_map(|(trap, backtrace)| ExitCause::Trapped { trap, backtrace }),
        (select(&LimitKind::ALL[..]), text())
            .prop_map(|(limit, message)| ExitCause::LimitExceeded { limit, message }),
        (select(ErrorCode::ALL), text()).prop_map(|(code, message)| ExitCause::StartFailed { code, message }),
        Just(ExitCause::StopRequested),
        text().prop_map(|message| ExitCause::HostFault { message }),
    ];
    (timestamp(), cause).prop_map(|(at, cause)| Exit { at, cause }).boxed()
}

fn subject() -> impl Strategy<Value = Subject> {
    (instance_id(), instance_name()).prop_map(|(id, name)| Subject { id, name })
}

fn fact_kind() -> BoxedStrategy<FactKind> {
    let counted = || (subject(), any::<u32>());
    let granted = || (subject(), grant());
    let lifecycle = prop_oneof![
        (subject(), digest(), executor(), 1..=u64::MAX, option::of(instance_id())).prop_map(
            |(instance, digest, executor, generation, predecessor)| {
                FactKind::InstanceCreated { instance, digest, executor, generation, predecessor }
            }
        ),
        counted().prop_map(|(instance, restart_count)| FactKind::InstanceStarted { instance, restart_count }),
        subject().prop_map(|instance| FactKind::InstanceStopping { instance }),
        (subject(), exit(), option::of(timestamp())).prop_map(|(instance, exit, next_restart_at)| {
            FactKind::InstanceStopped { instance, exit, next_restart_at }
        }),
        (counted(), exit(), option::of(timestamp())).prop_map(
            |((instance, restart_count), exit, next_restart_at)| FactKind::InstanceCrashed {
                instance,
                exit,
                restart_count,
                next_restart_at
            }
        ),
        counted()
            .prop_map(|(instance, restart_count)| FactKind::InstanceRestarted { instance, restart_count }),
        counted()
            .prop_map(|(instance, restart_count)| FactKind::RestartsExhausted { instance, restart_count }),
        subject().prop_map(|instance| FactKind::InstanceRemoved { instance }),
    ];
    prop_oneof![
        8 => lifecycle,
        8 => cluster_fact_kind(),
        1 => text().prop_map(|version| FactKind::NodeStarted { version }),
        1 => Just(FactKind::NodeStopping),
        1 => granted().prop_map(|(instance, grant)| FactKind::GrantAssigned { instance, grant }),
        1 => granted().prop_map(|(instance, grant)| FactKind::GrantRevoked { instance, grant }),
        1 => (subject(), text(), text()).prop_map(|(instance, operation, permission)| {
            FactKind::CapabilityDenied { instance, operation, permission }
        }),
        1 => capability().prop_map(|capability| FactKind::ProviderStarted { capability }),
        1 => capability().prop_map(|capability| FactKind::ProviderStopped { capability }),
    ]
    .boxed()
}

fn cluster_fact_kind() -> BoxedStrategy<FactKind> {
    let placed = || (subject(), node_id());
    prop_oneof![
        (subject(), any::<u64>())
            .prop_map(|(instance, generation)| FactKind::InstanceFenced { instance, generation }),
        text().prop_map(|version| FactKind::ControlPlaneStarted { version }),
        (node_id(), text(), text()).prop_map(|(node, address, version)| FactKind::NodeRegistered {
            node,
            address,
            version
        }),
        (node_id(), select(&NodePhase::ALL[..]), text())
            .prop_map(|(node, phase, reason)| FactKind::NodePhaseChanged { node, phase, reason }),
        (node_id(), any::<bool>(), text()).prop_map(|(node, cordoned, by)| FactKind::NodeCordoned {
            node,
            cordoned,
            by
        }),
        (node_id(), text()).prop_map(|(node, by)| FactKind::NodeForgotten { node, by }),
        (placed(), select(&Phase::ALL[..])).prop_map(|((instance, node), last_phase)| {
            FactKind::InstanceUnknown { instance, node, last_phase }
        }),
        (placed(), text()).prop_map(|((instance, node), reason)| FactKind::InstanceLost {
            instance,
            node,
            reason
        }),
        (placed(), instance_id(), any::<u64>()).prop_map(|((instance, node), successor, generation)| {
            FactKind::InstanceSucceeded { instance, successor, node, generation }
        }),
        (subject(), text()).prop_map(|(instance, reason)| FactKind::SuccessionFailed { instance, reason }),
        (text(), text(), text()).prop_map(|(peer, method, reason)| FactKind::AccessRefused {
            peer,
            method,
            reason
        }),
        Just(FactKind::Unrecognized),
    ]
    .boxed()
}

pub(crate) fn fact() -> impl Strategy<Value = Fact> {
    (any::<u64>(), timestamp(), node_id(), fact_kind()).prop_map(|(seq, at, node, kind)| Fact {
        seq,
        at,
        node,
        kind,
    })
}

pub(crate) fn log_record() -> impl Strategy<Value = LogRecord> {
    (
        any::<u64>(),
        timestamp(),
        select(&LogStream::ALL[..]),
        any::<u32>(),
        option::of(select(&LogLevel::ALL[..])),
        text(),
        text(),
    )
        .prop_map(|(seq, at, stream, restart, level, context, line)| LogRecord {
            seq,
            at,
            stream,
            restart,
            level,
            context,
            line,
        })
}

pub(crate) fn usage() -> BoxedStrategy<Usage> {
    (any::<u64>(), any::<u64>(), duration(0..=1 << 40), any::<u64>(), any::<u64>())
        .prop_map(|(memory_bytes, memory_bytes_peak, cpu_time, calls_allowed, calls_denied)| Usage {
            memory_bytes,
            memory_bytes_peak,
            cpu_time,
            calls_allowed,
            calls_denied,
        })
        .boxed()
}

pub(crate) fn instance_status() -> BoxedStrategy<InstanceStatus> {
    (
        (instance_id(), node_id(), spec(), select(&Phase::ALL[..]), grants()),
        (timestamp(), option::of(timestamp()), option::of(exit())),
        (any::<u32>(), option::of(timestamp()), usage()),
        (1..=u64::MAX, option::of(instance_id()), option::of("[!-~]{1,64}"), any::<u64>(), unknown()),
    )
        .prop_map(
            |(
                (id, node, spec, phase, grants),
                (created_at, started_at, last_exit),
                (restart_count, next_restart_at, usage),
                (generation, predecessor, idempotency_key, revision, unknown),
            )| {
                InstanceStatus {
                    id,
                    node,
                    spec,
                    phase,
                    grants,
                    created_at,
                    started_at,
                    last_exit,
                    restart_count,
                    next_restart_at,
                    usage,
                    generation,
                    predecessor,
                    idempotency_key,
                    revision,
                    unknown: (phase == Phase::Unknown).then_some(unknown),
                }
            },
        )
        .boxed()
}

fn unknown() -> impl Strategy<Value = Unknown> {
    (timestamp(), select(&Phase::ALL[..]), text()).prop_map(|(since, last_phase, reason)| Unknown {
        since,
        last_phase,
        reason,
    })
}

pub(crate) fn provider_status() -> impl Strategy<Value = ProviderStatus> {
    (capability(), text(), select(&ProviderPhase::ALL[..]))
        .prop_map(|(capability, backend, phase)| ProviderStatus { capability, backend, phase })
}

fn executor_status() -> impl Strategy<Value = ExecutorStatus> {
    (executor(), option::of(some_text())).prop_map(|(kind, unavailable)| ExecutorStatus { kind, unavailable })
}

fn capacity() -> impl Strategy<Value = Capacity> {
    (any::<u32>(), option::of(any::<u64>()), any::<u64>()).prop_map(
        |(instances_max, memory_bytes_max, memory_bytes_total)| Capacity {
            instances_max,
            memory_bytes_max,
            memory_bytes_total,
        },
    )
}

fn load() -> impl Strategy<Value = Load> {
    (any::<u32>(), any::<u32>(), any::<u64>()).prop_map(
        |(instances, instances_live, memory_bytes_committed)| Load {
            instances,
            instances_live,
            memory_bytes_committed,
        },
    )
}

pub(crate) fn registration() -> BoxedStrategy<Registration> {
    (
        (node_id(), any::<u128>(), text(), text(), timestamp()),
        (any::<u32>(), any::<u32>(), labels(), capacity()),
        (collection::vec(executor_status(), 0..3), collection::vec(provider_status(), 0..3), any::<bool>()),
    )
        .prop_map(
            |(
                (id, run, address, version, started_at),
                (major, minor, labels, capacity),
                (executors, providers, cordoned),
            )| Registration {
                id,
                run: format!("{run:032x}").parse::<RunId>().unwrap(),
                address,
                version,
                protocol: ProtocolVersion { major, minor },
                started_at,
                labels,
                executors,
                providers,
                capacity,
                cordoned,
            },
        )
        .boxed()
}

pub(crate) fn node_status() -> BoxedStrategy<NodeStatus> {
    (registration(), load(), (select(&NodePhase::ALL[..]), option::of(timestamp()), option::of(some_text())))
        .prop_map(|(registration, load, (phase, last_seen_at, reason))| NodeStatus {
            id: registration.id,
            version: registration.version,
            started_at: registration.started_at,
            executors: registration.executors,
            providers: registration.providers,
            address: registration.address,
            labels: registration.labels,
            capacity: registration.capacity,
            load,
            phase,
            cordoned: registration.cordoned,
            last_seen_at,
            reason,
        })
        .boxed()
}

/// A failure short enough to travel whole.
pub(crate) fn failure() -> impl Strategy<Value = Failure> {
    (
        select(ErrorCode::ALL),
        "\\PC{1,200}",
        collection::btree_map("[a-z][a-z_]{0,8}", text(), 0..6),
        timestamp(),
    )
        .prop_map(|(code, message, mut details, at)| {
            details.remove("timestamp");
            Failure { code, message, details, at }
        })
}
