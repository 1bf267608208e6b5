//! How a run ended.

use wasmatrix_model::{Exit, ExitCause, Frame, failure::Invalid};

use crate::{
    field,
    time::{timestamp_from_v1, timestamp_to_v1},
    v1::{self, exit::Cause},
};

impl From<Exit> for v1::Exit {
    fn from(exit: Exit) -> Self {
        Self { at: Some(timestamp_to_v1(exit.at)), cause: Some(exit.cause.into()) }
    }
}

impl TryFrom<v1::Exit> for Exit {
    type Error = Invalid;

    fn try_from(exit: v1::Exit) -> Result<Self, Invalid> {
        Ok(Self {
            at: timestamp_from_v1("at", field::required("at", exit.at)?)?,
            cause: exit.cause.ok_or_else(|| field::newer("cause", "no cause, or one that"))?.try_into()?,
        })
    }
}

impl From<ExitCause> for Cause {
    fn from(cause: ExitCause) -> Self {
        use v1::exit::{Exited, HostFault, LimitExceeded, StartFailed, StopRequested, Trapped};
        match cause {
            ExitCause::Exited { code } => Self::Exited(Exited { code: code.into() }),
            ExitCause::Trapped { trap, backtrace } => {
                Self::Trapped(Trapped { trap, backtrace: backtrace.into_iter().map(Into::into).collect() })
            }
            ExitCause::LimitExceeded { limit, message } => {
                Self::LimitExceeded(LimitExceeded { limit: v1::LimitKind::from(limit).into(), message })
            }
            ExitCause::StartFailed { code, message } => {
                Self::StartFailed(StartFailed { error_code: code.as_str().to_owned(), message })
            }
            ExitCause::StopRequested => Self::StopRequested(StopRequested {}),
            ExitCause::HostFault { message } => Self::HostFault(HostFault { message }),
        }
    }
}

impl TryFrom<Cause> for ExitCause {
    type Error = Invalid;

    fn try_from(cause: Cause) -> Result<Self, Invalid> {
        Ok(match cause {
            Cause::Exited(exited) => {
                Self::Exited { code: field::number("exited.code", exited.code, "0 to 255")? }
            }
            Cause::Trapped(trapped) => Self::Trapped {
                trap: trapped.trap,
                backtrace: trapped.backtrace.into_iter().map(Into::into).collect(),
            },
            Cause::LimitExceeded(exceeded) => Self::LimitExceeded {
                limit: field::choice::<v1::LimitKind, _>("limit_exceeded.limit", exceeded.limit)?,
                message: exceeded.message,
            },
            Cause::StartFailed(failed) => Self::StartFailed {
                code: field::text("start_failed.error_code", &failed.error_code)?,
                message: failed.message,
            },
            Cause::StopRequested(_) => Self::StopRequested,
            Cause::HostFault(fault) => Self::HostFault { message: fault.message },
        })
    }
}

impl From<Frame> for v1::Frame {
    fn from(frame: Frame) -> Self {
        Self { module: frame.module.unwrap_or_default(), function: frame.function, offset: frame.offset }
    }
}

/// The one message that no content makes invalid.
impl From<v1::Frame> for Frame {
    fn from(frame: v1::Frame) -> Self {
        Self { module: field::none_if_empty(frame.module), function: frame.function, offset: frame.offset }
    }
}
