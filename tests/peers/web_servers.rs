//! Each web server with its documented configuration before fcgimux and a real php-fpm: whatever a visitor asks is answered
//! as it would be by the same web server speaking to php-fpm itself.
#![allow(clippy::disallowed_methods, reason = "real peers need real time")]

mod cases;
mod facts;
mod front;
mod haproxy;
mod recorder;
mod stage;
mod visitor;

use std::time::Duration;

use crate::support::bounded;
use front::Front;

fn matrix(front: Front) {
    bounded(Duration::from_secs(100), move || cases::run(front));
}

#[test]
fn nginx_with_a_connection_for_each_request_serves_as_if_php_fpm_were_behind_it() {
    matrix(front::NGINX);
}

#[test]
fn nginx_with_kept_connections_serves_as_if_php_fpm_were_behind_it() {
    matrix(front::NGINX_KEPT);
}

#[test]
fn nginx_that_buffers_nothing_serves_as_if_php_fpm_were_behind_it() {
    matrix(front::NGINX_UNBUFFERED);
}

#[test]
fn apache_with_a_connection_for_each_request_serves_as_if_php_fpm_were_behind_it() {
    matrix(front::APACHE);
}

#[test]
fn apache_with_kept_connections_serves_as_if_php_fpm_were_behind_it() {
    matrix(front::APACHE_KEPT);
}

#[test]
fn lighttpd_serves_as_if_php_fpm_were_behind_it() {
    matrix(front::LIGHTTPD);
}

#[test]
fn caddy_serves_as_if_php_fpm_were_behind_it() {
    matrix(front::CADDY);
}

#[test]
fn haproxy_with_a_connection_for_each_request_serves_as_if_php_fpm_were_behind_it() {
    matrix(front::HAPROXY);
}

#[test]
fn haproxy_with_kept_connections_serves_as_if_php_fpm_were_behind_it() {
    matrix(front::HAPROXY_KEPT);
}

#[test]
fn haproxy_with_many_exchanges_on_a_connection_serves_as_if_php_fpm_were_behind_it() {
    matrix(front::HAPROXY_MANY);
}
