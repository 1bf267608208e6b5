//! What a client of a node meets when something is wrong with the line.

use tokio::time::{Instant, timeout};
use wasmatrix_model::ErrorCode;
use wasmatrix_sim::{Direction, Fault};

use super::*;

#[tokio::test(start_paused = true)]
async fn a_lost_answer_leaves_the_deed_done() {
    let mut front = Front::new().await;
    Fault::LoseAnswers(1).befall(&front.node).await.unwrap();
    let lost = front.start(spec("a")).await.unwrap_err();
    assert_eq!(lost.code, ErrorCode::NodeUnavailable, "{lost}");
    assert_eq!(front.get("a").await.unwrap().phase, Phase::Running);
}

#[tokio::test(start_paused = true)]
async fn a_message_that_breaks_off_does_nothing() {
    let mut front = Front::new().await;
    assert!(front.get("a").await.is_err(), "a connection is there");
    Fault::CutAfter(Direction::Toward, 40).befall(&front.node).await.unwrap();
    assert!(front.start(spec("a")).await.is_err());
    assert_eq!(front.get("a").await.unwrap_err().code, ErrorCode::InstanceNotFound);
}

#[tokio::test(start_paused = true)]
async fn a_partition_is_silence_and_then_it_goes_on() {
    let mut front = Front::new().await;
    assert!(front.get("a").await.is_err(), "a connection is there");
    Fault::Partition.befall(&front.node).await.unwrap();
    let hour = Duration::from_secs(3600);
    let mut client = front.client.clone();
    let asked = tokio::spawn(async move { client.describe_node(v1::DescribeNodeRequest {}).await });
    assert!(timeout(hour, front.get("a")).await.is_err(), "somebody answered out of a partition");
    Fault::Heal.befall(&front.node).await.unwrap();
    let node = asked.await.unwrap().unwrap().into_inner().node.unwrap();
    assert_eq!(node.id, "node-0", "what was asked before arrived after all");
}

#[tokio::test(start_paused = true)]
async fn a_delay_is_met_once_each_way() {
    let mut front = Front::new().await;
    assert!(front.get("a").await.is_err(), "a connection is there");
    Fault::Delay(Duration::from_secs(1)).befall(&front.node).await.unwrap();
    let asked = Instant::now();
    assert!(front.get("a").await.is_err());
    assert_eq!(asked.elapsed().as_secs(), 2);
}
