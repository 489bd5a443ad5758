//! Changes of mappings, destinations and types are seen by sessions that have used them before.

#![forbid(unsafe_code)]

mod destinations;
mod mappings;
