//! What time it is, from one replaceable source.

pub use jiff::Timestamp;

/// A source of the time of day. Everything that stamps a fact takes one, so that a test can hold time still.
pub trait Clock: Send + Sync + std::fmt::Debug {
    /// The time now, in UTC.
    fn now(&self) -> Timestamp;
}

/// The time of day as the operating system has it.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }
}
