//! Requests whose CONTENT_LENGTH speaks of a body that never comes, or that is complete without an end of STDIN.

use std::time::Duration;

use super::{
    case::Case,
    client::{get, post},
    seen::Seen,
    site::{apache, caddy, haproxy, lighttpd, nginx, nginx_kept, nginx_unbuffered},
    stage::Side,
};
use crate::support::fcgi::{Call, begin, params, stdin_end};

const SOON: Duration = Duration::from_secs(5);
/// Tells what it sees, and lets everybody pass.
const AUTH: &str =
    "note('auth ' . $_SERVER['REQUEST_METHOD'] . ' ' . json_encode($_SERVER['CONTENT_LENGTH'] ?? null) . ' '
    . strlen(file_get_contents('php://input')) . ' ' . json_encode($_POST)); http_response_code(204);";
const TO_AUTH: &str =
    "include /etc/nginx/fastcgi_params; fastcgi_param SCRIPT_FILENAME {root}/auth.php; fastcgi_pass {pass};";

/// `location = /p.php` asks `/a` first, which passes to auth.php in this way.
fn asked_first(name: &str, lines: &str) -> Case {
    let auth =
        format!("location = /p.php {{ auth_request /a; {{php}} }} location = /a {{ internal; {TO_AUTH} {lines} }}");
    behind_auth(name).on(nginx().site(&auth))
}

fn behind_auth(name: &str) -> Case {
    let case = Case::new(name).script("auth.php", AUTH).script("p.php", "echo json_encode($_POST), \"\\n\";");
    case.ask(post("/p.php", "a=1")).ask(get("/p.php")).ask(post("/p.php", vec![b'a'; 70_000])).runs(6)
}

pub(crate) fn subrequests() -> Vec<Case> {
    let mirror = |body: &str| {
        format!(
            "location = /p.php {{ mirror /a; mirror_request_body {body}; {{php}} }} location = /a {{ internal; {TO_AUTH} }}"
        )
    };
    vec![
        asked_first("auth_request, nothing else said", ""),
        asked_first("auth_request without the body", "fastcgi_pass_request_body off;"),
        asked_first(
            "auth_request without body and length",
            "fastcgi_pass_request_body off; fastcgi_param CONTENT_LENGTH \"\";",
        ),
        asked_first("auth_request with an empty length", "fastcgi_param CONTENT_LENGTH \"\";"),
        asked_first("auth_request as a GET", "fastcgi_pass_request_body off; fastcgi_param REQUEST_METHOD GET;"),
        behind_auth("a mirror without the body").on(nginx().site(&mirror("off"))),
        behind_auth("a mirror with the body").on(nginx().site(&mirror("on"))),
        behind_auth("Caddy's forward_auth").on(caddy()
            .site("forward_auth {pass} {\n uri /auth.php\n transport fastcgi {\n root {root}\n split .php\n }\n }")),
        Case::new("Apache's SSI of a POST")
            .on(apache()
                .top(
                    "LoadModule include_module /usr/lib/apache2/modules/mod_include.so\n\
                      LoadModule mime_module /usr/lib/apache2/modules/mod_mime.so\nTypesConfig /dev/null",
                )
                .site(
                    "<Directory {root}>\n Options +Includes\n AddType text/html .shtml\n \
                       AddOutputFilter INCLUDES .shtml\n </Directory>",
                ))
            .file("page.shtml", "<!--#include virtual=\"/env.php\"-->")
            .ask(post("/page.shtml", "a=1"))
            .shows("REQUEST_METHOD=")
            .runs(1),
        Case::new("Caddy's handle_response behind a POST")
            .on(caddy().site(
                "route /first.php {\n reverse_proxy {pass} {\n transport fastcgi {\n root {root}\n split .php\n }\n \
                 @second header X-Second *\n handle_response @second {\n rewrite * /env.php\n \
                 reverse_proxy {pass} {\n transport fastcgi {\n root {root}\n split .php\n }\n }\n }\n }\n }",
            ))
            .script("first.php", "header('X-Second: 1'); echo 'first';")
            .ask(post("/first.php", "a=1"))
            .shows("CONTENT_LENGTH=3")
            .runs(2),
    ]
}

pub(crate) fn withheld() -> Vec<Case> {
    let shows = |name: &str, words: &str| Case::new(name).shows(words).ask(post("/env.php", "a=1"));
    vec![
        shows("fastcgi_pass_request_body off", "CONTENT_LENGTH=3")
            .on(nginx().pass("fastcgi_pass_request_body off;"))
            .on(nginx_kept().pass("fastcgi_pass_request_body off;")),
        shows("CONTENT_LENGTH twice, the second empty", "BODY 0")
            .on(nginx().pass("fastcgi_param CONTENT_LENGTH \"\";")),
        shows("CONTENT_LENGTH twice, both the same", "BODY 3")
            .on(nginx().pass("fastcgi_param CONTENT_LENGTH $content_length;")),
        Case::new("error_page of a body that is too large")
            .on(nginx().site("error_page 413 = /env.php;").pass("client_max_body_size 64k;"))
            .on(nginx_unbuffered().site("error_page 413 = /env.php;").pass("client_max_body_size 64k;"))
            .ask(post("/env.php", vec![b'a'; 70_000]))
            .shows("CONTENT_LENGTH=70000"),
        Case::new("error_page of a missing page behind a POST")
            .on(nginx().site("error_page 404 = /env.php;"))
            .on(lighttpd().site("server.error-handler-404 = \"/env.php\""))
            .ask(post("/missing.html", "a=1"))
            .shows("REQUEST_METHOD="),
        Case::new("an empty POST").everywhere().ask(post("/env.php", "")).shows("BODY 0"),
        Case::new("an empty POST over HTTP/2 behind HAProxy")
            .on(haproxy())
            .curl(0, &["--http2-prior-knowledge", "-d", "", "-o", "/dev/null", "-w", "%{http_code}", "{url}/ok.php"]),
        Case::new("a POST over HTTP/2 behind HAProxy")
            .on(haproxy())
            .curl(0, &["--http2-prior-knowledge", "-d", "a=1", "{url}/p.php"])
            .script("p.php", "echo json_encode($_POST);"),
    ]
}

/// Records that no web server sends so, but other clients do.
pub(crate) fn records() -> Vec<Case> {
    vec![
        Case::new("a GET without an end of STDIN")
            .does(|side| called(side, &Call::get(&side.script("env.php")).unended())),
        Case::new("a POST without an end of STDIN")
            .does(|side| called(side, &Call::post(&side.script("env.php"), "abc").unended())),
        Case::new("a GET without a body whose length is 100")
            .does(|side| called(side, &Call::get(&side.script("env.php")).param("CONTENT_LENGTH", "100"))),
        Case::new("a POST without a body whose length is 100")
            .does(|side| called(side, &Call::new("POST", &side.script("env.php")).param("CONTENT_LENGTH", "100"))),
        Case::new("an end of STDIN that comes late").does(|side| {
            let mut connection = side.connect();
            connection.send(&Call::post(&side.script("env.php"), "abc").last().unended().bytes());
            let reply = connection.reply(SOON);
            let late = connection.try_send(&stdin_end(1)).is_ok();
            Seen::of_reply(&reply).and("an end of STDIN is taken behind it", late)
        }),
        Case::new("params that end with the request, on a kept connection").does(|side| {
            let mut connection = side.connect();
            let values = [("SCRIPT_FILENAME", side.script("env.php")), ("REQUEST_METHOD", "GET".to_owned())];
            let call = [begin(1, true), params(1, values)].concat();
            connection.send(&call);
            let first = connection.reply(SOON);
            connection.send(&call);
            let second = connection.reply(SOON);
            Seen::of_reply(&first).and("the second", second.text())
        }),
    ]
}

fn called(side: &Side<'_>, call: &Call) -> Seen {
    Seen::of_reply(&side.connect().call(&call.clone().last(), SOON))
}
