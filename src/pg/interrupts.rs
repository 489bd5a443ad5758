//! Cancels, time-outs and shutdowns while Rust code runs. The server itself looks for them only between its
//! own steps.

/// If the call is cancelled or the server shuts down, ends the call by a panic that pgrx turns back into the
/// server's error. The check reads one variable. Every loop that a batch can repeat a million times calls it
/// in each round.
#[inline]
pub fn check() {
    pgrx::check_for_interrupts!();
}
