//! Tests that load the machine: one at a time.

mod bodies;
mod budget;
mod fleet;
mod monitoring;
mod multiplex;
mod reconfigure;
mod recycling;
mod reload;
mod traffic;
mod workers;
