//! What 1.0 said, read by this code: it means what it meant then, and what is new has its default.

use std::collections::BTreeSet;

use prost::Message;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use wasmatrix_model::{
    Exit, Fact, FactKind, InstanceSpec, InstanceStatus, Limits, LogRecord, NodeStatus, ProviderStatus,
    RestartPolicy, Usage,
};
use wasmatrix_wire::{Invalid, StartPart, StartRequest, v1};

const RECORDED: &str = include_str!("v1.0.jsonl");

/// A line of the recording.
#[derive(Debug, Deserialize)]
struct Line {
    message: String,
    bytes: String,
    means: Value,
}

fn lines() -> impl Iterator<Item = Line> {
    RECORDED.lines().map(|line| serde_json::from_str(line).unwrap())
}

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

fn read<W: Message + Default, M: TryFrom<W, Error = Invalid>>(line: &Line) -> M {
    let message = W::decode(bytes(&line.bytes).as_slice()).unwrap();
    M::try_from(message).unwrap_or_else(|invalid| panic!("{}: {invalid}", line.message))
}

fn meaning<W: Message + Default, M: TryFrom<W, Error = Invalid> + Serialize>(line: &Line) -> Value {
    serde_json::to_value(read::<W, M>(line)).unwrap()
}

/// What a message means now, in the words of 1.0 and perhaps more.
fn now(line: &Line) -> Value {
    match line.message.as_str() {
        "InstanceSpec" => meaning::<v1::InstanceSpec, InstanceSpec>(line),
        "Limits" => meaning::<v1::Limits, Limits>(line),
        "RestartPolicy" => meaning::<v1::RestartPolicy, RestartPolicy>(line),
        "InstanceStatus" => meaning::<v1::InstanceStatus, InstanceStatus>(line),
        "Usage" => meaning::<v1::Usage, Usage>(line),
        "Exit" => meaning::<v1::Exit, Exit>(line),
        "Fact" => meaning::<v1::Fact, Fact>(line),
        "LogRecord" => meaning::<v1::LogRecord, LogRecord>(line),
        "ProviderStatus" => meaning::<v1::ProviderStatus, ProviderStatus>(line),
        "NodeStatus" => {
            let status: NodeStatus = read::<v1::NodeStatus, _>(line);
            let mut value = serde_json::to_value(&status).unwrap();
            // They have moved.
            value["instances"] = status.load.instances.into();
            value["instances_max"] = status.capacity.instances_max.into();
            value
        }
        "StartInstanceRequest" => match read::<v1::StartInstanceRequest, StartPart>(line) {
            StartPart::Spec(request) => {
                assert_eq!(
                    *request,
                    StartRequest::from(request.spec.clone()),
                    "nothing but the spec was said"
                );
                serde_json::to_value(&request.spec).unwrap()
            }
            StartPart::Chunk(_) => panic!("a spec was recorded"),
        },
        other => panic!("{other} is recorded and not read"),
    }
}

/// Whether all that `then` says is said by `now`, which may say more.
fn keeps(then: &Value, now: &Value) -> bool {
    match (then, now) {
        (Value::Object(then), Value::Object(now)) => {
            then.iter().all(|(key, value)| now.get(key).is_some_and(|now| keeps(value, now)))
        }
        (Value::Array(then), Value::Array(now)) => {
            then.len() == now.len() && then.iter().zip(now).all(|(then, now)| keeps(then, now))
        }
        (then, now) => then == now,
    }
}

#[test]
fn property_16_what_1_0_said_means_the_same_today() {
    let mut read = BTreeSet::new();
    for (number, line) in lines().enumerate() {
        let now = now(&line);
        assert!(
            keeps(&line.means, &now),
            "line {}: {}\nthen {}\nnow  {now}",
            number + 1,
            line.message,
            line.means
        );
        read.insert(line.message);
    }
    assert_eq!(read.len(), 11, "{read:?}");
}

#[test]
fn property_16_what_1_0_left_out_has_its_default() {
    let mut created = 0;
    for line in lines() {
        match line.message.as_str() {
            "InstanceStatus" => {
                let status: InstanceStatus = read::<v1::InstanceStatus, _>(&line);
                let new = (status.generation, status.predecessor, status.idempotency_key, status.revision);
                assert_eq!((new, status.unknown), ((1, None, None, 0), None));
                assert_eq!(status.spec.placement, Default::default());
            }
            "Fact" => {
                let fact: Fact = read::<v1::Fact, _>(&line);
                if let FactKind::InstanceCreated { generation, predecessor, .. } = fact.kind {
                    assert_eq!((generation, predecessor), (1, None));
                    created += 1;
                }
            }
            _ => {}
        }
    }
    assert!(created > 0, "such a fact was recorded");
}

#[test]
fn a_meaning_that_changed_would_be_noticed() {
    let then = serde_json::json!({"a": 1, "list": [{"b": 2}]});
    assert!(keeps(&then, &serde_json::json!({"a": 1, "list": [{"b": 2, "new": 0}], "new": 0})));
    assert!(!keeps(&then, &serde_json::json!({"a": 1, "list": [{"b": 3}]})));
    assert!(!keeps(&then, &serde_json::json!({"list": [{"b": 2}]})));
    assert!(!keeps(&then, &serde_json::json!({"a": 1, "list": []})));
}
