//! The rooms that need no server, as a crate of their own.

#![allow(warnings, arithmetic_overflow, overflowing_literals, unconditional_panic)]

// what they name of pgrx
extern crate self as pgrx;
include!("pgrx.rs");

mod mutant;

mod civil;
mod column_set;
mod destination;
mod envelope;
mod error;
mod image;
mod json;
mod mapping;
mod merge;
mod message;
mod route;
mod spell;
mod statement;
