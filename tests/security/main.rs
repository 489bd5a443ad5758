//! Attacks, a file each: the attacking role over a connection of its own gets an error or nothing.

#![forbid(unsafe_code)]

mod a_setting_that_does_not_exist;
mod a_temporary_view;
