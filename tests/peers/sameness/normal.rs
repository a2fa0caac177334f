//! Nothing fails: everything looks as it does without fcgimux.

use std::{thread, time::Duration};

use super::{
    case::Case,
    client::{Ending, Kept, Request, ask, get, post, request},
    seen::Seen,
    site::{Kind, apache, caddy, haproxy, lighttpd, nginx, nginx_kept, nginx_unbuffered},
    stage::{Application, Side},
};
use crate::support::{eventually, fcgi::Call};

const MIB: usize = 1 << 20;
const SOON: Duration = Duration::from_secs(5);

fn everywhere(name: &str, asks: impl IntoIterator<Item = Request>) -> Case {
    asks.into_iter().fold(Case::new(name).everywhere(), Case::ask)
}

pub(crate) fn requests() -> Vec<Case> {
    let multipart = {
        let mut body = b"--cut\r\nContent-Disposition: form-data; name=\"field\"\r\n\r\na value\r\n--cut\r\n\
            Content-Disposition: form-data; name=\"file\"; filename=\"name.bin\"\r\n\r\n"
            .to_vec();
        body.extend((0..300_000_u32).map(|number| u8::try_from(number % 251).expect("a byte")));
        body.extend(b"\r\n--cut--\r\n");
        request("POST", "/form.php").header("Content-Type: multipart/form-data; boundary=cut").body(body)
    };
    let form =
        "echo $_POST['field'], ' ', $_FILES['file']['size'], ' ', hash_file('sha256', $_FILES['file']['tmp_name']);";
    vec![
        everywhere(
            "methods",
            ["PUT", "DELETE", "PATCH", "OPTIONS"].map(|method| request(method, "/env.php").body("abc")),
        ),
        everywhere("methods without a body", ["DELETE", "OPTIONS", "HEAD"].map(|method| request(method, "/env.php"))),
        everywhere("a form", [post("/env.php?b=2", "a=1&b%5B%5D=%C3%A9&c=+x")]),
        everywhere("odd bytes in a query", [get("/env.php?a=%00%ff&b[]=1&b[]=2&&=&c=%2F%3F;d'\"<>|")])
            .but(Kind::Lighttpd),
        everywhere("a path behind the script", [get("/env.php/a%20b/c.d?x=1"), get("/env.php/")]),
        everywhere(
            "authorization and cookies",
            [get("/env.php")
                .header("Authorization: Basic dXNlcjpwYXNz")
                .header("Cookie: a=1; b=%20; c=\"x\"")
                .header("X-Two: 1")
                .header("X-Two: 2")
                .header("X-Empty:")
                .header("Accept-Language: de, en;q=0.5")],
        ),
        everywhere(
            "uploads",
            [
                request("POST", "/env.php").header("Content-Type: application/octet-stream").body(vec![7; MIB]),
                request("PUT", "/env.php").body(vec![b'p'; 100_000]),
            ],
        ),
        Case::new("a multipart upload").everywhere().script("form.php", form).ask(multipart).shows("a value 300000"),
        Case::new("an upload in chunks")
            .on(nginx())
            .on(lighttpd())
            .ask(request("POST", "/env.php").chunked(vec![b'c'; 200_000])),
        Case::new("a small upload in chunks")
            .on(nginx())
            .on(lighttpd())
            .on(haproxy())
            .ask(request("POST", "/env.php").chunked("abc")),
        everywhere("a script that is not there", [get("/missing.php"), post("/missing.php", "a=1")])
            .status(404)
            .runs(0),
    ]
}

/// Web servers that lose a body without a length before php-fpm.
pub(crate) fn better() -> Vec<Case> {
    let chunked = || request("POST", "/env.php").header("Content-Type: text/plain").chunked(vec![b'c'; 100_000]);
    vec![
        Case::new("an upload in chunks behind nginx that buffers nothing")
            .on(nginx_unbuffered())
            .ask(chunked())
            .better("chunked uploads", 200, Ending::Whole),
        Case::new("an upload in chunks behind Apache").on(apache()).ask(chunked()).better(
            "chunked uploads",
            200,
            Ending::Whole,
        ),
    ]
}

pub(crate) fn responses() -> Vec<Case> {
    let says =
        |name: &str, script: &str| Case::new(name).everywhere().script("a.php", script).ask(get("/a.php")).runs(1);
    vec![
        says("204", "http_response_code(204);").status(204),
        says("304", "header('ETag: \"x\"'); http_response_code(304);").status(304),
        says("a redirect", "header('Location: /elsewhere?x=1'); echo 'moved';").status(302),
        says("a redirect with a status", "header('Location: http://test/x', true, 308);")
            .status(308)
            .but(Kind::Haproxy),
        says("a status of its own", "header('HTTP/1.1 418 I am a teapot'); echo 'tea';").status(418),
        says("500 with a page", "http_response_code(500); echo 'sorry';").status(500),
        says("401", "header('WWW-Authenticate: Basic realm=\"x\"'); http_response_code(401); echo 'who?';").status(401),
        says("many cookies", "for ($i = 0; $i < 30; $i++) { setcookie(\"c$i\", str_repeat('v', 60)); } echo 'ok';"),
        says(
            "headers of its own",
            "header('X-One: 1'); header('X-One: 2', false); header('Content-Type: image/png'); echo 'x';",
        ),
        says("an empty response", ""),
        says("exit with a status", "echo 'part'; exit(1);"),
        says("a fatal error", "header('X-A: 1'); undefined_function();").status(500),
        says("a length of its own", "header('Content-Length: 5'); echo 'abcde';"),
        says("zipped by PHP", "ini_set('zlib.output_compression', '1'); echo str_repeat('z', 5000);"),
        says(
            "output in steps",
            "for ($i = 0; $i < 5; $i++) { echo \"step $i\\n\"; ob_flush(); flush(); usleep(20000); }",
        ),
        says("8 MiB", "for ($i = 0; $i < 128; $i++) { echo str_repeat(chr(65 + $i % 26), 65536); }"),
        says("a finished response and stray output", "echo 'done'; fastcgi_finish_request(); echo 'stray'; flush();"),
        says("a shutdown function that writes", "register_shutdown_function(fn() => print('end')); echo 'begin ';"),
        Case::new("a header that is too large for nginx")
            .on(nginx())
            .on(nginx_kept())
            .script("a.php", "header('X-Long: ' . str_repeat('v', 9000)); echo 'body';")
            .ask(get("/a.php"))
            .status(502),
        says("binary", "for ($i = 0; $i < 256; $i++) { echo chr($i); } echo \"\\r\\n\\r\\n\\0\";"),
    ]
}

/// Clients that go away, and more of them than there are workers.
pub(crate) fn clients() -> Vec<Case> {
    let steps = "note('begun'); register_shutdown_function(fn() => note('ended ' . connection_status()));
        for ($i = 0; $i < 30; $i++) { echo str_repeat('s', 9000); flush(); usleep(50000); }";
    let leaves = |name: &str, script: &str| {
        Case::new(name).script("steps.php", script).does(|side| {
            let mut kept = Kept::to(side.address());
            kept.only_send(&get("/steps.php"));
            let some = kept.read_some(1);
            Seen::default().and("bytes", some)
        })
    };
    vec![
        leaves("a script whose client leaves", steps)
            .on(nginx_unbuffered())
            .on(lighttpd())
            .on(caddy())
            .on(haproxy())
            .runs(1),
        leaves("a script that ignores that its client leaves", &format!("ignore_user_abort(true); {steps}"))
            .on(nginx_unbuffered())
            .on(caddy())
            .runs(1),
        Case::new("a request whose client leaves before there is a worker")
            .before(|theme| Application::php(theme, |php| php.set("pm.max_children", "1"), |mux| mux))
            .script("slow.php", "usleep(700000); echo 'slow';")
            .script("cron.php", "echo 'cron';")
            .does(leaves_while_waiting)
            .in_turn()
            .unledgered(),
        Case::new("more requests than workers")
            .before(|theme| Application::php(theme, |php| php.set("pm.max_children", "2"), |mux| mux))
            .on(nginx())
            .on(haproxy())
            .script("slow.php", "usleep(150000); echo 'slow ', $_GET['n'];")
            .does(crowd)
            .in_turn()
            .runs(12),
    ]
}

/// Behind one that keeps the only worker busy; other than php-fpm, fcgimux knows that nobody waits for it any more.
fn leaves_while_waiting(side: &Side<'_>) -> Seen {
    let mut busy = side.connect();
    busy.send(&Call::get(&side.script("slow.php")).last().bytes());
    assert!(eventually(SOON, || side.has_noted("run GET slow.php")), "the worker is busy");
    side.connect().send(&Call::get(&side.script("cron.php")).last().bytes());
    assert!(busy.reply(SOON).ended);
    // The worker reads until its client closes.
    busy.close();
    let next = side.connect().call(&Call::get(&side.script("ok.php")).last(), SOON);
    assert_eq!(side.has_noted("run GET cron.php"), !side.is_through());
    Seen::default().and("the next", next.text())
}

/// Twelve clients at once.
fn crowd(side: &Side<'_>) -> Seen {
    thread::scope(|scope| {
        let ask_one = |number| move || ask(side.address(), &get(&format!("/slow.php?n={number}")));
        let clients: Vec<_> = (0..12).map(|number| scope.spawn(ask_one(number))).collect();
        clients.into_iter().map(|client| client.join().expect("a client")).collect()
    })
}

/// What web servers do with a response.
pub(crate) fn own_words() -> Vec<Case> {
    let complains = "error_log('a word of warning', 4); echo 'complained';";
    vec![
        Case::new("a message in the log")
            .on(nginx())
            .on(nginx_kept())
            .on(apache())
            .on(lighttpd())
            .script("complain.php", complains)
            .ask(get("/complain.php"))
            .logs("a word of warning"),
        Case::new("X-Accel-Redirect")
            .on(nginx().site("location /inner/ { internal; alias {root}/; }"))
            .script("redirect.php", "header('X-Accel-Redirect: /inner/page.txt');")
            .file("page.txt", "the page behind it\n")
            .ask(get("/redirect.php"))
            .shows("the page behind it"),
        Case::new("X-Accel-Redirect to another script")
            .on(nginx())
            .script("redirect.php", "header('X-Accel-Redirect: /env.php');")
            .ask(post("/redirect.php", "a=1"))
            .shows("SCRIPT_NAME=/env.php")
            .runs(2),
        Case::new("X-Sendfile")
            .on(lighttpd().pass(", \"x-sendfile\" => \"enable\""))
            .script("send.php", "header('X-Sendfile: ' . __DIR__ . '/page.txt');")
            .file("page.txt", "the page behind it\n")
            .ask(get("/send.php"))
            .shows("the page behind it"),
        Case::new("a Range of a cached response")
            .on(nginx()
                .top("fastcgi_cache_path {folder}/cache keys_zone=z_{side}:1m;")
                .pass("fastcgi_force_ranges on; fastcgi_cache z_{side}; fastcgi_cache_key $uri; fastcgi_cache_valid 200 1m; add_header X-Cache $upstream_cache_status;"))
            .script("long.php", "header('Content-Length: 1000'); echo str_repeat('0123456789', 100);")
            .ask(get("/long.php"))
            .ask(get("/long.php").header("Range: bytes=10-19"))
            .status(206)
            .runs(1),
        Case::new("a Range of an uncached response")
            .everywhere()
            .script("long.php", "header('Content-Length: 1000'); echo str_repeat('0123456789', 100);")
            .ask(get("/long.php").header("Range: bytes=10-19"))
            .but(Kind::Lighttpd),
        Case::new("intercepted errors")
            .on(nginx().site("error_page 404 /own.html;").pass("fastcgi_intercept_errors on;"))
            .on(apache().site("ProxyErrorOverride On\n ErrorDocument 404 /own.html"))
            .on(caddy().site("handle_errors {\n rewrite * /own.html\n file_server\n }"))
            .script("missing.php", "http_response_code(404); echo 'the script says so';")
            .file("own.html", "the web server's own page\n")
            .ask(get("/missing.php"))
            .status(404),
        Case::new("requests one after the other on a connection")
            .everywhere()
            .ask_kept(get("/ok.php"))
            .ask_kept(post("/env.php", "a=1"))
            .ask_kept(get("/env.php?2"))
            .runs(3),
        Case::new("gzip of the web server")
            .on(nginx().site("gzip on; gzip_types text/plain;"))
            .script("page.php", "echo str_repeat('a line like the one before ', 3000);")
            .ask(get("/page.php").header("Accept-Encoding: gzip")),
    ]
}
