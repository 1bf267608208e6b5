//! The agent's service behind real handshakes, asked by everybody who has a certificate of the cluster.

use std::sync::Arc;

use futures::StreamExt as _;
use tokio::{net::TcpListener, sync::oneshot};
use wasmatrix_identity::{
    Authority, ClientCertificate, Expected, HandshakeLimits, Incoming, LiveCredentials, Order, Overwrite,
    Role, endpoint,
};
use wasmatrix_model::{Clock, ErrorCode, FactKind, SystemClock};
use wasmatrix_wire::{
    failure::from_status,
    v1::{self, agent_client::AgentClient},
};

use super::*;
use crate::Config;

struct Cluster {
    dir: tempfile::TempDir,
    authority: Authority,
}

impl Cluster {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::create(&dir.path().join("ca"), "test", SystemClock.now()).unwrap();
        Self { dir, authority }
    }

    fn member(&self, role: Role) -> LiveCredentials {
        let dir = self.dir.path().join(role.to_string().replace(' ', "-"));
        let order = Order::new(role).at(["127.0.0.1".parse().unwrap()]);
        let bundle = self.authority.issue(&order, SystemClock.now()).unwrap();
        bundle.write(&dir, Overwrite::Replace).unwrap();
        LiveCredentials::open(dir, Arc::new(SystemClock) as Arc<dyn Clock>).unwrap()
    }
}

fn node(id: &str) -> Role {
    Role::Node(id.parse().unwrap())
}

async fn agent() -> Agent {
    Config::new("here".parse().unwrap()).build().await.unwrap()
}

#[tokio::test]
async fn over_tls_the_control_plane_alone_is_let_in() {
    let (cluster, agent) = (Cluster::new(), agent().await);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let incoming = cluster
        .member(node("here"))
        .incoming(listener, ClientCertificate::Required, HandshakeLimits::default())
        .unwrap();
    let serving = tokio::spawn(serve(incoming, agent.clone(), std::future::pending(), Duration::ZERO));
    let endpoint = endpoint(&format!("https://{address}")).unwrap();
    let describe = async |role: Role| {
        let expected = Expected::Node("here".parse().unwrap());
        let channel = cluster.member(role).dialer(expected).channel(&endpoint);
        AgentClient::new(channel).describe_node(v1::DescribeNodeRequest {}).await
    };
    let others = [Role::Admin, Role::Operator, Role::Viewer, node("here"), node("there")];
    let count = others.len();
    for role in others {
        let failure = from_status(&describe(role.clone()).await.unwrap_err(), SystemClock.now());
        assert_eq!(failure.code, ErrorCode::PermissionDenied, "{role}");
        assert!(failure.message.contains("control plane"), "{failure}");
    }
    describe(Role::ControlPlane).await.expect("it may ask");
    let facts: Vec<_> =
        agent.facts("", false).unwrap().map(|watched| watched.unwrap().fact.kind.clone()).collect().await;
    let refused = facts.iter().filter(|kind| {
        matches!(kind, FactKind::AccessRefused { method, .. } if method == "/wasmatrix.v1.Agent/DescribeNode")
    });
    assert_eq!(refused.count(), count, "each refusal is a fact");
    serving.abort();
}

#[tokio::test]
async fn in_plain_text_everybody_is_and_the_server_ends_when_it_is_told() {
    let agent = agent().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (tell, told) = oneshot::channel::<()>();
    let shutdown = async { drop(told.await) };
    let serving =
        tokio::spawn(serve(Incoming::plain(listener), agent.clone(), shutdown, Duration::from_millis(10)));
    let mut client = AgentClient::connect(url).await.unwrap();
    let node = client.describe_node(v1::DescribeNodeRequest {}).await.unwrap().into_inner().node.unwrap();
    assert_eq!(node.id, "here");
    // A stream that never ends by itself does not keep the server.
    let mut changes =
        client.watch_instances(v1::WatchInstancesRequest::default()).await.unwrap().into_inner();
    changes.next().await.unwrap().unwrap();
    tell.send(()).unwrap();
    serving.await.unwrap().unwrap();
}
