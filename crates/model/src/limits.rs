//! How much an instance may use. Every limit has a default, a ceiling, a unit in its name and an error of its own.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::failure::Invalid;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// What one instance may use. [`Limits::default`] suits a small job; [`Limits::validate`] says what is possible.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// All linear memories together, in bytes.
    pub memory_bytes_max: u64,
    /// All tables together, in elements.
    pub table_elements_max: u64,
    /// Resource handles (streams, pollables, buckets) held at one time.
    pub handles_max: u32,
    /// Wall time of one run. `None`: as long as it likes.
    #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::optional")]
    pub wall_time_max: Option<Duration>,
    /// Processor time in a second of wall time, in milliseconds: 1000 is one whole core.
    pub cpu_millis_per_second: u32,
    /// Log lines in a second; what is over is dropped and counted.
    pub log_lines_per_second: u32,
    /// One log line, in bytes; a longer one is cut and marked.
    pub log_line_bytes_max: u32,
    /// Log lines kept for `logs`; the oldest goes first.
    pub log_lines_kept: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory_bytes_max: 256 * MIB,
            table_elements_max: 200_000,
            handles_max: 10_000,
            wall_time_max: None,
            cpu_millis_per_second: 1000,
            log_lines_per_second: 1000,
            log_line_bytes_max: 8 * 1024,
            log_lines_kept: 1000,
        }
    }
}

impl Limits {
    /// Largest `memory_bytes_max`: what a 32-bit Wasm memory can address.
    pub const MEMORY_BYTES_CEILING: u64 = 4 * GIB;
    /// Largest `table_elements_max`: the size of the pooled table slots.
    pub const TABLE_ELEMENTS_CEILING: u64 = 1_000_000;

    /// Checks every limit against what is possible.
    ///
    /// # Errors
    /// The first limit that is out of range, with the range.
    pub fn validate(&self) -> Result<(), Invalid> {
        let range = |field: &str, value: u64, low: u64, high: u64, unit: &str| {
            if (low..=high).contains(&value) {
                return Ok(());
            }
            Err(Invalid::new(field, format!("{value} {unit} is out of range: take {low} to {high}")))
        };
        range("memory", self.memory_bytes_max, 64 * KIB, Self::MEMORY_BYTES_CEILING, "bytes")?;
        range("table_elements", self.table_elements_max, 1, Self::TABLE_ELEMENTS_CEILING, "elements")?;
        range("handles", self.handles_max.into(), 16, 1_000_000, "handles")?;
        range("cpu_millis_per_second", self.cpu_millis_per_second.into(), 10, 1000, "ms")?;
        range("log_lines_per_second", self.log_lines_per_second.into(), 1, 100_000, "lines")?;
        range("log_line_bytes", self.log_line_bytes_max.into(), 80, 64 * KIB, "bytes")?;
        range("log_lines_kept", self.log_lines_kept.into(), 1, 100_000, "lines")?;
        match self.wall_time_max {
            Some(time) if time < Duration::from_millis(1) || time > Duration::from_secs(366 * 86_400) => {
                Err(Invalid::new("wall_time", format!("{time:?} is out of range: take 1ms to 366 days")))
            }
            Some(_) | None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_legal_and_the_edges_are_edges() {
        assert_eq!(Limits::default().validate(), Ok(()));
        let memory = |bytes| Limits { memory_bytes_max: bytes, ..Limits::default() }.validate();
        assert!(memory(4 * GIB).is_ok());
        assert!(memory(4 * GIB + 1).is_err());
        assert!(memory(64 * KIB).is_ok());
        assert!(memory(64 * KIB - 1).is_err());
        assert!(Limits { wall_time_max: Some(Duration::ZERO), ..Limits::default() }.validate().is_err());
    }
}
