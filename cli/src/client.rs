//! The control plane's API as plain calls: each has a deadline, and an answer or an error in the words of the model.
//!
//! | module | what it does |
//! |---|---|
//! | [`transport`] | an address into a connection |
//! | [`instances`] | calls about instances |
//! | [`nodes`] | calls about nodes, providers and join tokens |
//! | [`streams`] | logs and facts, one at a time |
//! | [`follow`], [`tail`] | facts and logs without an end, whatever becomes of the connection |
//! | [`patience`] | how long is waited between two tries |

pub(crate) mod follow;
mod instances;
pub(crate) mod nodes;
mod patience;
pub(crate) mod streams;
pub(crate) mod tail;
mod transport;

pub(crate) use transport::{is_loopback, undialled};

use std::{future::Future, time::Duration};

use tonic::{Request, Response, Status};
use wasmatrix_model::{Clock as _, ErrorCode, SystemClock, failure::Invalid};
use wasmatrix_wire::{
    Told, failure,
    protocol::{self, StampedClient},
};

use crate::{
    args::Global,
    error::{CliError, chain},
};

/// Longest wait for an answer, unless `--timeout` says otherwise.
const TIMEOUT: Duration = Duration::from_secs(30);
/// The same for what compiles a program first.
pub(crate) const START_TIMEOUT: Duration = Duration::from_secs(300);

/// A connection to a control plane.
pub(crate) struct Client {
    grpc: StampedClient,
    addr: String,
    timeout: Duration,
    quiet: bool,
}

impl Client {
    /// Connects to the control plane that the flags name.
    ///
    /// # Errors
    /// The address is none, or nobody answers there.
    pub(crate) async fn connect(global: &Global) -> Result<Self, CliError> {
        Self::connect_within(global, TIMEOUT).await
    }

    /// The same, with another default for the longest wait for an answer.
    ///
    /// # Errors
    /// As [`Client::connect`].
    pub(crate) async fn connect_within(global: &Global, timeout: Duration) -> Result<Self, CliError> {
        let channel = transport::connect(global).await?;
        Ok(Self {
            grpc: protocol::control_plane(channel)
                .max_decoding_message_size(usize::MAX) // our own server's answers; pages are bounded by their count
                .max_encoding_message_size(wasmatrix_wire::MESSAGE_BYTES_MAX),
            addr: global.addr.clone(),
            timeout: global.timeout.unwrap_or(timeout),
            quiet: global.quiet,
        })
    }

    /// Whom it asks.
    pub(crate) fn addr(&self) -> &str {
        &self.addr
    }

    /// Says something to the person at the keyboard, on standard error.
    pub(crate) fn say(&self, message: &str) {
        use std::io::Write as _;
        if !self.quiet {
            let _ = writeln!(std::io::stderr(), "{message}"); // not being heard is no failure
        }
    }

    /// A request that tells the server how long its answer is waited for.
    fn request<T>(&self, message: T) -> Request<T> {
        within(self.timeout, message)
    }

    async fn answer<T>(
        &self,
        call: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<T, CliError> {
        self.answer_within(self.timeout, call).await
    }

    async fn answer_within<T>(
        &self,
        patience: Duration,
        call: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<T, CliError> {
        match tokio::time::timeout(patience, call).await {
            Ok(Ok(response)) => Ok(response.into_inner()),
            Ok(Err(status)) => Err(transport::explained(told(&self.addr, &status)).await),
            Err(_) => Err(CliError::Deadline { addr: self.addr.clone(), seconds: patience.as_secs_f64() }),
        }
    }
}

fn within<T>(patience: Duration, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(patience);
    request
}

/// What a status means: a refusal of the server's, or that the connection failed, or that no Wasmatrix answered.
pub(crate) fn told(addr: &str, status: &Status) -> CliError {
    let failure = failure::from_status(status, SystemClock.now());
    let broken = |reason: String| CliError::Broken { addr: addr.to_owned(), reason };
    match std::error::Error::source(status) {
        Some(cause) if failure.code == ErrorCode::NodeUnavailable => broken(chain(cause)),
        // Ours always says more than its code.
        None if failure.code == ErrorCode::NodeUnavailable && status.details().is_empty() => {
            broken(failure.message)
        }
        Some(_) | None => CliError::Refused(failure),
    }
}

fn required<W: Told<M>, M>(field: &str, message: Option<W>) -> Result<M, CliError> {
    converted(field, present(field, message)?)
}

fn present<T>(field: &str, value: Option<T>) -> Result<T, CliError> {
    value.ok_or_else(|| nonsense(&Invalid::new(field, "is missing")))
}

fn converted<W: Told<M>, M>(field: &str, message: W) -> Result<M, CliError> {
    message.read().map_err(|invalid| nonsense(&invalid.within(field)))
}

fn nonsense(invalid: &Invalid) -> CliError {
    CliError::Answer { problem: invalid.to_string() }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;
    use crate::args::OutputFormat;

    fn global(addr: &str) -> Global {
        Global {
            addr: addr.to_owned(),
            certs: None,
            insecure_plaintext_i_trust_this_network: false,
            output: OutputFormat::Table,
            timeout: Some(Duration::from_secs(10)),
            quiet: true,
            verbose: 0,
            log: None,
            log_format: wasmatrix_telemetry::Format::Auto,
        }
    }

    #[tokio::test]
    async fn an_address_that_is_none_is_a_mistake_of_the_command_line() {
        for addr in ["", "127.0.0.1:7117", "https://127.0.0.1", "ftp://x", "http://", "http://a b"] {
            let Err(error) = Client::connect(&global(addr)).await else { panic!("{addr} was taken") };
            assert!(matches!(error, CliError::Usage { .. }), "{addr}: {error}");
        }
    }

    #[tokio::test]
    async fn plain_text_leaves_this_machine_only_on_demand() {
        let mut global = global("http://192.0.2.1:7117");
        global.timeout = Some(Duration::ZERO);
        let Err(error) = Client::connect(&global).await else { panic!("it was taken") };
        assert!(error.to_string().contains("write https://192.0.2.1:7117"), "{error}");
        assert_eq!(error.exit(), crate::error::Exit::Usage);
    }

    #[tokio::test]
    async fn where_nobody_listens_the_user_is_told_so_and_no_more() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = format!("http://{}", listener.local_addr().unwrap());
        drop(listener);
        let Err(error) = Client::connect(&global(&addr)).await else { panic!("somebody answered") };
        assert_eq!(error.to_string(), format!("no Wasmatrix answers at {addr}"));
        assert!(error.hint().unwrap().contains("wasmatrix up"));
    }

    #[tokio::test]
    async fn what_answers_and_is_no_wasmatrix_is_not_taken_for_one() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = format!("http://{}", listener.local_addr().unwrap());
        let server = tokio::spawn(async move {
            let (connection, _) = listener.accept().await.unwrap();
            drop(connection);
        });
        let client = Client::connect(&global(&addr)).await;
        let error = match client {
            Ok(client) => client.list(None).await.expect_err("it hung up"),
            Err(error) => error,
        };
        assert!(matches!(error, CliError::Broken { .. } | CliError::Unreachable { .. }), "{error:?}");
        server.await.unwrap();
    }
}
