//! Each web server with its documented configuration before fcgimux and a real php-fpm: whatever a visitor asks is answered
//! as it would be by the same web server speaking to php-fpm itself.
#![allow(clippy::disallowed_methods, reason = "real peers need real time")]

#[path = "web_servers/cases.rs"]
mod cases;
#[path = "web_servers/facts.rs"]
mod facts;
#[path = "web_servers/front.rs"]
mod front;
#[path = "web_servers/haproxy.rs"]
mod haproxy;
#[path = "web_servers/recorder.rs"]
mod recorder;
#[path = "web_servers/stage.rs"]
mod stage;
mod support;
#[path = "web_servers/visitor.rs"]
mod visitor;

use std::time::Duration;

use front::Front;
use support::bounded;

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
