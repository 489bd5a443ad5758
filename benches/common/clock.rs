//! How long a process of the server has worked.

use std::fs;

/// Nanoseconds that the server's process has been on a CPU, if it is on this machine and the kernel tells.
pub fn on_cpu(process: i32) -> Option<u64> {
    let proc = format!("/proc/{process}");
    if fs::read_to_string(format!("{proc}/comm")).ok()?.trim() != "postgres" {
        return None;
    }
    fs::read_to_string(format!("{proc}/schedstat"))
        .ok()?
        .split(' ')
        .next()?
        .parse()
        .ok()
}
