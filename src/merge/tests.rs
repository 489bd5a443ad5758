//! Compares the rule with a simulated source and a model of the destination, then tests each clause alone.

#![forbid(unsafe_code)]

mod examples;
mod generators;
mod law;
mod model;
mod order;
mod past;
mod plain_images;
mod source;
mod time;

use super::*;
use crate::message::Version;

const SECOND: i64 = 1_000_000;
const READ_SKEW: i64 = 5 * SECOND;
