//! Who is at the other end of a connection: certificates, roles, TLS on both ends, and tokens to join with.
//!
//! ```text
//!  control plane's machine                                          a node, or a user
//!  ───────────────────────                                          ─────────────────
//!  Authority ──issue(Order)──► Bundle ──write──► credentials/       credentials/ ◄──write── Bundle
//!     ▲                                             │                   │                     ▲
//!     │ sign(ProvenRequest, Order)                  ▼                   ▼                     │
//!     │                                      LiveCredentials     LiveCredentials              │
//!  Tokens ──create──► Token ─ ─ copied ─ ─ ─ ─ ─ ─ ─│─ ─ ─ ─ ─ ─ ─ ─ ─ ─│─ ─ ─► Token          │
//!     ▲                                             │ incoming          │ dialer     │        │
//!     │                                             ▼                   ▼            ▼        │
//!     │                      tonic server ◄── Incoming ◄═══TLS 1.3═══ Dialer      Dialer::pinned
//!     │ redeem                     │              (mutual)              │            │
//!     └────────────────────────────┤                                    ▼            │
//!                                  ▼                              tonic Channel   KeyAndRequest
//!                       Peer { identity: Role } in each
//!                       request's extensions ──► Access::check
//! ```
//!
//! A certificate says what its holder is by exactly one URI ([`Role`]). The crate knows nothing of what services mean:
//! it proves who is there, and [`Access`] decides purely whether that is enough; which method needs what is written
//! where the methods are.
//!
//! | to do this | take |
//! |---|---|
//! | make a cluster's authority, or open it | [`Authority::create`], [`Authority::open`] |
//! | make a certificate and its key | [`Authority::issue`] → [`Bundle::write`] |
//! | sign a joiner's or a renewing node's request | [`ProvenRequest::parse`] → [`Tokens::redeem`] → [`Authority::sign`] |
//! | ask to join | [`Dialer::pinned`] with [`Token::authority`], [`KeyAndRequest::generate`], then [`Bundle::prove`], [`Bundle::trusts_only`] and [`Bundle::write`] |
//! | use credentials, and follow their files | [`LiveCredentials::open`], [`LiveCredentials::follow`], [`LiveCredentials::reload_now`] |
//! | serve | [`LiveCredentials::incoming`] or [`Incoming::plain`] → tonic's `serve_with_incoming` |
//! | call | [`endpoint`] and [`LiveCredentials::dialer`] → [`Dialer::channel`] |
//! | know which certificates were signed | [`authority::issued`] |
//! | refuse a certificate before its end | [`credentials::revoke`] |
//! | know who calls | [`Peer::of`] the request, [`Peer::check`] its access, [`Identity::speaks_for`] a node |
//! | answer at length | [`Lasting`], which ends with the caller's certificate |
//!
//! | module | what it says |
//! |---|---|
//! | [`role`] | what a holder may be, as a URI |
//! | [`access`] | whether that is enough |
//! | [`certificate`] | what a certificate says |
//! | [`authority`] | how certificates are made |
//! | [`credentials`] | the three files of a member |
//! | [`live`] | how they are followed |
//! | [`accept`] | the server's end |
//! | [`dial`] | the client's end |
//! | [`verify`] | who is let through a handshake |
//! | [`token`] | how the first certificate is got |

#![forbid(unsafe_code)]

pub mod accept;
pub mod access;
pub mod authority;
mod bucket;
pub mod certificate;
pub mod credentials;
pub mod dial;
mod explain;
mod files;
pub mod live;
pub mod role;
mod tls;
pub mod token;
pub mod verify;

pub use accept::{
    ClientCertificate, Connection, HandshakeLimits, Incoming, Lasting, NotAServer, Peer, Refusals, Refused,
};
pub use access::{Access, Denied};
pub use authority::{
    Authority, AuthorityError, BadOrder, BadRequest, Host, Issued, KeyAndRequest, NotAHost, Order,
    ProvenRequest,
};
pub use certificate::{BadCertificate, Fingerprint, Identity, NotAFingerprint};
pub use credentials::{Bundle, Credentials, CredentialsError, PrivateKeyPem, Problem};
pub use dial::{DialError, Dialer, endpoint};
pub use files::{FileError, Overwrite};
pub use live::{Following, LiveCredentials, Reloaded};
pub use role::{Role, UnknownRole};
pub use token::{
    CreateError, For, Malformed, RedeemError, Redeemed, Token, TokenId, TokenInfo, TokenOrder, Tokens,
};
pub use verify::{Expected, Refusal};
