//! From a token to a member, and from one certificate to the next.

use std::{net::IpAddr, sync::Arc};

use wasmatrix_identity::*;
use wasmatrix_model::Clock;

use crate::cluster::*;

/// What the control plane does with a join request; the transport is the services' affair.
fn enrol(
    cluster: &Cluster,
    tokens: &Tokens,
    token: &str,
    request: &str,
    from: IpAddr,
) -> Result<Bundle, String> {
    let request = ProvenRequest::parse(request).map_err(|error| error.to_string())?;
    let redeemed = tokens.redeem(token, &"a".parse().unwrap(), from).map_err(|error| error.to_string())?;
    let order = Order::new(Role::Node(redeemed.node));
    let (certificate_pem, _) = cluster.authority.sign(&request, &order, cluster.clock.now()).unwrap();
    let key_pem = PrivateKeyPem::new(String::new()); // stays with the joiner
    Ok(Bundle { ca_pem: cluster.authority.certificate_pem().into(), certificate_pem, key_pem })
}

#[tokio::test]
async fn a_machine_with_nothing_but_a_token_becomes_a_node() {
    let cluster = Cluster::new();
    let clock: Arc<dyn Clock> = cluster.clock.clone();
    let mut serving = serve(&cluster.control_plane(), ClientCertificate::Optional, Access::ANYONE).await;
    let tokens = Tokens::new(cluster.authority.fingerprint(), clock.clone());
    let text = tokens.create(&TokenOrder::default()).unwrap().expose();

    // The joiner: knows the token's text and the address.
    let token: Token = text.parse().unwrap();
    let pinned = Dialer::pinned(token.authority(), clock.clone());
    dial_and_call(&pinned, &serving.url()).await.unwrap();
    let own = KeyAndRequest::generate().unwrap();

    // The control plane: knows the peer's address.
    let from = serving.peers.recv().await.unwrap().address.ip();
    let bad = enrol(&cluster, &tokens, &text, "no request", from).unwrap_err();
    assert!(bad.contains("no certificate request"), "{bad}");
    let answer =
        enrol(&cluster, &tokens, &text, &own.request_pem, from).expect("a bad request cost no token");
    let replay = enrol(&cluster, &tokens, &text, &own.request_pem, from).unwrap_err();
    assert!(replay.contains("was used before"), "{replay}");

    // The joiner again: believes the answer only if it fits the token and its key.
    let bundle = Bundle { key_pem: own.key_pem, ..answer };
    assert!(bundle.trusts_only(token.authority()));
    assert_eq!(bundle.prove(&clock).unwrap().identity().role, node("a"));
    let dir = cluster.dir.path().join("joined");
    bundle.write(&dir, Overwrite::Refuse).unwrap();
    let member = LiveCredentials::open(&dir, clock).unwrap();
    dial_and_call(&member.dialer(Expected::ControlPlane), &serving.url()).await.unwrap();
    assert_eq!(serving.peers.recv().await.unwrap().identity.unwrap().role, node("a"));
}

#[test]
fn an_answer_that_smuggles_an_authority_in_is_found_out() {
    let (ours, theirs) = (Cluster::new(), Cluster::new());
    let bundle = ours.authority.issue(&Order::new(node("a")), ours.clock.now()).unwrap();
    assert!(bundle.trusts_only(ours.authority.fingerprint()));
    assert!(!bundle.trusts_only(theirs.authority.fingerprint()));
    let both = format!("{}{}", bundle.ca_pem, theirs.authority.certificate_pem());
    assert!(!Bundle { ca_pem: both, ..bundle.clone() }.trusts_only(ours.authority.fingerprint()));
    assert!(!Bundle { ca_pem: String::new(), ..bundle }.trusts_only(ours.authority.fingerprint()));
}

#[tokio::test]
async fn a_node_renews_itself_and_goes_on_speaking() {
    let cluster = Cluster::new();
    let clock: Arc<dyn Clock> = cluster.clock.clone();
    let mut serving = serve(&cluster.control_plane(), ClientCertificate::Required, Access::NODE).await;
    let agent = cluster.live("a", Order::new(node("a")));
    let old = agent.current();
    cluster.clock.turn(21 * DAY);
    assert!(old.identity().renewal_due(clock.now()));

    let own = KeyAndRequest::generate().unwrap();
    let request = ProvenRequest::parse(&own.request_pem).unwrap();
    let order = Order::new(old.identity().role.clone());
    let (certificate_pem, _) = cluster.authority.sign(&request, &order, clock.now()).unwrap();
    let bundle = Bundle { ca_pem: old.ca_pem().into(), certificate_pem, key_pem: own.key_pem };
    bundle.write(agent.dir(), Overwrite::Replace).unwrap();
    assert_eq!(agent.reload_now().unwrap(), Reloaded::Changed);
    cluster.clock.turn(10 * DAY);
    assert!(old.identity().expired(clock.now()));
    dial_and_call(&agent.dialer(Expected::ControlPlane), &serving.url()).await.unwrap();
    let seen = serving.peers.recv().await.unwrap().identity.unwrap();
    assert_eq!(seen.fingerprint, agent.current().identity().fingerprint);
}
