//! The web servers: a plain configuration of each, with room for what a case adds.
//!
//! In everything that a case adds, `{pass}` is the application in the web server's own words, `{root}` the document root,
//! `{folder}` a folder that the web server may write to, and in nginx `{php}` is everything that a location needs to pass a
//! request to PHP; `{spare}` is another php-fpm that runs, `{side}` a word for names.

use std::{net::SocketAddr, path::Path};

use crate::support::{Apache, Caddy, Folder, Haproxy, Lighttpd, Nginx};

/// A line of HAProxy's backend that goes with `option keep-conn`.
const HAPROXY_KEEPS: &str = "http-reuse always";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Nginx,
    Apache,
    Lighttpd,
    Caddy,
    Haproxy,
}

/// One web server's configuration.
#[derive(Clone, Debug)]
pub(crate) struct Site {
    pub(crate) kind: Kind,
    /// Behind the web server's name in a failure.
    note: String,
    /// Lines outside of the site.
    top: String,
    /// Lines of the site.
    site: String,
    /// Lines where requests are passed on.
    pass: String,
}

pub(crate) fn nginx() -> Site {
    Site::of(Kind::Nginx)
}

pub(crate) fn apache() -> Site {
    Site::of(Kind::Apache)
}

pub(crate) fn lighttpd() -> Site {
    Site::of(Kind::Lighttpd)
}

pub(crate) fn caddy() -> Site {
    Site::of(Kind::Caddy)
}

pub(crate) fn haproxy() -> Site {
    Site::of(Kind::Haproxy)
}

/// nginx with connections that it keeps.
pub(crate) fn nginx_kept() -> Site {
    nginx()
        .top("upstream kept_{side} { server {pass}; keepalive 8; }")
        .pass("fastcgi_pass kept_{side}; fastcgi_keep_conn on;")
        .note("kept connections")
}

pub(crate) fn nginx_unbuffered() -> Site {
    nginx().pass("fastcgi_buffering off; fastcgi_request_buffering off;").note("nothing buffered")
}

pub(crate) fn apache_kept() -> Site {
    apache().pass("enablereuse=on flushpackets=on").note("kept connections")
}

/// HAProxy with connections that it keeps.
pub(crate) fn haproxy_kept() -> Site {
    haproxy().pass(HAPROXY_KEEPS).note("kept connections")
}

/// Each web server, with little said.
pub(crate) fn all() -> Vec<Site> {
    vec![nginx(), nginx_kept(), nginx_unbuffered(), apache(), lighttpd(), caddy(), haproxy()]
}

/// What a web server stands on.
pub(crate) struct Ground<'g> {
    /// Distinguishes names in the configuration.
    pub(crate) side: &'g str,
    pub(crate) root: &'g Path,
    /// The web server may write to it.
    pub(crate) folder: &'g Folder,
    /// `host:port`, or the path of a Unix socket.
    pub(crate) application: &'g str,
    /// Address of a php-fpm that runs, whatever becomes of the application.
    pub(crate) spare: &'g str,
}

/// One that runs.
pub(crate) enum Running {
    Nginx(Nginx),
    Apache(Apache),
    Lighttpd(Lighttpd),
    Caddy(Caddy),
    Haproxy(Haproxy),
}

impl Site {
    fn of(kind: Kind) -> Self {
        Self { kind, note: String::new(), top: String::new(), site: String::new(), pass: String::new() }
    }

    /// Adds to `http` of nginx, or in front of the site of another.
    pub(crate) fn top(mut self, lines: &str) -> Self {
        self.top += &format!("{lines}\n");
        self
    }

    /// Adds to `server` of nginx, the virtual host of Apache, the site of Caddy, the frontend of HAProxy.
    pub(crate) fn site(mut self, lines: &str) -> Self {
        self.site += &format!("{lines}\n");
        self
    }

    /// Adds to nginx's location for PHP, lighttpd's `fastcgi.server`, Caddy's `php_fastcgi`, HAProxy's backend; behind
    /// Apache's `ProxyPassMatch`.
    pub(crate) fn pass(mut self, lines: &str) -> Self {
        self.pass += &format!("{lines}\n");
        self
    }

    pub(crate) fn note(mut self, words: &str) -> Self {
        let comma = if self.note.is_empty() { "" } else { ", " };
        self.note += &format!("{comma}{words}");
        self
    }

    pub(crate) fn name(&self) -> String {
        let kind = format!("{:?}", self.kind);
        if self.note.is_empty() { kind } else { format!("{kind} ({})", self.note) }
    }

    #[track_caller]
    pub(crate) fn start(&self, ground: &Ground<'_>) -> Running {
        let Ground { side, root, folder, application, spare } = *ground;
        let pass = self.words_for(application);
        let php = format!(
            "include /etc/nginx/fastcgi_params; fastcgi_param SCRIPT_FILENAME {}$fastcgi_script_name; fastcgi_pass {pass};",
            root.display()
        );
        let fill = |text: &str| {
            text.replace("{php}", &php)
                .replace("{pass}", &pass)
                .replace("{root}", &root.display().to_string())
                .replace("{folder}", &folder.path().display().to_string())
                .replace("{side}", side)
                .replace("{spare}", spare)
        };
        let site = Self { top: fill(&self.top), site: fill(&self.site), pass: fill(&self.pass), ..self.clone() };
        match self.kind {
            Kind::Nginx => site.nginx(root, &pass),
            Kind::Apache => Running::Apache(Apache::with(&site.apache(root, &pass))),
            Kind::Lighttpd => Running::Lighttpd(Lighttpd::with(&site.lighttpd(root, &pass))),
            Kind::Caddy => Running::Caddy(Caddy::with(&site.caddy(root, &pass))),
            Kind::Haproxy => Running::Haproxy(Haproxy::with_global("nbthread 1", &site.haproxy(root, &pass))),
        }
    }

    /// The application's address as the web server writes it.
    fn words_for(&self, application: &str) -> String {
        let unix = application.starts_with('/');
        match self.kind {
            Kind::Nginx if unix => format!("unix:{application}"),
            Kind::Apache if unix => format!("unix:{application}|fcgi://localhost"),
            Kind::Apache => format!("fcgi://{application}"),
            Kind::Lighttpd if unix => format!("\"socket\" => \"{application}\""),
            Kind::Lighttpd => {
                let (host, port) = application.rsplit_once(':').expect("host:port");
                format!("\"host\" => \"{host}\", \"port\" => {port}")
            }
            Kind::Caddy if unix => format!("unix/{application}"),
            Kind::Haproxy if unix => format!("unix@{application}"),
            Kind::Nginx | Kind::Caddy | Kind::Haproxy => application.to_owned(),
        }
    }

    #[track_caller]
    fn nginx(&self, root: &Path, pass: &str) -> Running {
        // The support ends what it is given with a semicolon, so a plain directive must stand last.
        let location = r"location ~ ^(.+?\.php)(/.*)?$";
        let own_pass =
            if self.pass.contains("fastcgi_pass ") { String::new() } else { format!("fastcgi_pass {pass};") };
        let site = format!(
            "{}\n{location} {{ include /etc/nginx/fastcgi_params; fastcgi_split_path_info ^(.+?\\.php)(/.*)$; \
             fastcgi_param SCRIPT_FILENAME $document_root$fastcgi_script_name; \
             fastcgi_param PATH_INFO $fastcgi_path_info; {own_pass}\n{} }}\nserver_tokens on",
            self.site, self.pass
        );
        let nginx = Nginx::site(root, "/nobody").http(&format!("{}\nkeepalive_requests 1000", self.top));
        Running::Nginx(nginx.server(&site).start())
    }

    fn apache(&self, root: &Path, pass: &str) -> String {
        let (root, Self { top, site, pass: more, .. }) = (root.display(), self);
        let location = if site.contains("ProxyPassMatch") {
            String::new()
        } else {
            format!("ProxyPassMatch \"^/(.*\\.php(/.*)?)$\" \"{pass}{root}/$1\" {more}")
        };
        format!(
            "{top}\nListen {{address}}\n<VirtualHost {{address}}>\n    DocumentRoot {root}\n    {site}\n    {location}\n\
             </VirtualHost>\n"
        )
    }

    fn lighttpd(&self, root: &Path, pass: &str) -> String {
        let (root, Self { top, site, pass: more, .. }) = (root.display(), self);
        format!(
            "server.bind = \"127.0.0.1\"\nserver.port = {{port}}\nserver.document-root = \"{root}\"\n\
             server.modules += ( \"mod_fastcgi\" )\nserver.stream-response-body = 1\n{top}\n{site}\n\
             fastcgi.server = ( \".php\" => ( ( {pass}{more} ) ) )\n",
        )
    }

    fn caddy(&self, root: &Path, pass: &str) -> String {
        let (root, Self { top, site, pass: more, .. }) = (root.display(), self);
        format!(
            "{top}\nhttp://:{{port}} {{\n    bind 127.0.0.1\n    root * {root}\n{site}\n    php_fastcgi {pass} {{\n        \
             flush_interval -1\n{more}\n    }}\n}}\n"
        )
    }

    fn haproxy(&self, root: &Path, pass: &str) -> String {
        let (root, Self { top, site, pass: more, .. }) = (root.display(), self);
        format!(
            "{top}\nfrontend clients\n    bind {{address}}\n    option http-no-delay\n    {site}\n    default_backend php\n\
             backend php\n    use-fcgi-app php\n    {more}\n    server application {pass} proto fcgi\n\
             fcgi-app php\n    docroot {root}\n    index index.php\n    path-info ^(/.+\\.php)(/.*)?$\n    \
             log-stderr global\n    {keep} keep-conn\n",
            keep = if more.contains(HAPROXY_KEEPS) { "option" } else { "no option" },
        )
    }
}

impl Running {
    pub(crate) fn address(&self) -> SocketAddr {
        match self {
            Self::Nginx(server) => server.address(),
            Self::Apache(server) => server.address(),
            Self::Lighttpd(server) => server.address(),
            Self::Caddy(server) => server.address(),
            Self::Haproxy(server) => server.address(),
        }
    }

    /// Whether it says the length of a response if it has all of it in time.
    pub(crate) fn frames_by_time(&self) -> bool {
        matches!(self, Self::Lighttpd(_) | Self::Caddy(_) | Self::Haproxy(_))
    }

    pub(crate) fn log(&self) -> String {
        match self {
            Self::Nginx(server) => server.error_log(),
            Self::Apache(server) => server.log(),
            Self::Lighttpd(server) => server.log(),
            Self::Caddy(server) => server.log(),
            Self::Haproxy(server) => server.log(),
        }
    }
}
