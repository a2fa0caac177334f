//! WordPress, from its installer to its export.

use std::{fs, path::Path, process::Command, time::Duration};

use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::{Value, json};

use super::{
    LIMIT,
    browser::Page,
    form::Form,
    pair::{Installation, Pair},
    picture::{noise, picture},
    stage::Stage,
};
use crate::support::{Site, bounded, eventually, in_own_network, mariadb};

const PACKAGE: &str = "/usr/share/wordpress";
const PASSWORD: &str = "Secret-1234567";
/// A plugin that every installation has: no mail, no calls to other hosts, no pings, which wp-cron would do at one moment or
/// another, and a job for wp-cron that works for a while and counts how often it was done.
const PLUGIN: &str = "<?php
define('WP_HTTP_BLOCK_EXTERNAL', true);
remove_action('publish_post', '_publish_post_hook', 5);
add_filter('pre_wp_mail', '__return_true');
add_filter('wp_is_application_passwords_available', '__return_true');
add_action('wp_ajax_plan_job', function () { wp_schedule_single_event(time(), 'job'); wp_die('planned'); });
add_action('job', function () { usleep(700000); update_option('jobs_done', get_option('jobs_done', 0) + 1); });
";
const LARGE_POSTS: usize = 12;
const LARGE: usize = 512 * 1024;
const ARCHIVE: usize = 12 << 20;

#[test]
#[ignore = "long, and needs Debian's wordpress"]
fn stress_wordpress_is_the_same_through_fcgimux() {
    if !in_own_network("real_applications::wordpress::stress_wordpress_is_the_same_through_fcgimux") {
        return;
    }
    bounded(LIMIT, || {
        let stage = Stage::start();
        let mut pair = Pair::on(&stage, site);
        install(&mut pair);
        write(&mut pair);
        rest(&mut pair);
        upload(&mut pair);
        cron(&mut pair);
        read(&mut pair);
        refuse(&mut pair);
        let tables = ["posts", "postmeta", "comments", "users", "usermeta", "terms", "term_relationships"];
        for table in tables {
            pair.compare_rows(&format!("SELECT COUNT(*) FROM wp_{table}"));
        }
        pair.compare_rows(
            "SELECT ID, post_type, post_status, post_name, LENGTH(post_content) FROM wp_posts ORDER BY ID",
        );
        pair.finish();
    });
}

/// Links of WordPress as its handbook has them for nginx.
fn site(site: Site, root: &Path) -> Site {
    copy(root);
    fs::remove_file(root.join("wp-config.php")).expect("Debian's own configuration");
    let plugins = root.join("wp-content/mu-plugins");
    fs::create_dir(&plugins).expect("a folder for the plugin");
    fs::write(plugins.join("test.php"), PLUGIN).expect("the plugin");
    run("chown", &["-R", "www-data", &root.display().to_string()]);
    site.http("include /etc/nginx/mime.types")
        .server("location / { try_files $uri $uri/ /index.php?$args; } index index.php")
        // Debian's parameters name the host without its port.
        .location("fastcgi_param HTTP_HOST $http_host")
}

/// WordPress finds its configuration beside the real path of its files, so that links will not do.
fn copy(root: &Path) {
    run("cp", &["-rL", PACKAGE, &root.display().to_string()]);
}

#[track_caller]
fn run(program: &str, arguments: &[&str]) {
    let status = Command::new(program).args(arguments).status().expect("a program of Debian's");
    assert!(status.success(), "{program} {arguments:?}");
}

fn install(pair: &mut Pair<'_>) {
    pair.step("a site without a configuration leads to the installer", |wordpress| {
        wordpress.browser.open("/").shows(200, "Before getting started");
    });
    pair.step("the installer takes the database and writes the configuration", |wordpress| {
        let page = wordpress.browser.open("/wp-admin/setup-config.php?step=1&language=en_US&noapi");
        let form = Form::with("dbname", &page.text)
            .set("dbname", &wordpress.database)
            .set("uname", mariadb::USER)
            .set("pwd", mariadb::PASSWORD)
            .set("dbhost", "localhost");
        wordpress.browser.submit(&page, &form).shows(200, "Successful database connection");
    });
    pair.step("the installer makes the tables", |wordpress| {
        let page = wordpress.browser.open("/wp-admin/install.php?language=en_US");
        let form = Form::with("weblog_title", &page.text)
            .set("weblog_title", "A site")
            .set("user_name", "admin")
            .set("admin_password", PASSWORD)
            .set("admin_password2", PASSWORD)
            .set("pw_weak", "on")
            .set("admin_email", "admin@example.org");
        wordpress.browser.submit(&page, &form).shows(200, "WordPress has been installed");
    });
    pair.step("a wrong password is refused", |wordpress| {
        log_in(wordpress, "wrong").shows(200, "is incorrect");
    });
    pair.step("log in", |wordpress| {
        log_in(wordpress, PASSWORD).shows(200, "Welcome to WordPress!");
    });
    pair.step("links by name", |wordpress| {
        let page = wordpress.browser.open("/wp-admin/options-permalink.php");
        let form = Form::with("permalink_structure", &page.text)
            .set("selection", "/%postname%/")
            .set("permalink_structure", "/%postname%/");
        wordpress.browser.submit(&page, &form).shows(200, "Permalink structure updated");
    });
}

fn log_in(wordpress: &mut Installation<'_>, password: &str) -> Page {
    let page = wordpress.browser.open("/wp-login.php");
    let form = Form::with("log", &page.text).set("log", "admin").set("pwd", password);
    wordpress.browser.submit(&page, &form)
}

fn write(pair: &mut Pair<'_>) {
    pair.step("write a post in the editor", |wordpress| {
        let page = wordpress.browser.open("/wp-admin/post-new.php");
        let post = page.between("initializeEditor( 'editor', \"post\", ", ",");
        let content = "<!-- wp:paragraph --><p>About a hedgehog.</p><!-- /wp:paragraph -->";
        let path = format!("/wp-json/wp/v2/posts/{post}?_locale=user");
        // Lists are in the order of times, which must not depend on how long a step takes.
        let date = "2020-02-01T00:00:00";
        let post = json!({"title": "The first", "content": content, "status": "publish", "date": date});
        let written = call(wordpress, "POST", &path, &post);
        assert_eq!(written.shows(200, "hedgehog").json()["slug"], "the-first");
        wordpress.browser.open("/the-first/").shows(200, "<p>About a hedgehog.</p>");
    });
    pair.step("write large posts", |wordpress| {
        for number in 1..=LARGE_POSTS {
            let content = format!("Walrus {number}. ").repeat(LARGE / 11);
            let (title, date) = (format!("Large {number}"), format!("2020-01-{number:02}T00:00:00"));
            let post = json!({"title": title, "content": content, "status": "publish", "date": date});
            call(wordpress, "POST", "/wp-json/wp/v2/posts?_fields=id,slug", &post).shows(201, "large-");
        }
    });
    pair.step("comment on a post", |wordpress| {
        let page = wordpress.browser.open("/the-first/");
        let form = Form::with("comment_post_ID", &page.text).set("comment", "What about the hedgehog?");
        wordpress.browser.submit(&page, &form).shows(200, "What about the hedgehog?");
    });
    pair.step("the quick draft of the dashboard", |wordpress| {
        let page = wordpress.browser.open("/wp-admin/");
        let form = Form::with("post_title", &page.text).set("post_title", "Soon").set("content", "To be written.");
        wordpress.browser.submit(&page, &form).shows(200, "");
    });
}

/// Calls the REST interface as a script of the logged-in page does.
#[track_caller]
fn call(wordpress: &mut Installation<'_>, method: &str, path: &str, body: &Value) -> Page {
    let nonce = wordpress.browser.open("/wp-admin/admin-ajax.php?action=rest-nonce").text;
    let headers = [("X-WP-Nonce", nonce.as_str()), ("Content-Type", "application/json")];
    wordpress.browser.send(method, path, &headers, body.to_string().as_bytes())
}

fn rest(pair: &mut Pair<'_>) {
    pair.step("POST, PUT, PATCH and DELETE with a nonce", |wordpress| {
        let tag = call(wordpress, "POST", "/wp-json/wp/v2/tags", &json!({"name": "first"}));
        let path = format!("/wp-json/wp/v2/tags/{}", tag.shows(201, "first").json()["id"]);
        call(wordpress, "PUT", &path, &json!({"name": "second"})).shows(200, "second");
        call(wordpress, "PATCH", &path, &json!({"description": "third"})).shows(200, "third");
        call(wordpress, "DELETE", &format!("{path}?force=true"), &json!({})).shows(200, "\"deleted\":true");
        call(wordpress, "GET", &path, &json!({})).shows(404, "term");
    });
    pair.step("PUT and DELETE with an application's password", |wordpress| {
        let made = call(wordpress, "POST", "/wp-json/wp/v2/users/me/application-passwords", &json!({"name": "a tool"}));
        let password = made.shows(201, "password").json()["password"].as_str().expect("a password").to_owned();
        let key = format!("Basic {}", BASE64_STANDARD.encode(format!("admin:{password}")));
        let cookies = wordpress.browser.leave_cookies();
        let headers = [("Authorization", key.as_str()), ("Content-Type", "application/json")];
        let mut ask = |method, path: &str, body: Value| {
            wordpress.browser.send(method, path, &headers, body.to_string().as_bytes())
        };
        let made = ask("POST", "/wp-json/wp/v2/pages", json!({"title": "By a tool", "status": "publish"}));
        let path = format!("/wp-json/wp/v2/pages/{}", made.shows(201, "By a tool").json()["id"]);
        ask("PUT", &path, json!({"title": "By a tool, again"})).shows(200, "again");
        ask("DELETE", &path, json!({})).shows(200, "\"status\":\"trash\"");
        wordpress.browser.take_up_cookies(cookies);
    });
    pair.step("lists with their totals, the index, what is allowed", |wordpress| {
        wordpress.browser.open("/wp-json/wp/v2/posts?per_page=3&_embed&_fields=id,slug,_links").shows(200, "large-12");
        wordpress.browser.open("/wp-json/").shows(200, "namespaces");
        wordpress.browser.send("OPTIONS", "/wp-json/wp/v2/posts", &[], b"").shows(200, "methods");
    });
}

fn upload(pair: &mut Pair<'_>) {
    let (picture, archive) = (picture(), [b"PK\x03\x04".to_vec(), noise(ARCHIVE)].concat());
    pair.step("upload a picture by the form", |wordpress| {
        let page = wordpress.browser.open("/wp-admin/media-new.php");
        let form = Form::with("async-upload", &page.text);
        let form = Form::to("/wp-admin/async-upload.php")
            .set("name", "picture.png")
            .set("action", "upload-attachment")
            .set("_wpnonce", form.value("_wpnonce"))
            .file("async-upload", "picture.png", "image/png", &picture);
        wordpress.browser.submit(&page, &form).shows(200, "\"success\":true");
        let files = super::files(&wordpress.root.join("wp-content/uploads"));
        assert!(files.len() >= 5, "smaller ones of the picture: {files:?}");
        assert!(files.iter().any(|file| fs::read(file).expect("a file") == picture), "the picture itself: {files:?}");
    });
    pair.step("upload an archive by REST", |wordpress| {
        let nonce = wordpress.browser.open("/wp-admin/admin-ajax.php?action=rest-nonce").text;
        let headers = [
            ("X-WP-Nonce", nonce.as_str()),
            ("Content-Type", "application/zip"),
            ("Content-Disposition", "attachment; filename=\"archive.zip\""),
        ];
        let stored =
            wordpress.browser.send("POST", "/wp-json/wp/v2/media?date=2020-03-01T00:00:00", &headers, &archive);
        stored.shows(201, "archive.zip");
        let files = super::files(&wordpress.root.join("wp-content/uploads"));
        assert!(files.iter().any(|file| fs::read(file).expect("a file") == archive), "the archive: {files:?}");
    });
}

fn cron(pair: &mut Pair<'_>) {
    pair.step("a page lets wp-cron do a job by a request to the site itself", |wordpress| {
        wordpress.browser.open("/wp-admin/admin-ajax.php?action=plan_job").shows(200, "planned");
        wordpress.browser.open("/the-first/").shows(200, "hedgehog");
        let mut done = String::new();
        let found = eventually(Duration::from_secs(20), || {
            done = wordpress.query("SELECT option_value FROM wp_options WHERE option_name = 'jobs_done'");
            !done.is_empty()
        });
        assert!(found, "no job was done");
        assert_eq!(done, "1\n", "times that the job was done");
    });
    pair.step("wp-cron by a request of its own", |wordpress| {
        wordpress.browser.open("/wp-cron.php?doing_wp_cron").shows(200, "");
    });
}

fn read(pair: &mut Pair<'_>) {
    pair.step("search", |wordpress| {
        wordpress.browser.open("/?s=hedgehog").shows(200, "The first");
        wordpress.browser.open("/?s=nothing-of-the-kind").shows(200, "nothing-of-the-kind");
        wordpress.browser.open("/wp-json/wp/v2/search?search=walrus&per_page=5").shows(200, "large");
    });
    pair.step("pages, feed, map", |wordpress| {
        for path in ["/", "/page/2/", "/large-1/", "/author/admin/", "/feed/", "/wp-sitemap.xml", "/robots.txt"] {
            wordpress.browser.open(path).shows(200, "");
        }
        wordpress.browser.open("/nothing-here/").shows(404, "");
        wordpress.browser.send("HEAD", "/the-first/", &[], b"").shows(200, "");
    });
    pair.step("a feed that has not changed", |wordpress| {
        let feed = wordpress.browser.send("GET", "/feed/", &[], b"");
        let changed = feed.header("last-modified").expect("a time").to_owned();
        wordpress.browser.send("GET", "/feed/", &[("If-Modified-Since", &changed)], b"").shows(304, "");
    });
    pair.step("pages of the administration", |wordpress| {
        for page in ["edit", "upload", "users", "edit-comments", "options-general", "plugins", "tools", "export"] {
            wordpress.browser.open(&format!("/wp-admin/{page}.php")).shows(200, "A site");
        }
        let styles = "/wp-admin/load-styles.php?c=1&dir=ltr&load%5B%5D=dashicons,admin-bar,common,forms&ver=1";
        wordpress.browser.open(styles).shows(200, "dashicons");
        wordpress
            .browser
            .open("/wp-admin/load-scripts.php?c=1&load%5B%5D=jquery-core,utils&ver=1")
            .shows(200, "jQuery");
    });
    pair.step("export everything", |wordpress| {
        let export = wordpress.browser.open("/wp-admin/export.php?download=true&content=all");
        assert!(export.text.len() > LARGE_POSTS * LARGE * 9 / 10, "{} bytes", export.text.len());
        export.shows(200, "hedgehog");
        assert!(export.text.trim_end().ends_with("</rss>"), "the export ends early");
    });
}

fn refuse(pair: &mut Pair<'_>) {
    pair.step("what WordPress refuses", |wordpress| {
        call(wordpress, "POST", "/wp-json/wp/v2/posts", &json!({"status": "nonsense"}))
            .shows(400, "rest_invalid_param");
        let broken = wordpress.browser.send(
            "POST",
            "/wp-json/wp/v2/posts",
            &[("Content-Type", "application/json")],
            b"{\"title\": ",
        );
        broken.shows(400, "rest_invalid_json");
        let call =
            "<?xml version=\"1.0\"?><methodCall><methodName>system.listMethods</methodName><params/></methodCall>";
        wordpress
            .browser
            .send("POST", "/xmlrpc.php", &[("Content-Type", "text/xml")], call.as_bytes())
            .shows(200, "wp.getPost");
        wordpress.browser.send("GET", "/xmlrpc.php", &[], b"").shows(405, "POST requests only");
    });
    pair.step("a visitor without a name", |wordpress| {
        wordpress.browser.leave_cookies();
        wordpress.browser.open("/wp-admin/").shows(200, "user_login");
        wordpress.browser.send("DELETE", "/wp-json/wp/v2/posts/1", &[], b"").shows(401, "rest_cannot_delete");
    });
    pair.step("many visitors at once", |wordpress| {
        wordpress.browser.leave_cookies();
        wordpress.crowd(&["/the-first/", "/?s=hedgehog", "/wp-json/wp/v2/posts/1", "/wp-login.php", "/nothing-here/"]);
    });
}
