//! The way to the API server, and the right to ask it.

use std::{fs, net::TcpStream, path::Path, process::Command, thread};

use super::{LIMIT, SECOND, SOON, configuration, endpoints, wait_until_it_has};
use crate::support::{
    Fcgimux, Folder, Load, Nginx, PhpFpm, Pods, Port, Process, Request, bounded, eventually,
    kubernetes::{KubeApi, Slice, Verb},
    wait_until, warnings,
};

/// Where a pod has its service account; /var/run is /run.
const ACCOUNT: &str = "/run/secrets/kubernetes.io/serviceaccount";

/// TLS before an API server.
struct Tls {
    port: Port,
    _nginx: Process,
}

impl Tls {
    /// Leaves the certificate of its authority in `account` as `ca.crt`.
    #[track_caller]
    fn before(api: &KubeApi, folder: &Folder, account: &Path) -> Self {
        let port = Port::free();
        let path = folder.path().display();
        make_certificates(folder);
        fs::copy(folder.join("ca.crt"), account.join("ca.crt")).expect("copy a certificate");
        folder.subfolder("temp");
        let temp: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|kind| format!("{kind}_temp_path {path}/temp/{kind};\n"))
            .concat();
        let conf = format!(
            "daemon off;\npid {path}/nginx.pid;\nerror_log {path}/error.log;\nevents {{}}\nhttp {{\naccess_log off;\n{temp}\
             server {{\nlisten {} ssl;\nssl_certificate {path}/tls.crt;\nssl_certificate_key {path}/tls.key;\n\
             location / {{ proxy_pass {}; proxy_http_version 1.1; proxy_buffering off; }}\n}}\n}}\n",
            port.address(),
            api.url(),
        );
        let file = folder.write("nginx.conf", &conf).display().to_string();
        let (prefix, log) = (path.to_string(), folder.join("error.log").display().to_string());
        let mut nginx = Process::start(folder, "nginx.log", "nginx", ["-p", &prefix, "-e", &log, "-c", &file]);
        nginx.wait_ready(folder, || TcpStream::connect(port.address()).is_ok());
        Self { port, _nginx: nginx }
    }
}

/// An authority, and a certificate for 127.0.0.1 that it signed.
#[track_caller]
fn make_certificates(folder: &Folder) {
    let request = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2";
    for arguments in [
        format!("{request} -keyout ca.key -out ca.crt -subj /CN=authority"),
        format!(
            "{request} -keyout tls.key -out tls.crt -subj /CN=api -CA ca.crt -CAkey ca.key \
             -addext subjectAltName=IP:127.0.0.1 -addext basicConstraints=CA:FALSE"
        ),
    ] {
        let output =
            Command::new("openssl").args(arguments.split(' ')).current_dir(folder.path()).output().expect("openssl");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

/// As in a pod: no kubeconfig, an environment that names the API server, and a service account's files. Needs root.
#[test]
fn in_a_pod_the_service_account_is_the_way_and_its_namespace_the_own() {
    bounded(LIMIT, || {
        let (api, mut pods, folder) = (KubeApi::start(), Pods::new(), Folder::new());
        let pod = pods.start(PhpFpm::pool(2));
        api.apply(Slice::of("blog/php", "php-abc").port("fastcgi", pods.port()).ready(&pod.address().ip().to_string()));
        let account = folder.subfolder("account");
        let tls = Tls::before(&api, &folder, &account);
        fs::write(account.join("namespace"), "blog\n").expect("write the namespace");
        fs::write(account.join("token"), "old").expect("write the token");
        api.require_token("new");

        let inside = format!(
            "mount -t tmpfs none /run && mkdir -p {ACCOUNT} && mount --bind {} {ACCOUNT} && exec \"$@\"",
            account.display()
        );
        let port = format!("KUBERNETES_SERVICE_PORT={}", tls.port.number());
        let home = format!("HOME={}", folder.path().display());
        let pod_like = ["env", "-u", "KUBECONFIG", &home, "KUBERNETES_SERVICE_HOST=127.0.0.1", &port];
        let command = [&["unshare", "--mount", "--", "sh", "-c", &inside, "sh"], &pod_like[..]].concat();
        let mux = Fcgimux::behind(&command, &configuration("{service: php, port: fastcgi}"));
        let words = "the API server does not know who we are (401)";
        assert!(eventually(SOON, || mux.log().contains(words)), "{}", mux.log());

        // The token is another one, and is read again.
        fs::write(account.join("token"), "new").expect("write the token");
        wait_until_it_has(&mux, &[("up", pod.address())]);
        let nginx = Nginx::site(&pods.scripts(), mux.socket()).start();
        Load::on(nginx.address(), |_| Request::echo("GET", 100)).count(5).run().assert_clean();
        assert!(api.asked().iter().all(|asked| asked.namespace == "blog"));
        assert!(!mux.log().contains("panicked"), "{}", mux.log());
    });
}

#[test]
fn who_may_not_ask_is_told_what_is_missing_and_serves_once_it_is_there() {
    bounded(LIMIT, || {
        let (api, mut pods, folder) = (KubeApi::start(), Pods::new(), Folder::new());
        let pod = pods.start(PhpFpm::pool(2));
        api.apply(Slice::of("shop/php", "php-abc").port("fastcgi", pods.port()).ready(&pod.address().ip().to_string()));
        api.refuse(Verb::List, 403);
        let kubeconfig = folder.write("kubeconfig", &api.kubeconfig("shop"));
        let way = format!("KUBECONFIG={}", kubeconfig.display());
        let mux = Fcgimux::behind(&["env", &way], &configuration("service: php"));
        wait_until("it has asked a few times", || api.count(Verb::List) > 3);
        let warnings = warnings(&mux);
        assert_eq!(warnings.len(), 1, "once is enough: {warnings:#?}");
        for words in [
            "does not let us list endpointslices in the namespace shop",
            "get, list and watch on endpointslices of discovery.k8s.io",
        ] {
            assert!(warnings[0].contains(words), "{warnings:?}");
        }
        assert!(endpoints(&mux).is_empty());
        api.allow();
        wait_until_it_has(&mux, &[("up", pod.address())]);
        let nginx = Nginx::site(&pods.scripts(), mux.socket()).start();
        Load::on(nginx.address(), |_| Request::echo("GET", 100)).count(5).run().assert_clean();
    });
}

/// The token of a living client is read again about once a minute, before anybody refuses it.
#[test]
#[ignore = "takes two minutes"]
fn stress_a_token_that_rotates_is_used_before_the_old_one_is_refused() {
    bounded(3 * LIMIT, || {
        let (api, folder) = (KubeApi::start(), Folder::new());
        api.apply(Slice::of("shop/php", "php-abc").port("fastcgi", 9000).ready("127.0.0.2"));
        let token = folder.write("token", "old");
        let text = crate::support::kubernetes::kubeconfig(
            &format!("server: {}", api.url()),
            "shop",
            &format!("{{tokenFile: {}}}", token.display()),
        );
        let kubeconfig = folder.write("kubeconfig", &text);
        let way = format!("KUBECONFIG={}", kubeconfig.display());
        let mux = Fcgimux::behind(&["env", &way], &configuration("service: php"));
        wait_until("it watches", || api.watches() > 0);
        fs::write(&token, "new").expect("write the token");
        thread::sleep(LIMIT);
        api.end_watches();
        wait_until("it watches again", || api.watches() > 1);
        assert_eq!(api.asked().last().and_then(|asked| asked.token.clone()).as_deref(), Some("new"));
        thread::sleep(SECOND);
        assert!(warnings(&mux).is_empty(), "{:?}", warnings(&mux));
    });
}
