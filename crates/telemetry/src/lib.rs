//! Logs of the system itself, behind one [`init`] that gives a [`Guard`].
//!
//! Logs go to standard error, as text for people or as JSON for machines. The threads that do the work never wait for
//! whoever reads them: lines pass through a bounded queue to a thread of their own, and what does not fit is counted
//! and said. What a *guest* says is not a log of the system; the agent keeps that.
//!
//! ```text
//!  tracing macros ─► filter ─► text | JSON ─► queue of QUEUE_LINES_MAX ─► thread ─► standard error
//!                                               └─ full: dropped, counted
//! ```

#![forbid(unsafe_code)]

mod queue;

use std::{fmt, io::IsTerminal as _, str::FromStr};

use tracing_subscriber::{EnvFilter, fmt::MakeWriter};

pub use queue::{Guard, QUEUE_LINES_MAX};

/// How a log line looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// Text on a terminal, JSON otherwise.
    #[default]
    Auto,
    /// One line of text, coloured on a terminal.
    Text,
    /// One JSON object on each line.
    Json,
}

impl Format {
    /// Every format there is.
    pub const ALL: [Self; 3] = [Self::Auto, Self::Text, Self::Json];

    /// The word that users write.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Text => "text",
            Self::Json => "json",
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Format {
    type Err = InitError;

    fn from_str(text: &str) -> Result<Self, InitError> {
        let found = Self::ALL.into_iter().find(|format| format.as_str() == text);
        found.ok_or_else(|| InitError::Format { text: text.to_owned() })
    }
}

/// What is logged, and how it looks.
#[derive(Clone, Debug)]
pub struct Config {
    /// How a line looks.
    pub format: Format,
    /// Which lines, in the language of `RUST_LOG`: `info`, or `warn,wasmatrix_agent=debug`.
    pub filter: String,
    /// Whether a terminal may be given colours.
    pub colour: bool,
}

/// Why logging could not begin.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// The filter does not parse.
    #[error(
        "`{filter}` is no log filter: write off, error, warn, info, debug or trace, or TARGET=LEVEL with commas between"
    )]
    Filter {
        /// What was given.
        filter: String,
    },
    /// The format is unknown.
    #[error("`{text}` is no log format: write auto, text or json")]
    Format {
        /// What was given.
        text: String,
    },
    /// The thread that writes could not be started.
    #[error("the log's thread could not be started")]
    Thread(#[source] std::io::Error),
    /// A process has one log.
    #[error("logging has begun already in this process")]
    Twice,
}

/// Begins to log, for the whole process. What is still queued is written when the guard is dropped.
///
/// # Errors
/// The filter does not parse, there is no thread to be had, or it was called before.
pub fn init(config: &Config) -> Result<Guard, InitError> {
    let filter = EnvFilter::builder()
        .parse(&config.filter)
        .map_err(|_| InitError::Filter { filter: config.filter.clone() })?;
    let terminal = std::io::stderr().is_terminal();
    let (writer, guard) = queue::to(std::io::stderr()).map_err(InitError::Thread)?;
    let json = match config.format {
        Format::Auto => !terminal,
        Format::Text => false,
        Format::Json => true,
    };
    install(filter, json, terminal && config.colour, writer)?;
    Ok(guard)
}

fn install<W>(filter: EnvFilter, json: bool, ansi: bool, writer: W) -> Result<(), InitError>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer).with_ansi(ansi);
    let installed = if json {
        builder.json().flatten_event(true).with_current_span(true).with_span_list(false).try_init()
    } else {
        builder.compact().try_init()
    };
    installed.map_err(|_| InitError::Twice)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_format_reads_back_as_itself() {
        for format in Format::ALL {
            assert_eq!(format.as_str().parse::<Format>().unwrap(), format);
        }
        assert!("yaml".parse::<Format>().unwrap_err().to_string().contains("`yaml`"));
    }

    #[test]
    fn a_filter_that_does_not_parse_is_shown_back() {
        let config = Config { format: Format::Auto, filter: "wasmatrix=loud".to_owned(), colour: false };
        assert!(init(&config).unwrap_err().to_string().contains("`wasmatrix=loud`"));
    }
}
