//! Cancels, time-outs and shutdowns while Rust code runs: the server looks for them only between its own
//! steps.

/// Ends the call, by a panic that pgrx turns back into the server's error, if it is cancelled or the server
/// shuts down. It costs a look at one variable; a loop over what a batch may have a million of calls it each
/// time.
#[inline]
pub fn check() {
    pgrx::check_for_interrupts!();
}
