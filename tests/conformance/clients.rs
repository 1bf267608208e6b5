//! What a client may try with a node: requests at a bad moment, requests given up half-way, requests of absurd size.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{FutureExt as _, future::join};
use tokio::sync::Notify;
use wasmatrix_executor_api::{Closed, Console, Output};
use wasmatrix_model::{Clock as _, ErrorCode, ExecutorKind, ExitCause, LogLevel, Phase, SystemClock};
use wasmatrix_tests::{Case, Node, executors};
use wasmatrix_wire::{
    MESSAGE_BYTES_MAX, encoded_bytes,
    failure::from_status,
    v1::{self, agent_client::AgentClient, control_plane_client::ControlPlaneClient},
};

/// Longer than anything here takes, on the slowest machine.
const PATIENCE: Duration = Duration::from_secs(60);

fn wasm(text: &str) -> Vec<u8> {
    wat::parse_str(text).expect("the text is a module")
}

/// Tells that a launch has come as far as to look at its console.
#[derive(Default)]
struct Doorbell(Notify);

#[async_trait]
impl Console for Doorbell {
    async fn write(&self, _: Output, _: Bytes) -> Result<(), Closed> {
        Ok(())
    }

    async fn read(&self, _: usize) -> Bytes {
        Bytes::new()
    }

    fn log(&self, _: LogLevel, _: &str, _: &str) {}

    fn terminals(&self) -> (bool, bool, bool) {
        self.0.notify_one();
        (false, false, false)
    }
}

#[tokio::test]
async fn a_start_function_that_never_returns_can_be_stopped() {
    let spin = wasm(
        r#"(module (func $spin (loop (br 0))) (start $spin) (func (export "_start")) (memory (export "memory") 1))"#,
    );
    for executor in executors() {
        let node = Node::new().await;
        let case = Case::with(*executor, spin.clone()).name("spinner");
        let console = Arc::new(Doorbell::default());
        let start = node.agent.start_attached(node.spec(&case), Some(case.artifact.clone()), console.clone());
        let stop = async {
            console.0.notified().await;
            node.agent.stop("spinner", Duration::ZERO).await
        };
        let (_, stopped) =
            tokio::time::timeout(PATIENCE, join(start, stop)).await.expect("the stop is heard");
        let status = stopped.unwrap();
        assert_eq!(status.phase, Phase::Stopped, "{executor}");
        assert_eq!(status.last_exit.unwrap().cause, ExitCause::StopRequested, "{executor}");
        node.agent.remove("spinner").await.unwrap();
        tokio::time::timeout(PATIENCE, node.agent.shutdown(Duration::ZERO)).await.expect("nothing is left");
    }
}

#[tokio::test]
async fn a_node_that_was_shut_down_takes_no_instance() {
    let node = Node::new().await;
    node.agent.shutdown(Duration::ZERO).await;
    let failure = node.start(&Case::of(ExecutorKind::Wasmtime, "sleeper")).await.unwrap_err();
    assert_eq!(failure.code, ErrorCode::NodeUnavailable, "{failure}");
    assert_eq!(node.agent.list(None, 10), []);
}

#[tokio::test]
async fn a_removal_that_was_given_up_can_be_done_again() {
    let node = Node::new().await;
    let case = Case::with(ExecutorKind::Wasmtime, wasm(r#"(module (func (export "_start")))"#)).name("gone");
    node.start(&case).await.unwrap();
    node.agent.wait("gone").await.unwrap();
    assert_eq!(
        node.agent.remove("gone").now_or_never(),
        None,
        "the order is given, and nobody waits for the answer"
    );
    for _ in 0..100 {
        tokio::task::yield_now().await; // lets the driver take the order and end
    }
    assert_eq!(node.agent.remove("gone").await, Ok(()));
    node.start(&case).await.expect("the name is free");
}

#[tokio::test]
async fn a_grace_of_ages_is_refused() {
    let control_plane = wasmatrix_control_plane::Config::default().begin().unwrap();
    let mut user = ControlPlaneClient::new(control_plane.in_process());
    for seconds in [601, i64::MAX, -1] {
        let ages = Some(prost_types::Duration { seconds, nanos: 0 });
        let stop = v1::StopInstanceRequest { instance: "x".to_owned(), grace: ages };
        let drain =
            v1::StopProviderRequest { capability: "kv".to_owned(), drain: ages, ..Default::default() };
        let refusals =
            [user.stop_instance(stop).await.unwrap_err(), user.stop_provider(drain).await.unwrap_err()];
        for (refusal, field) in refusals.iter().zip(["grace", "drain"]) {
            let failure = from_status(refusal, SystemClock.now());
            assert_eq!(failure.code, ErrorCode::InvalidRequest, "{failure}");
            assert_eq!(failure.details["field"], field);
        }
    }
}

#[tokio::test]
async fn a_page_of_huge_specs_ends_before_it_is_too_large() {
    let node = Node::new().await;
    let program = wasm(r#"(module (func (export "_start")))"#);
    let names = ["a", "b", "c", "d", "e"];
    for name in names {
        let mut case =
            Case::with(ExecutorKind::Wasmtime, program.clone()).name(name).args(["x".repeat(900_000)]);
        case.config = [("k".to_owned(), "v".repeat(900_000))].into();
        node.start(&case).await.unwrap();
    }
    let channel = wasmatrix_agent::service::in_process(node.agent.clone()).unwrap();
    let mut client = AgentClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX + 1024);
    let (mut listed, mut page_token, mut pages) = (Vec::new(), String::new(), 0);
    loop {
        let request = v1::ListInstancesRequest { page_token, ..Default::default() };
        let page = client.list_instances(request).await.unwrap().into_inner();
        assert!(encoded_bytes(&page) <= MESSAGE_BYTES_MAX + 1024, "{}", encoded_bytes(&page));
        listed.extend(page.instances.into_iter().map(|instance| instance.spec.unwrap().name));
        (page_token, pages) = (page.next_page_token, pages + 1);
        if page_token.is_empty() {
            break;
        }
    }
    assert_eq!((listed.as_slice(), pages), (names.map(str::to_owned).as_slice(), 3));
}
