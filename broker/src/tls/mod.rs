//! TLS for clients: what the server shows them, what it wants to see, and who they are by what they show.
//!
//! TLS 1.2 and 1.3 with ephemeral keys and authenticated ciphers are all that there is; nothing older is compiled in. There is
//! no compression, no renegotiation and no way to turn a check off. The files are followed while the node runs (`reload`).

mod error;
mod material;
mod names;
mod reload;
#[cfg(test)]
mod tests;
mod validity;

pub use error::TlsError;
pub(crate) use material::mistakes;
pub(crate) use names::CertificateNames;
pub(crate) use reload::{ReloadingTls, TlsFiles};
