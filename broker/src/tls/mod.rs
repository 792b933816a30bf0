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

use std::io;

use rustls::InvalidMessage;

pub use error::TlsError;
pub(crate) use names::CertificateNames;
pub(crate) use reload::{ReloadingTls, TlsFiles};

/// Whether a handshake failed because the client does not speak TLS at all.
pub(crate) fn is_plain_text(error: &io::Error) -> bool {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
    matches!(inner, Some(rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType)))
}
