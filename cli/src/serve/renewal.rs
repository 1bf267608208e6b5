//! A node's next certificate: asked for by showing the present one, before that ends.
//!
//! ```text
//!  a third is left ──► ask ──► write the three files ──► taken up, as files that anybody else put there
//!                       └── no: again after a twentieth of what is left, 1 s to 1 h
//!  nothing is left ──► that is said, and what to do; files that somebody puts there are taken up
//! ```

use std::time::Duration;

use wasmatrix_identity::{Credentials, Expected, Identity, LiveCredentials, Role};
use wasmatrix_model::Timestamp;

use super::enroll::{ask, keep};

/// The shortest wait before another try, and the longest: clocks are set, machines sleep.
const WAIT_MIN: Duration = Duration::from_secs(1);
const WAIT_MAX: Duration = Duration::from_secs(3600);
/// Tries in what is left of a certificate after the first, if all fail.
const TRIES: u32 = 20;

/// What is to be done about a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Plan {
    /// Look again after that time.
    Wait(Duration),
    /// Ask for the next one; if that fails, look again after that time.
    Ask(Duration),
    /// Nobody gives another for it. Whoever runs the node has to.
    Over,
}

/// What is to be done about the certificate of a node now.
fn plan(identity: &Identity, now: Timestamp) -> Plan {
    if identity.expired(now) {
        return Plan::Over;
    }
    let due = identity.renewal_in(now);
    if due.is_zero() {
        return Plan::Ask((identity.ends_in(now) / TRIES).clamp(WAIT_MIN, WAIT_MAX));
    }
    Plan::Wait(due.min(WAIT_MAX))
}

/// Renews a node's certificate whenever it is due, for as long as the process lives. `url`: of the control plane.
pub(super) fn keep_renewed(credentials: LiveCredentials, url: String) {
    tokio::spawn(async move {
        let mut changes = credentials.changes();
        loop {
            let current = changes.borrow_and_update().clone();
            let wait = match plan(current.identity(), credentials.clock().now()) {
                Plan::Wait(wait) => wait,
                Plan::Ask(wait) => {
                    renew(&credentials, &url, current.identity()).await;
                    wait
                }
                // That it is over, and what to do, is logged where the files are followed.
                Plan::Over => WAIT_MAX,
            };
            // Other files, by whoever wrote them, are another certificate.
            let _ = tokio::time::timeout(wait, changes.changed()).await;
        }
    });
}

/// Asks for the next certificate and puts it where the present one lies.
async fn renew(credentials: &LiveCredentials, url: &str, identity: &Identity) {
    let Role::Node(node) = &identity.role else { return };
    let renewed = async {
        let dialer = credentials.dialer(Expected::ControlPlane);
        let bundle = ask(url, &dialer, String::new(), node).await?;
        keep(&bundle, credentials.clock(), credentials.dir())
    };
    match renewed.await {
        Ok(()) => {
            tracing::info!(%node, "the node's certificate was renewed");
            let credentials = credentials.clone();
            // What is wrong with the files is logged where they are read.
            let _ = tokio::task::spawn_blocking(move || credentials.reload_now()).await;
        }
        Err(error) => {
            let expires = identity.not_after;
            tracing::error!(%error, %node, %expires, "the node's certificate could not be renewed; it is tried again");
        }
    }
}

/// Says that a certificate is left as it is, until when it lasts, and what to do before.
pub(super) fn leave(credentials: &LiveCredentials, why: &str) {
    let current = credentials.current();
    let Role::Node(node) = &current.identity().role else { return };
    let (dir, expires) = (credentials.dir().display(), current.identity().not_after);
    tracing::warn!(
        %node, %dir, %expires,
        "the node's certificate is not renewed by this process, because {why}: put another there before it ends, from \
         `wasmatrix certs issue node/{node} --force` on the control plane's machine; it is taken up without a restart"
    );
}

/// Renews the certificate by the control plane at `url` from now on, if that can be written where it lies.
pub(super) fn keep_renewed_or_say(credentials: &LiveCredentials, url: &str) {
    match Credentials::can_be_renewed_in(credentials.dir()) {
        Ok(()) => keep_renewed(credentials.clone(), url.to_owned()),
        Err(error) => leave(credentials, &crate::error::chain(&error)),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use wasmatrix_identity::{Authority, Order};
    use wasmatrix_model::{Clock, SystemClock};

    use super::*;

    fn node_for(life: Duration) -> Identity {
        let dir = tempfile::tempdir().unwrap();
        let now = SystemClock.now();
        let authority = Authority::create(&dir.path().join("ca"), "test", now).unwrap();
        let order = Order::new(Role::Node("a".parse().unwrap())).valid_for(life);
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        authority.issue(&order, now).unwrap().prove(&clock).unwrap().identity().clone()
    }

    #[test]
    fn a_certificate_is_asked_for_when_a_third_is_left_and_often_enough_until_the_end() {
        for life in [60, 3_600, 30 * 86_400].map(Duration::from_secs) {
            let identity = node_for(life);
            let before_its_end = |left: Duration| plan(&identity, identity.not_after - left);
            assert!(matches!(before_its_end(life - WAIT_MIN), Plan::Wait(wait) if wait <= WAIT_MAX));
            assert!(matches!(before_its_end(life / 3 + WAIT_MIN), Plan::Wait(wait) if wait <= WAIT_MIN));
            let mut left = life / 3;
            let mut tries = 0;
            while let Plan::Ask(wait) = before_its_end(left) {
                assert!((WAIT_MIN..=WAIT_MAX).contains(&wait), "{wait:?}");
                tries += 1;
                let Some(then) = left.checked_sub(wait) else { break };
                left = then;
            }
            assert!(tries >= TRIES, "{tries} tries in {life:?}");
        }
    }

    #[test]
    fn one_that_is_over_is_asked_for_no_more() {
        let identity = node_for(Duration::from_secs(60));
        assert!(matches!(plan(&identity, identity.not_after), Plan::Ask(_)), "its last second counts");
        assert_eq!(plan(&identity, identity.not_after + Duration::from_secs(1)), Plan::Over);
    }
}
