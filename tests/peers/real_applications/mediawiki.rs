//! MediaWiki, from its installer to its search.

use std::{fs, os::unix::fs::symlink, path::Path, time::Duration};

use serde_json::{Value, json};

use super::{
    LIMIT,
    browser::Page,
    form::{Form, escape},
    pair::{Installation, Pair},
    picture::picture,
    stage::Stage,
};
use crate::support::{Site, bounded, eventually, in_own_network, mariadb};

const PACKAGE: &str = "/usr/share/mediawiki";
const PASSWORD: &str = "Secret-1234567";
/// What the administrator adds to the configuration that the installer offers.
const SETTINGS: &str = "
$wgEnableUploads = true;
$wgUseImageMagick = false;
$wgShowExceptionDetails = true;
$wgPingback = false;
";
const LARGE: usize = 1 << 20;

#[test]
#[ignore = "long, and needs Debian's mediawiki"]
fn stress_mediawiki_is_the_same_through_fcgimux() {
    if !in_own_network("real_applications::mediawiki::stress_mediawiki_is_the_same_through_fcgimux") {
        return;
    }
    bounded(LIMIT, || {
        let stage = Stage::start();
        let mut pair = Pair::on(&stage, site);
        install(&mut pair);
        edit(&mut pair);
        interfaces(&mut pair);
        upload(&mut pair);
        read(&mut pair);
        refuse(&mut pair);
        for table in ["page", "revision", "text", "image", "user", "logging", "recentchanges", "archive"] {
            pair.compare_rows(&format!("SELECT COUNT(*) FROM {table}"));
        }
        pair.compare_rows(
            "SELECT page_id, page_namespace, page_title, page_latest, page_len FROM page ORDER BY page_id",
        );
        pair.finish();
    });
}

/// Links to the package's files, as Debian has them below /var/lib; only what is written is the installation's own.
fn site(site: Site, root: &Path) -> Site {
    fs::create_dir(root).expect("a document root");
    for entry in fs::read_dir(PACKAGE).expect("Debian's mediawiki") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().expect("a name");
        if !["LocalSettings.php", "images", "config"].iter().any(|own| name == *own) {
            symlink(&path, root.join(name)).expect("a link");
        }
    }
    let images = root.join("images");
    fs::create_dir(&images).expect("a folder for uploads");
    super::open_to_all(&images);
    site.http("include /etc/nginx/mime.types")
        .server("rewrite ^/rest.php/ /rest.php last")
        .server("location / { try_files $uri $uri/ /index.php?$args; } index index.php")
        // Debian's parameters name the host without its port.
        .location("fastcgi_param HTTP_HOST $http_host")
        .location(&format!("fastcgi_param MW_INSTALL_PATH {}", root.display()))
}

fn install(pair: &mut Pair<'_>) {
    pair.step("a wiki without a configuration leads to the installer", |wiki| {
        wiki.browser.open("/").shows(200, "mw-config");
    });
    pair.step("the installer", |wiki| {
        let mut page = wiki.browser.open("/mw-config/index.php");
        page = answer(wiki, &page, "uselang", |form| form);
        page = answer(wiki, &page, "submit-continue", |form| form);
        let database = wiki.database.clone();
        page = answer(wiki, &page, "mysql_wgDBname", |form| {
            form.set("mysql_wgDBname", &database)
                .set("mysql__InstallUser", mariadb::USER)
                .set("mysql__InstallPassword", mariadb::PASSWORD)
        });
        page = answer(wiki, &page, "mysql__SameAccount", |form| form);
        page = answer(wiki, &page, "config_wgSitename", |form| {
            form.set("config_wgSitename", "A wiki")
                .set("config__AdminName", "Admin")
                .set("config__AdminPassword", PASSWORD)
                .set("config__AdminPasswordConfirm", PASSWORD)
                .set("config__SkipOptional", "skip")
                .clear("config__Subscribe")
                .clear("config_wgPingback")
        });
        page = answer(wiki, &page, "submit-continue", |form| form);
        page.shows(200, "Creating tables");
        page = answer(wiki, &page, "submit-continue", |form| form);
        page.shows(200, "LocalSettings.php");
        let settings = wiki.browser.open("/mw-config/index.php?localsettings=1");
        settings.shows(200, "$wgSitename = \"A wiki\"");
        fs::write(wiki.root.join("LocalSettings.php"), settings.text.clone() + SETTINGS).expect("the configuration");
    });
    pair.step("a wrong password is refused", |wiki| {
        log_in(wiki, "wrong").shows(200, "Incorrect username or password");
    });
    pair.step("log in", |wiki| {
        log_in(wiki, PASSWORD).shows(200, "Main Page");
    });
}

/// Goes on to the installer's next page.
#[track_caller]
fn answer(wiki: &mut Installation<'_>, page: &Page, field: &str, fill: impl FnOnce(Form) -> Form) -> Page {
    let form = fill(Form::with(field, &page.text)).set("submit-continue", "Continue");
    wiki.browser.submit(page, &form)
}

fn log_in(wiki: &mut Installation<'_>, password: &str) -> Page {
    let page = wiki.browser.open("/index.php?title=Special:UserLogin&returnto=Main+Page");
    let form = Form::with("wpName", &page.text).set("wpName", "Admin").set("wpPassword", password);
    wiki.browser.submit(&page, &form.set("wploginattempt", "Log in"))
}

fn edit(pair: &mut Pair<'_>) {
    pair.step("write a large page and a small one by the form", |wiki| {
        // The page that is linked to comes first: whether a link leads somewhere is remembered for a while.
        let text = "A walrus on the ice.\n\n".repeat(LARGE / 22);
        save(wiki, "Walrus", &text).shows(200, "A walrus on the ice.");
        save(wiki, "Hedgehog", "The '''hedgehog''' is a mammal. See [[Walrus]].").shows(200, "<b>hedgehog</b>");
    });
    pair.step("preview it", |wiki| {
        let (page, form) = edit_form(wiki, "Hedgehog");
        let form = form.set("wpTextbox1", "== A ''preview'' ==").set("wpPreview", "Show preview");
        wiki.browser.submit(&page, &form).shows(200, "A <i>preview</i>");
    });
    pair.step("write it anew", |wiki| {
        save(wiki, "Hedgehog", "The hedgehog has spines. See [[Walrus]].").shows(200, "has spines");
    });
    pair.step("history and differences", |wiki| {
        wiki.browser.open("/index.php?title=Hedgehog&action=history").shows(200, "mw-history");
        wiki.browser.open("/index.php?title=Hedgehog&diff=cur&oldid=3").shows(200, "diff");
    });
}

#[track_caller]
fn save(wiki: &mut Installation<'_>, title: &str, text: &str) -> Page {
    let (page, form) = edit_form(wiki, title);
    wiki.browser.submit(&page, &form.set("wpTextbox1", text).set("wpSummary", "a test").set("wpSave", "Save"))
}

#[track_caller]
fn edit_form(wiki: &mut Installation<'_>, title: &str) -> (Page, Form) {
    let page = wiki.browser.open(&format!("/index.php?title={title}&action=edit"));
    let form = Form::with("wpTextbox1", &page.text);
    (page, form)
}

fn interfaces(pair: &mut Pair<'_>) {
    pair.step("edit, read and delete by the API", |wiki| {
        let text = "Written by a program.";
        api(wiki, &[("action", "edit"), ("title", "Program"), ("text", text)]).shows(200, "Success");
        api(wiki, &[("action", "edit"), ("title", "Program"), ("appendtext", " Twice.")]).shows(200, "Success");
        wiki.browser
            .open("/api.php?action=parse&page=Program&disablelimitreport=1&format=json")
            .shows(200, "Written by a program. Twice.");
        api(wiki, &[("action", "delete"), ("title", "Program"), ("reason", "a test")]).shows(200, "logid");
        wiki.browser.open("/api.php?action=query&titles=Program&format=json").shows(200, "missing");
    });
    pair.step("PUT and GET by REST", |wiki| {
        let (path, token) = ("/rest.php/v1/page/Rest", token(wiki));
        let put = |wiki: &mut Installation<'_>, body: Value| {
            wiki.browser.send("PUT", path, &[("Content-Type", "application/json")], body.to_string().as_bytes())
        };
        let page = json!({"source": "Made by PUT.", "comment": "a test", "token": token});
        let id = put(wiki, page).shows(201, "Made by PUT").json()["latest"]["id"].clone();
        let page = json!({"source": "Changed by PUT.", "comment": "a test", "token": token, "latest": {"id": id}});
        put(wiki, page.clone()).shows(200, "Changed by PUT");
        wiki.browser.open(path).shows(200, "Changed by PUT");
        wiki.browser.open("/rest.php/v1/page/Nothing").shows(404, "does not exist");
        wiki.browser.open("/rest.php/v1/page/Walrus/history").shows(200, "revisions");
    });
}

/// Posts to the API with a token.
#[track_caller]
fn api(wiki: &mut Installation<'_>, fields: &[(&str, &str)]) -> Page {
    let form = fields.iter().fold(Form::to("/api.php"), |form, (name, value)| form.set(name, value));
    let form = form.set("format", "json").set("token", &token(wiki));
    let (kind, body) = form.body();
    wiki.browser.send("POST", "/api.php", &[("Content-Type", &kind)], &body)
}

fn token(wiki: &mut Installation<'_>) -> String {
    let tokens = wiki.browser.open("/api.php?action=query&meta=tokens&format=json");
    tokens.json()["query"]["tokens"]["csrftoken"].as_str().expect("a token").to_owned()
}

fn upload(pair: &mut Pair<'_>) {
    let picture = picture();
    pair.step("upload a picture by the form", |wiki| {
        let page = wiki.browser.open("/index.php?title=Special:Upload");
        let form = Form::with("wpUploadFile", &page.text)
            .set("wpDestFile", "Noise.png")
            .set("wpUploadDescription", "Noise.")
            .set("wpUpload", "Upload file")
            .file("wpUploadFile", "noise.png", "image/png", &picture);
        wiki.browser.submit(&page, &form).shows(200, "File:Noise.png");
        assert_stored(wiki, "Noise.png", &picture);
    });
    pair.step("upload a picture by the API", |wiki| {
        let form = Form::to("/api.php")
            .set("action", "upload")
            .set("filename", "Second.png")
            .set("ignorewarnings", "1")
            .set("format", "json")
            .set("token", &token(wiki))
            .file("file", "second.png", "image/png", &picture);
        let (kind, body) = form.body();
        wiki.browser.send("POST", "/api.php", &[("Content-Type", &kind)], &body).shows(200, "Success");
        assert_stored(wiki, "Second.png", &picture);
    });
    pair.step("a page with a picture, which is made smaller for it", |wiki| {
        save(wiki, "Pictures", "[[File:Noise.png|thumb|A picture]]").shows(200, "Noise.png");
        wiki.browser.open("/thumb.php?f=Noise.png&width=120").shows(200, "PNG");
    });
}

/// Fails unless the wiki has the picture, as it was sent.
#[track_caller]
fn assert_stored(wiki: &Installation<'_>, name: &str, picture: &[u8]) {
    let row = wiki.query(&format!("SELECT img_size, img_width FROM image WHERE img_name = '{name}'"));
    assert_eq!(row, format!("{}\t1200\n", picture.len()));
    let files = super::files(&wiki.root.join("images"));
    let file = files.iter().find(|file| file.ends_with(name)).unwrap_or_else(|| panic!("no {name} in {files:?}"));
    assert!(fs::read(file).expect("a file") == picture, "{name} is another picture");
}

fn read(pair: &mut Pair<'_>) {
    pair.step("search", |wiki| {
        // The index is written behind the answer to an edit.
        let indexed = eventually(Duration::from_secs(20), || {
            !wiki.query("SELECT si_page FROM searchindex WHERE si_text LIKE '%spines%'").is_empty()
        });
        assert!(indexed, "the page is not in the index");
        wiki.browser.open("/index.php?search=spines&fulltext=1").shows(200, "Hedgehog");
        wiki.browser.open("/index.php?search=Hedgehog").shows(200, "has spines");
        wiki.browser
            .open("/api.php?action=query&list=search&srwhat=text&srsearch=spines&format=json")
            .shows(200, "Hedgehog");
        wiki.browser.open("/api.php?action=opensearch&search=Hedg&format=json").shows(200, "Hedgehog");
    });
    pair.step("pages", |wiki| {
        // Changes of one second have no order among each other.
        let time = "DATE_FORMAT(NOW() - INTERVAL (100 - rc_id) SECOND, '%Y%m%d%H%i%s')";
        wiki.query(&format!("UPDATE recentchanges SET rc_timestamp = {time}"));
        for page in
            ["Main_Page", "Walrus", "Special:RecentChanges", "Special:AllPages", "Special:Version", "File:Noise.png"]
        {
            wiki.browser.open(&format!("/index.php?title={}", escape(page))).shows(200, "A wiki");
        }
        wiki.browser.open("/index.php?title=Nothing_here").shows(404, "There is currently no text in this page");
        wiki.browser.send("HEAD", "/index.php?title=Hedgehog", &[], b"").shows(200, "");
        wiki.browser.open("/index.php?title=Special:RecentChanges&feed=atom").shows(200, "<feed");
    });
    pair.step("scripts and styles", |wiki| {
        let load = "/load.php?lang=en&skin=vector";
        wiki.browser.open(&format!("{load}&modules=startup&only=scripts&raw=1")).shows(200, "mw.loader");
        let styles = format!("{load}&modules=skins.vector.styles.legacy&only=styles");
        wiki.browser.open(&styles).shows(200, "{");
        let scripts = format!("{load}&modules=jquery%7Cmediawiki.base");
        let page = wiki.browser.open(&scripts);
        let tag = page.shows(200, "jQuery").header("etag").expect("an ETag").to_owned();
        wiki.browser.send("GET", &scripts, &[("If-None-Match", &tag)], b"").shows(304, "");
    });
    pair.step("export", |wiki| {
        let form = Form::to("/index.php?title=Special:Export&action=submit")
            .set("pages", "Walrus\nHedgehog\nPictures")
            .set("templates", "1")
            .set("wpDownload", "1");
        let page = wiki.browser.open("/index.php?title=Special:Export");
        let export = wiki.browser.submit(&page, &form);
        assert!(export.shows(200, "has spines").text.len() > LARGE * 9 / 10, "{} bytes", export.text.len());
        assert!(export.text.trim_end().ends_with("</mediawiki>"), "the export ends early");
    });
}

fn refuse(pair: &mut Pair<'_>) {
    pair.step("what MediaWiki refuses", |wiki| {
        let form = Form::to("/api.php").set("action", "edit").set("title", "X").set("text", "x").set("format", "json");
        let (kind, body) = form.set("token", "wrong").body();
        wiki.browser.send("POST", "/api.php", &[("Content-Type", &kind)], &body).shows(200, "badtoken");
        wiki.browser
            .send("GET", "/api.php?action=edit&title=X&text=x&token=x&format=json", &[], b"")
            .shows(200, "mustpostparams");
        wiki.browser
            .send("PUT", "/rest.php/v1/page/X", &[("Content-Type", "application/json")], b"{")
            .shows(400, "httpCode");
        wiki.browser.send("DELETE", "/rest.php/v1/page/X", &[], b"").shows(405, "");
    });
    pair.step("a visitor without a name", |wiki| {
        wiki.browser.leave_cookies();
        wiki.browser.open("/index.php?title=Special:Upload").shows(200, "log in");
        wiki.browser.open("/index.php?title=Hedgehog").shows(200, "has spines");
    });
    pair.step("many visitors at once", |wiki| {
        wiki.browser.leave_cookies();
        let pages =
            ["Hedgehog", "Pictures", "Nothing_here", "Special:AllPages"].map(|page| format!("/index.php?title={page}"));
        let [hedgehog, pictures, nothing, all] = pages.each_ref().map(String::as_str);
        wiki.crowd(&[hedgehog, pictures, nothing, all, "/load.php?lang=en&modules=jquery", "/rest.php/v1/page/Rest"]);
    });
}
