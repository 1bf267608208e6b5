//! P18 no malformed request is accepted, and every refusal is a well-formed error, through the real service.

use proptest::prelude::*;
use tonic::{Status, transport::Channel};
use wasmatrix_model::{Clock as _, ErrorCode, SystemClock};
use wasmatrix_tests::Node;
use wasmatrix_wire::{
    failure::from_status,
    v1::{self, agent_client::AgentClient, start_instance_request::Part},
};

use crate::{CASES, block_on, cases, runtime};

fn well_formed(status: &Status, codes: &[ErrorCode]) -> Result<(), TestCaseError> {
    let failure = from_status(status, SystemClock.now());
    prop_assert!(codes.contains(&failure.code), "{:?}: {}", failure.code, failure.message);
    prop_assert!(!failure.message.is_empty());
    prop_assert!(failure.message.len() < 4096, "a refusal does not echo what it was sent");
    if failure.code == ErrorCode::InvalidRequest {
        prop_assert!(failure.details.contains_key("field"), "{:?} names no field", failure);
    }
    Ok(())
}

fn legal_spec() -> v1::InstanceSpec {
    v1::InstanceSpec {
        name: "p18".to_owned(),
        digest: wasmatrix_model::Digest::of(b"").to_string(),
        ..v1::InstanceSpec::default()
    }
}

/// A spec with one thing wrong with it.
fn broken_spec() -> impl Strategy<Value = v1::InstanceSpec> {
    let legal = legal_spec;
    let duration = |seconds, nanos| Some(prost_types(seconds, nanos));
    prop_oneof![
        "[A-Z _/\u{e4}]{0,70}".prop_map(move |name| v1::InstanceSpec { name, ..legal() }),
        "\\PC{0,80}".prop_map(move |digest| v1::InstanceSpec { digest, ..legal() }),
        (3..i32::MAX).prop_map(move |executor| v1::InstanceSpec { executor, ..legal() }),
        "[a-z:]{0,30}"
            .prop_filter("some are legal", |text| text.parse::<wasmatrix_model::Grant>().is_err())
            .prop_map(move |grant| v1::InstanceSpec { grants: vec![grant], ..legal() }),
        (0..65_535_u64).prop_map(move |bytes| v1::InstanceSpec {
            limits: Some(v1::Limits { memory_bytes_max: Some(bytes), ..v1::Limits::default() }),
            ..legal()
        }),
        (any::<i64>(), -1_000_000_000..0_i32).prop_map(move |(seconds, nanos)| v1::InstanceSpec {
            limits: Some(v1::Limits {
                wall_time_max: duration(-seconds.saturating_abs(), nanos),
                ..v1::Limits::default()
            }),
            ..legal()
        }),
        (101..u32::MAX).prop_map(move |percent| v1::InstanceSpec {
            restart: Some(v1::RestartPolicy {
                jitter_percent: Some(percent),
                ..v1::RestartPolicy::default()
            }),
            ..legal()
        }),
        Just(v1::InstanceSpec { args: vec![String::new(); 2000], ..legal() }),
        Just(v1::InstanceSpec { env: [("A=B".to_owned(), String::new())].into(), ..legal() }),
        Just(v1::InstanceSpec { args: vec!["nul\0".to_owned()], ..legal() }),
    ]
}

fn prost_types(seconds: i64, nanos: i32) -> prost_types::Duration {
    prost_types::Duration { seconds, nanos }
}

async fn start(client: &mut AgentClient<Channel>, parts: Vec<Option<Part>>) -> Result<(), Status> {
    let requests = parts.into_iter().map(|part| v1::StartInstanceRequest { part, ..Default::default() });
    client.start_instance(tokio_stream::iter(requests.collect::<Vec<_>>())).await.map(drop)
}

#[test]
fn property_18_no_malformed_request_is_accepted() {
    let runtime = runtime();
    let node = runtime.block_on(Node::new());
    let client = runtime.block_on(async {
        AgentClient::new(wasmatrix_agent::service::in_process(node.agent.clone()).unwrap())
    });
    proptest!(cases(CASES), |(spec in broken_spec(), text in "\\PC{0,200}", junk in prop::collection::vec(any::<u8>(), 1..300), token in "[a-z0-9.]{1,40}")| {
        block_on(&runtime, async {
            let mut client = client.clone();
            let invalid = [ErrorCode::InvalidRequest];
            // A broken spec, with or without an artifact.
            for chunks in [vec![], vec![Some(Part::Chunk(junk.clone().into()))]] {
                let mut parts = vec![Some(Part::Spec(Box::new(spec.clone())))];
                parts.extend(chunks);
                well_formed(&start(&mut client, parts).await.expect_err("accepted"), &invalid)?;
            }
            // Parts out of order, missing, or of another artifact than was named.
            let (legal, chunk) = (Some(Part::Spec(Box::new(legal_spec()))), Some(Part::Chunk(junk.clone().into())));
            for parts in [
                vec![],
                vec![None],
                vec![chunk.clone()],
                vec![legal.clone(), legal.clone()],
                vec![legal.clone()],
                vec![legal.clone(), None],
                vec![legal, chunk],
            ] {
                well_formed(&start(&mut client, parts).await.expect_err("accepted"), &invalid)?;
            }
            // Junk of the right digest is listed as crashed and refused with a reason.
            let digest = wasmatrix_model::Digest::of(&junk).to_string();
            let named = v1::InstanceSpec { digest, ..legal_spec() };
            let parts = vec![Some(Part::Spec(Box::new(named))), Some(Part::Chunk(junk.clone().into()))];
            well_formed(&start(&mut client, parts).await.expect_err("accepted"), &[ErrorCode::WasmRuntimeError])?;
            client.remove_instance(v1::RemoveInstanceRequest { instance: "p18".to_owned() }).await.unwrap();
            // Names, grants, tokens and capabilities that are none.
            let unknown = [ErrorCode::InstanceNotFound, ErrorCode::InvalidRequest];
            let get = client.get_instance(v1::GetInstanceRequest { instance: text.clone() }).await;
            well_formed(&get.expect_err("found"), &unknown)?;
            let assign = v1::AssignCapabilityRequest { instance: text.clone(), grants: vec![format!("x{text}")] };
            well_formed(&client.assign_capability(assign).await.expect_err("accepted"), &unknown)?;
            let watch = v1::WatchFactsRequest { resume_token: token.clone(), ..v1::WatchFactsRequest::default() };
            well_formed(&client.watch_facts(watch).await.expect_err("accepted"), &invalid)?;
            let page = v1::ListInstancesRequest { page_token: format!("{token}."), ..v1::ListInstancesRequest::default() };
            well_formed(&client.list_instances(page).await.expect_err("accepted"), &invalid)?;
            let provider = v1::StopProviderRequest { capability: format!("x{text}"), ..Default::default() };
            well_formed(&client.stop_provider(provider).await.expect_err("accepted"), &invalid)?;
            // Nothing of all this is listed.
            prop_assert!(node.agent.list(None, 10).is_empty());
            Ok(())
        })?;
    });
}
