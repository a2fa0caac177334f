//! Tests with real peers: nginx, php-fpm, HAProxy and others, started by the tests and ended by them. One program, so that what
//! they share is built once.

mod admin;
mod applications;
mod behind;
mod between;
mod command;
mod discovery;
mod discovery_kubernetes;
mod facts;
mod generic;
mod generic_facts;
mod limits;
mod logging;
mod monitoring;
mod multiplex;
mod page;
mod real_applications;
mod reload;
mod sameness;
mod scopes;
mod smuggling;
mod status;
#[path = "../support/mod.rs"]
mod support;
mod support_selftest;
mod under_load;
mod uploads;
mod web_server;
mod web_servers;
