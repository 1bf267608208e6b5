//! The enums, each beside its twin. A number of 0, "unspecified", has a meaning only where the proto file gives one.

use wasmatrix_model::{self as model, failure::Invalid};

use crate::v1;

macro_rules! twins {
    ($($name:ident { $($variant:ident,)+ } $field:literal unspecified: $unspecified:expr;)+) => {$(
        impl From<model::$name> for v1::$name {
            fn from(value: model::$name) -> Self {
                match value {
                    $(model::$name::$variant => Self::$variant,)+
                }
            }
        }

        impl TryFrom<v1::$name> for model::$name {
            type Error = Invalid;

            fn try_from(value: v1::$name) -> Result<Self, Invalid> {
                let unspecified: Option<Self> = $unspecified;
                match value {
                    v1::$name::Unspecified => {
                        unspecified.ok_or_else(|| Invalid::new($field, "is missing"))
                    }
                    $(v1::$name::$variant => Ok(Self::$variant),)+
                }
            }
        }
    )+};
}

twins! {
    ExecutorKind { Wasmtime, Microvm, } "executor" unspecified: Some(Self::Wasmtime);
    RestartMode { Never, OnFailure, Always, } "mode" unspecified: Some(Self::Never);
    Phase { Pending, Starting, Running, Stopping, Stopped, Crashed, Unknown, } "phase" unspecified: None;
    OnNodeLoss { Leave, RestartElsewhere, } "on_node_loss" unspecified: Some(Self::Leave);
    NodePhase { Ready, Suspect, Lost, } "phase" unspecified: Some(Self::Ready);
    LimitKind { Memory, Table, Handles, WallTime, } "limit" unspecified: None;
    LogStream { Stdout, Stderr, Log, Host, } "stream" unspecified: None;
    LogLevel { Trace, Debug, Info, Warn, Error, Critical, } "level" unspecified: None;
    ProviderPhase { Running, Draining, Stopped, } "phase" unspecified: None;
}
