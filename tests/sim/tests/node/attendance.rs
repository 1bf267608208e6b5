//! How a simulated node attends: a registration, beats at the interval it is told, and again after every end.

use std::pin::Pin;

use futures::{Stream, StreamExt as _};
use tokio::{sync::mpsc, time::Instant};
use tonic::{Request, Response, Streaming, transport::Server};
use wasmatrix_model::Registration;
use wasmatrix_sim::Fault;
use wasmatrix_wire::v1::{attend_request, attend_response, nodes_server};

use super::*;

const INTERVAL: Duration = Duration::from_secs(2);

/// Hears what nodes say, and says what a control plane would.
struct Ear(mpsc::Sender<(Instant, attend_request::Part)>);

#[tonic::async_trait]
impl nodes_server::Nodes for Ear {
    type AttendStream = Pin<Box<dyn Stream<Item = Result<v1::AttendResponse, Status>> + Send>>;

    async fn attend(
        &self,
        request: Request<Streaming<v1::AttendRequest>>,
    ) -> Result<Response<Self::AttendStream>, Status> {
        wasmatrix_wire::protocol::checked(Request::from_parts(
            request.metadata().clone(),
            Default::default(),
            (),
        ))?;
        let heard = self.0.clone();
        let answers = request.into_inner().then(move |message| {
            let heard = heard.clone();
            async move {
                let part = message?.part.unwrap();
                let answer = match &part {
                    attend_request::Part::Registration(_) => attend_response::Part::Welcome(v1::Welcome {
                        heartbeat_interval: Some(INTERVAL.try_into().unwrap()),
                        protocol: Some(wasmatrix_wire::PROTOCOL.into()),
                        version: String::new(),
                    }),
                    attend_request::Part::Beat(beat) => {
                        attend_response::Part::BeatHeard(v1::BeatHeard { seq: beat.seq })
                    }
                };
                heard.send((Instant::now(), part)).await.unwrap();
                Ok(v1::AttendResponse { part: Some(answer) })
            }
        });
        Ok(Response::new(answers.boxed()))
    }
}

/// A node that attends an ear.
async fn attending() -> (SimNode, mpsc::Receiver<(Instant, attend_request::Part)>) {
    let net = Net::memory();
    let (heard, hear) = mpsc::channel(64);
    let listener = net.listen("control-plane").await.unwrap();
    let incoming = listener.incoming(None, tokio_util::sync::CancellationToken::new());
    let server = Server::builder().add_service(nodes_server::NodesServer::new(Ear(heard)));
    tokio::spawn(server.serve_with_incoming(incoming));
    let traits = Traits::new("node-0".parse().unwrap(), Seed::new(1));
    let (link, clock) = (Some(Link::new()), Arc::new(SimClock::new()));
    let node = SimNode::new(traits, net, link, clock, "http://control-plane");
    node.boot().await.unwrap();
    (node, hear)
}

async fn registration(hear: &mut mpsc::Receiver<(Instant, attend_request::Part)>) -> Registration {
    loop {
        if let (_, attend_request::Part::Registration(registration)) = hear.recv().await.unwrap() {
            return Registration::try_from(*registration).unwrap();
        }
    }
}

#[tokio::test(start_paused = true)]
async fn beats_come_at_the_interval_that_the_welcome_names() {
    let (node, mut hear) = attending().await;
    let first = registration(&mut hear).await;
    assert_eq!((first.id.as_str(), Some(first.address)), ("node-0", node.address()));
    let mut times = Vec::new();
    for expected in 1..=5 {
        let (at, part) = hear.recv().await.unwrap();
        let attend_request::Part::Beat(beat) = part else { panic!("{part:?}") };
        assert_eq!(beat.seq, expected);
        times.push(at);
    }
    assert!(times.windows(2).all(|pair| pair[1] - pair[0] == INTERVAL), "{times:?}");
}

#[tokio::test(start_paused = true)]
async fn a_node_attends_anew_as_the_same_run_after_a_cut_and_as_another_after_a_crash() {
    let (node, mut hear) = attending().await;
    let first = registration(&mut hear).await;
    Fault::Cut.befall(&node).await.unwrap();
    let again = registration(&mut hear).await;
    assert_eq!(first, again);
    Fault::Boot.befall(&node).await.unwrap();
    let reborn = registration(&mut hear).await;
    assert_ne!(first.run, reborn.run);
    assert_eq!((first.id, first.address), (reborn.id, reborn.address));
}

#[tokio::test(start_paused = true)]
async fn silence_is_noticed_and_a_new_connection_is_tried() {
    let (node, mut hear) = attending().await;
    let first = registration(&mut hear).await;
    Fault::Hold(wasmatrix_sim::Direction::Toward).befall(&node).await.unwrap();
    let again = registration(&mut hear).await;
    assert_eq!(first, again, "it heard no answer to its beats");
}

#[tokio::test(start_paused = true)]
async fn a_provider_that_stops_is_told_in_a_new_registration() {
    let (node, mut hear) = attending().await;
    let first = registration(&mut hear).await;
    node.machine().unwrap().turn_provider(wasmatrix_model::Capability::Kv, false).unwrap();
    let second = registration(&mut hear).await;
    assert_ne!(first.providers, second.providers);
    assert_eq!(first.run, second.run);
}
