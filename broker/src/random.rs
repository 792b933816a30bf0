//! Randomness for the machines, which have none.

use tracing::error;

use crate::telemetry;

/// 128 bits from the operating system. Names made of them must not be guessed, so there is no second best.
pub(crate) fn random() -> u128 {
    let mut bits = [0; 16];
    match getrandom::fill(&mut bits) {
        Ok(()) => u128::from_le_bytes(bits),
        Err(error) => {
            error!(%error, "the operating system gives no random numbers; ending the process");
            telemetry::abort();
        }
    }
}
