//! The web servers of these tests.

use std::{net::SocketAddr, path::Path};

use crate::support::{Haproxy, Nginx};

/// How a web server speaks FastCGI.
pub(super) struct Front {
    pub(super) name: &'static str,
    speaks: Speaks,
}

enum Speaks {
    /// nginx, a connection for each request.
    Nginx,
    /// Lines of HAProxy's `fcgi-app`.
    Haproxy(&'static str),
}

pub(super) enum Running {
    Nginx(Nginx),
    Haproxy(Haproxy),
}

pub(super) const FRONTS: [Front; 4] = [
    Front { name: "nginx", speaks: Speaks::Nginx },
    Front { name: "HAProxy", speaks: Speaks::Haproxy("no option keep-conn") },
    Front { name: "HAProxy, kept", speaks: Speaks::Haproxy("option keep-conn") },
    Front {
        name: "HAProxy, many at once",
        speaks: Speaks::Haproxy("option mpxs-conns\n    option get-values\n    option max-reqs 128"),
    },
];

impl Front {
    #[track_caller]
    pub(super) fn start(&self, root: &Path, socket: &Path) -> Running {
        match self.speaks {
            // Unbuffered, so that chunks are seen as they come.
            Speaks::Nginx => Running::Nginx(Nginx::site(root, socket).location("fastcgi_buffering off").start()),
            Speaks::Haproxy(options) => {
                let (root, socket) = (root.display(), socket.display());
                // One thread keeps one set of connections.
                Running::Haproxy(Haproxy::with_global(
                    "nbthread 1",
                    &format!(
                        "frontend visitors\n    bind {{address}}\n    option http-no-delay\n    default_backend apps\n\
                         backend apps\n    http-reuse always\n    use-fcgi-app apps\n    \
                         server fcgimux unix@{socket} proto fcgi\n\
                         fcgi-app apps\n    docroot {root}\n    {options}\n"
                    ),
                ))
            }
        }
    }
}

impl Running {
    pub(super) fn address(&self) -> SocketAddr {
        match self {
            Self::Nginx(nginx) => nginx.address(),
            Self::Haproxy(haproxy) => haproxy.address(),
        }
    }
}
