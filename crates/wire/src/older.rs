//! What is said to a client of an older minor version, which refuses what it has no word for: a listing is not to be lost
//! for one entry, nor a stream for one message. The one place that knows what older versions lack.
//!
//! | since | what | what an older client is told |
//! |---|---|---|
//! | 1.1 | the phase `unknown` | in lists, the phase that was last seen, which is all that a list ever said; in answer to a question for that instance, that its node is not there, and why |
//! | 1.1 | facts of nodes, of the control plane, of successors | nothing |

use wasmatrix_model::ProtocolVersion;

use crate::v1::{self, fact::Kind};

/// Whether that version has a word for what nobody can tell: an instance whose node is lost.
pub const fn knows_unknown(version: ProtocolVersion) -> bool {
    version.minor >= 1
}

/// A status as a client of that version can read it.
#[must_use]
pub fn instance_for(version: ProtocolVersion, mut status: v1::InstanceStatus) -> v1::InstanceStatus {
    if !knows_unknown(version)
        && let Some(unknown) = status.unknown.take()
    {
        status.phase = unknown.last_phase;
    }
    status
}

/// Whether a client of that version can read a fact.
pub fn has_word_for(version: ProtocolVersion, fact: &v1::Fact) -> bool {
    // A kind that means nothing here comes from a newer version.
    fact.kind.as_ref().map_or(version.minor >= 1, |kind| since(kind) <= version.minor)
}

/// The minor version that brought a kind of fact.
const fn since(kind: &Kind) -> u32 {
    match kind {
        Kind::NodeStarted(_)
        | Kind::NodeStopping(_)
        | Kind::InstanceCreated(_)
        | Kind::InstanceStarted(_)
        | Kind::InstanceStopping(_)
        | Kind::InstanceStopped(_)
        | Kind::InstanceCrashed(_)
        | Kind::InstanceRestarted(_)
        | Kind::RestartsExhausted(_)
        | Kind::InstanceRemoved(_)
        | Kind::GrantAssigned(_)
        | Kind::GrantRevoked(_)
        | Kind::CapabilityDenied(_)
        | Kind::ProviderStarted(_)
        | Kind::ProviderStopped(_) => 0,
        Kind::InstanceFenced(_)
        | Kind::ControlPlaneStarted(_)
        | Kind::NodeRegistered(_)
        | Kind::NodePhaseChanged(_)
        | Kind::NodeCordoned(_)
        | Kind::NodeForgotten(_)
        | Kind::InstanceUnknown(_)
        | Kind::InstanceLost(_)
        | Kind::InstanceSucceeded(_)
        | Kind::SuccessionFailed(_)
        | Kind::AccessRefused(_) => 1,
    }
}
