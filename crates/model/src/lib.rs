//! The words of the system: ids, specs, phases, grants, limits, facts. Plain values, no I/O, no async.
//!
//! Everything else depends on this crate and it depends on nothing of ours. A value of one of these types has been
//! proven good when it was made: an [`InstanceName`] is a legal name, a [`Grant`] can be decided upon, a
//! [`RestartPolicy`] never waits a negative time. Parsing happens here, at the edge, and nowhere else.
//!
//! | module | what it says |
//! |---|---|
//! | [`id`] | which instance, node, artifact |
//! | [`spec`] | what a user asked for |
//! | [`executor`] | where it runs |
//! | [`grant`] | what it may do, and whether a given call is covered |
//! | [`limits`] | how much it may use |
//! | [`restart`] | what happens after it ends |
//! | [`placement`] | which nodes may run it |
//! | [`phase`] | where it is in its life |
//! | [`exit`] | how a run ended |
//! | [`status`] | all that is known of it now |
//! | [`node`] | what a node says of itself, and what is known of it |
//! | [`fact`] | what happened, in order |
//! | [`log`] | what it said |
//! | [`failure`] | why a request was refused |
//! | [`clock`] | what time it is, replaceable in tests |

#![forbid(unsafe_code)]

pub mod clock;
pub mod executor;
pub mod exit;
pub mod fact;
pub mod failure;
pub mod grant;
pub mod id;
pub mod limits;
pub mod log;
pub mod node;
pub mod phase;
pub mod placement;
pub mod restart;
pub mod spec;
pub mod status;

pub use clock::{Clock, SystemClock, Timestamp};
pub use executor::ExecutorKind;
pub use exit::{Exit, ExitCause, Frame, LimitKind};
pub use fact::{Fact, FactKind, Subject};
pub use failure::{ErrorCode, Failure};
pub use grant::{BucketName, Capability, Grant, Grants, Key, KeySet, KvAction, Permission};
pub use id::{Digest, InstanceId, InstanceName, NodeId};
pub use limits::Limits;
pub use log::{LogLevel, LogRecord, LogStream};
pub use node::{Capacity, ExecutorStatus, Load, NodePhase, NodeStatus, ProtocolVersion, Registration, RunId};
pub use phase::Phase;
pub use placement::{Labels, OnNodeLoss, Placement};
pub use restart::{RestartMode, RestartPolicy};
pub use spec::InstanceSpec;
pub use status::{InstanceStatus, ProviderPhase, ProviderStatus, Unknown, Usage};
