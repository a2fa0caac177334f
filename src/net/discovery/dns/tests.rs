//! Lookups against DNS servers that say what they are told to.

use super::{
    Addresses, Options,
    resolver::{Kind, Resolver, Trouble, addresses},
    schedule::{Known, Question},
    srv::Services,
    system::Files,
};
use crate::config::EndpointAddress;
use hickory_resolver::proto::{
    op::{Message, ResponseCode},
    rr::{
        Name, RData, Record,
        rdata::{CNAME, SRV},
    },
};
use std::{
    collections::HashMap,
    fs,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, UdpSocket},
    task::JoinHandle,
};

/// What is said to `name TYPE`; to anything else, that there is no such name.
type Zone = HashMap<String, Reply>;

#[derive(Clone)]
enum Reply {
    Records(Vec<RData>),
    /// With records of other names beside them.
    Beside(Vec<RData>, Vec<(&'static str, RData)>),
    Code(ResponseCode),
    Silence,
}

/// Of every record.
const TTL: u32 = 3;
const LIFETIME: Duration = Duration::from_secs(3);

struct Server {
    address: SocketAddr,
    zone: Arc<Mutex<Zone>>,
    /// `name TYPE`, in the order of arrival, each repetition left out.
    asked: Arc<Mutex<Vec<String>>>,
    task: JoinHandle<()>,
}

impl Server {
    async fn start<'a>(zone: impl IntoIterator<Item = (&'a str, Reply)>) -> Self {
        // The same port for both, which another may have taken for one of them.
        let (socket, listener) = loop {
            let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
            if let Ok(listener) = TcpListener::bind(socket.local_addr().unwrap()).await {
                break (socket, listener);
            }
        };
        let address = socket.local_addr().unwrap();
        let zone = zone.into_iter().map(|(question, reply)| (question.to_owned(), reply)).collect();
        let zone = Arc::new(Mutex::new(zone));
        let asked = Arc::<Mutex<Vec<String>>>::default();
        let task = tokio::spawn(serve(socket, listener, zone.clone(), asked.clone()));
        Self { address, zone, asked, task }
    }

    fn says(&self, question: &str, reply: Reply) {
        self.zone.lock().unwrap().insert(question.to_owned(), reply);
    }

    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.asked.lock().unwrap())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Over UDP, and what is too long for that over TCP.
async fn serve(socket: UdpSocket, listener: TcpListener, zone: Arc<Mutex<Zone>>, asked: Arc<Mutex<Vec<String>>>) {
    let (mut packet, mut length) = ([0; 4096], [0; 2]);
    loop {
        tokio::select! {
            received = socket.recv_from(&mut packet) => {
                let (length, peer) = received.unwrap();
                let request = Message::from_vec(&packet[..length]).unwrap();
                let Some(response) = answer(&request, &zone, &asked) else { continue };
                let mut bytes = response.to_vec().unwrap();
                if bytes.len() > request.max_payload().into() {
                    bytes = response.truncate().to_vec().unwrap();
                }
                socket.send_to(&bytes, peer).await.unwrap();
            }
            accepted = listener.accept() => {
                let mut stream = accepted.unwrap().0;
                stream.read_exact(&mut length).await.unwrap();
                let length = usize::from(u16::from_be_bytes(length));
                stream.read_exact(&mut packet[..length]).await.unwrap();
                let request = Message::from_vec(&packet[..length]).unwrap();
                let Some(response) = answer(&request, &zone, &asked) else { continue };
                let bytes = response.to_vec().unwrap();
                stream.write_all(&u16::try_from(bytes.len()).unwrap().to_be_bytes()).await.unwrap();
                stream.write_all(&bytes).await.unwrap();
            }
        }
    }
}

fn answer(request: &Message, zone: &Mutex<Zone>, asked: &Mutex<Vec<String>>) -> Option<Message> {
    let query = request.queries[0].clone();
    let question = format!("{} {}", query.name(), query.query_type());
    let reply = zone.lock().unwrap().get(&question).cloned().unwrap_or(Reply::Code(ResponseCode::NXDomain));
    let mut asked = asked.lock().unwrap();
    if asked.last() != Some(&question) {
        asked.push(question);
    }
    let mut response = Message::response(request.metadata.id, request.metadata.op_code);
    response.add_query(query.clone());
    let record = |data| Record::from_rdata(query.name().clone(), TTL, data);
    match reply {
        Reply::Records(records) => response.add_answers(records.into_iter().map(record)),
        Reply::Beside(records, beside) => response
            .add_answers(records.into_iter().map(record))
            .add_additionals(beside.into_iter().map(|(name, data)| Record::from_rdata(full(name), TTL - 1, data))),
        Reply::Code(code) => {
            response.metadata.response_code = code;
            &mut response
        }
        Reply::Silence => return None,
    };
    Some(response)
}

fn full(name: &str) -> Name {
    Name::from_ascii(name).unwrap()
}

fn ips(texts: &[&str]) -> Vec<IpAddr> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn hosts(texts: &[&str]) -> Reply {
    Reply::Records(ips(texts).into_iter().map(RData::from).collect())
}

fn target(priority: u16, weight: u16, port: u16, name: &str) -> RData {
    RData::SRV(SRV::new(priority, weight, port, full(name)))
}

const NO_RECORD: fn() -> Reply = || Reply::Records(vec![]);

/// With these servers, and resolv.conf and hosts of these texts.
fn resolver(name: &str, servers: &[&Server], resolv_conf: &str, hosts: &str) -> (Resolver, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("resolv.conf"), resolv_conf).unwrap();
    fs::write(folder.path().join("hosts"), hosts).unwrap();
    let servers: Vec<_> = servers.iter().map(|server| server.address).collect();
    (Resolver::with_files(name, &servers, Files::of(folder.path())), folder)
}

/// Just the addresses, or the trouble.
async fn find(resolver: &mut Resolver) -> Result<Vec<IpAddr>, Trouble> {
    resolver.find(Kind::Addresses).await.map(|answer| addresses(&answer.records).collect())
}

fn options(weight: u32) -> Options {
    Options { servers: vec![], refresh: LIFETIME, weight, zone: Some("a".into()) }
}

/// Address, weight.
fn shown(known: &Known) -> Vec<(String, u32)> {
    known.found.iter().map(|found| (found.address.to_string(), found.weight)).collect()
}

fn at(address: &str, weight: u32) -> (String, u32) {
    (address.to_owned(), weight)
}

#[tokio::test]
async fn every_address_of_a_name_is_an_endpoint() {
    let server = Server::start([("php.shop. A", hosts(&["10.0.0.2", "10.0.0.1", "10.0.0.2"]))]).await;
    let (resolver, _folder) = resolver("php.shop", &[&server], "", "");
    let mut addresses = Addresses { resolver, port: 9000, options: options(4) };
    let known = addresses.ask().await.unwrap();
    assert_eq!(shown(&known), [at("10.0.0.1:9000", 4), at("10.0.0.2:9000", 4)]);
    assert_eq!((known.lifetime, &known.found[0].zones), (LIFETIME, &vec!["a".to_owned()]));
    assert_eq!(server.asked(), ["php.shop. A"]);
}

#[tokio::test]
async fn addresses_of_ipv6_count_where_there_are_none_of_ipv4() {
    let server = Server::start([("six. A", NO_RECORD()), ("six. AAAA", hosts(&["fd00::1"]))]).await;
    let (mut resolver, _folder) = resolver("six", &[&server], "", "");
    assert_eq!(find(&mut resolver).await, Ok(ips(&["fd00::1"])));
    server.says("six. A", hosts(&["10.0.0.1"]));
    assert_eq!(find(&mut resolver).await, Ok(ips(&["10.0.0.1"])));
    assert_eq!(server.asked(), ["six. A", "six. AAAA", "six. A"]);
}

#[tokio::test]
async fn nothing_is_remembered_between_two_lookups() {
    let server = Server::start([("php. A", hosts(&["10.0.0.1"]))]).await;
    let (mut resolver, _folder) = resolver("php", &[&server], "", "");
    for last in 1..20_u8 {
        let ip = format!("10.0.0.{last}");
        server.says("php. A", hosts(&[&ip]));
        assert_eq!(find(&mut resolver).await, Ok(ips(&[&ip])));
    }
    server.says("php. A", NO_RECORD());
    server.says("php. AAAA", NO_RECORD());
    for _ in 0..2 {
        assert_eq!(find(&mut resolver).await, Err(Trouble::Nothing("php. has no AAAA record".into())));
    }
    server.says("php. A", hosts(&["10.0.0.1"]));
    assert_eq!(find(&mut resolver).await, Ok(ips(&["10.0.0.1"])));
}

#[tokio::test]
async fn an_alias_is_followed_and_lives_as_long_as_its_shortest_record() {
    let alias = Reply::Records(vec![RData::CNAME(CNAME(full("real.")))]);
    let server = Server::start([("php. A", alias), ("real. A", hosts(&["10.0.0.1"]))]).await;
    let (mut resolver, _folder) = resolver("php", &[&server], "", "");
    let answer = resolver.find(Kind::Addresses).await.unwrap();
    assert_eq!((addresses(&answer.records).collect(), answer.lifetime), (ips(&["10.0.0.1"]), LIFETIME));
    server.says("real. A", Reply::Code(ResponseCode::NXDomain));
    assert!(matches!(find(&mut resolver).await, Err(Trouble::Nothing(_))));
}

#[tokio::test]
async fn a_server_that_does_not_answer_has_the_next_one_asked_from_then_on() {
    let answer = || [("php. A", hosts(&["10.0.0.1"]))];
    let (first, second) = (Server::start(answer()).await, Server::start(answer()).await);
    for broken in [Reply::Silence, Reply::Code(ResponseCode::ServFail), Reply::Code(ResponseCode::Refused)] {
        let (mut resolver, _folder) = resolver("php", &[&first, &second], "", "");
        first.says("php. A", broken);
        assert_eq!(find(&mut resolver).await, Ok(ips(&["10.0.0.1"])));
        assert_eq!(second.asked(), ["php. A"]);
        first.asked();
        assert_eq!(find(&mut resolver).await, Ok(ips(&["10.0.0.1"])));
        assert_eq!((first.asked().len(), second.asked().len()), (0, 1));
        second.says("php. A", Reply::Code(ResponseCode::ServFail));
        let Err(Trouble::Failed(words)) = find(&mut resolver).await else { panic!("nobody answers") };
        assert!(words.starts_with("cannot look php. up: "), "{words}");
        for part in [first.address.to_string(), format!("{}: ServFail", second.address)] {
            assert!(words.contains(&part), "{words}");
        }
        second.says("php. A", hosts(&["10.0.0.1"]));
    }
}

#[tokio::test]
async fn what_the_next_server_does_not_know_is_no_answer_while_the_first_is_silent() {
    let (first, second) = (Server::start([]).await, Server::start([]).await);
    let (mut resolver, _folder) = resolver("php", &[&first, &second], "", "");
    for broken in [Reply::Silence, Reply::Code(ResponseCode::ServFail)] {
        first.says("php. A", hosts(&["10.0.0.1"]));
        assert_eq!(find(&mut resolver).await, Ok(ips(&["10.0.0.1"])));
        first.says("php. A", broken);
        let Err(Trouble::Failed(words)) = find(&mut resolver).await else {
            panic!("the second one is for other names")
        };
        assert!(words.contains(&second.address.to_string()), "{words}");
        assert_eq!(second.asked(), ["php. A"]);
    }
    // The first is asked first again as soon as it is back, whatever it says.
    first.says("php. A", Reply::Code(ResponseCode::NXDomain));
    assert!(matches!(find(&mut resolver).await, Err(Trouble::Nothing(_))));
    // Of another type it may have some.
    first.says("php. A", Reply::Silence);
    second.says("php. A", NO_RECORD());
    second.says("php. AAAA", hosts(&["fd00::1"]));
    first.says("php. AAAA", Reply::Silence);
    assert_eq!(find(&mut resolver).await, Ok(ips(&["fd00::1"])));
}

#[tokio::test]
async fn a_server_that_is_not_there_is_told_from_one_that_knows_nothing() {
    let gone = Server::start([]).await;
    gone.task.abort();
    tokio::task::yield_now().await;
    let (mut broken, _folder) = resolver("php", &[&gone], "", "");
    assert!(matches!(find(&mut broken).await, Err(Trouble::Failed(_))));
    let server = Server::start([]).await;
    let (mut resolver, _folder) = resolver("php", &[&server], "", "");
    assert_eq!(find(&mut resolver).await, Err(Trouble::Nothing("php. does not exist".into())));
}

const IN_A_CLUSTER: &str = "search web.local svc.local\noptions ndots:5\n";

#[tokio::test]
async fn a_name_is_asked_where_it_was_found_and_nowhere_else() {
    let server =
        Server::start([("php.shop.svc.local. A", hosts(&["10.0.0.1"])), ("php.shop. A", hosts(&["9.9.9.9"]))]).await;
    let (mut resolver, _folder) = resolver("php.shop", &[&server], IN_A_CLUSTER, "");
    assert_eq!(find(&mut resolver).await, Ok(ips(&["10.0.0.1"])));
    assert_eq!(server.asked(), ["php.shop.web.local. A", "php.shop.svc.local. A"]);
    assert_eq!(find(&mut resolver).await, Ok(ips(&["10.0.0.1"])));
    assert_eq!(server.asked(), ["php.shop.svc.local. A"]);
    server.says("php.shop.svc.local. A", Reply::Code(ResponseCode::NXDomain));
    let gone = Err(Trouble::Nothing("php.shop.svc.local. does not exist".into()));
    assert_eq!(find(&mut resolver).await, gone);
    assert_eq!(server.asked(), ["php.shop.svc.local. A"]);
}

#[tokio::test]
async fn a_domain_that_cannot_be_asked_leaves_open_where_the_name_is() {
    let server = Server::start([
        ("php.shop.web.local. A", Reply::Code(ResponseCode::ServFail)),
        ("php.shop. A", hosts(&["10.0.0.2"])),
    ])
    .await;
    let (mut resolver, _folder) = resolver("php.shop", &[&server], IN_A_CLUSTER, "");
    assert_eq!(find(&mut resolver).await, Ok(ips(&["10.0.0.2"])));
    server.says("php.shop. A", Reply::Code(ResponseCode::NXDomain));
    let Err(Trouble::Failed(words)) = find(&mut resolver).await else { panic!("it may be in web.local") };
    assert!(words.contains("php.shop.web.local."), "{words}");
    server.says("php.shop.web.local. A", hosts(&["10.0.0.1"]));
    assert_eq!(find(&mut resolver).await, Ok(ips(&["10.0.0.1"])));
}

#[tokio::test]
async fn a_name_of_the_hosts_file_is_not_asked_for_and_may_change() {
    let server = Server::start([("db. A", hosts(&["10.0.0.9"]))]).await;
    let (mut resolver, folder) = resolver("db", &[&server], "", "10.0.0.1 db\n10.0.0.2 db\nfd00::1 db\n");
    assert_eq!(find(&mut resolver).await, Ok(ips(&["10.0.0.1", "10.0.0.2"])));
    assert!(server.asked().is_empty());
    fs::write(folder.path().join("hosts"), "").unwrap();
    assert_eq!(find(&mut resolver).await, Ok(ips(&["10.0.0.9"])));
}

/// Those that a service's records lead to.
async fn services(server: &Server, weight: u32) -> Result<Known, Trouble> {
    let (resolver, _folder) = resolver("_f._tcp.php", &[server], "", "10.0.0.7 listed\n");
    Services { resolver, options: options(weight) }.ask().await
}

#[tokio::test]
async fn targets_come_with_their_ports_and_weights() {
    let records = vec![target(0, 10, 9000, "a."), target(0, 20, 9001, "b."), target(0, 10, 9002, "listed.")];
    let server = Server::start([
        ("_f._tcp.php. SRV", Reply::Records(records)),
        ("a. A", hosts(&["10.0.0.1", "10.0.0.2"])),
        ("b. A", hosts(&["10.0.0.1"])),
    ])
    .await;
    let known = services(&server, 3).await.unwrap();
    let expected = [at("10.0.0.1:9000", 3), at("10.0.0.1:9001", 6), at("10.0.0.2:9000", 3), at("10.0.0.7:9002", 3)];
    assert_eq!(shown(&known), expected);
    assert_eq!(known.lifetime, LIFETIME);
    assert!(known.found.iter().all(|found| matches!(found.address, EndpointAddress::Tcp(_))));
}

#[tokio::test]
async fn addresses_that_come_along_are_not_asked_for() {
    let beside = ["10.0.0.2", "fd00::2"].map(|ip| ("b.", RData::from(ip.parse::<IpAddr>().unwrap())));
    let records = vec![target(0, 0, 9000, "a."), target(0, 0, 9000, "b.")];
    let server =
        Server::start([("_f._tcp.php. SRV", Reply::Beside(records, beside.into())), ("a. A", hosts(&["10.0.0.1"]))])
            .await;
    let known = services(&server, 1).await.unwrap();
    assert_eq!(shown(&known), [at("10.0.0.1:9000", 1), at("10.0.0.2:9000", 1)]);
    assert_eq!(known.lifetime, LIFETIME - Duration::from_secs(1));
    assert_eq!(server.asked(), ["_f._tcp.php. SRV", "a. A"]);
}

#[tokio::test]
async fn a_reserve_is_used_when_those_before_it_have_no_address_left() {
    let records = vec![target(1, 0, 9000, "a."), target(2, 5, 9000, "b."), target(2, 5, 9000, "c.")];
    let server = Server::start([
        ("_f._tcp.php. SRV", Reply::Records(records)),
        ("a. A", hosts(&["10.0.0.1"])),
        ("b. A", hosts(&["10.0.0.2"])),
    ])
    .await;
    assert_eq!(shown(&services(&server, 1).await.unwrap()), [at("10.0.0.1:9000", 1)]);
    server.says("a. A", Reply::Code(ResponseCode::ServFail));
    assert!(matches!(services(&server, 1).await, Err(Trouble::Failed(_))), "it may have some");
    server.says("a. A", Reply::Code(ResponseCode::NXDomain));
    assert_eq!(shown(&services(&server, 1).await.unwrap()), [at("10.0.0.2:9000", 1)]);
    server.says("b. A", Reply::Code(ResponseCode::NXDomain));
    assert!(matches!(services(&server, 1).await, Err(Trouble::Nothing(_))));
}

#[tokio::test]
async fn a_service_that_is_said_not_to_be_offered_has_no_endpoints() {
    let server = Server::start([("_f._tcp.php. SRV", Reply::Records(vec![target(0, 0, 0, ".")]))]).await;
    let words = "_f._tcp.php is said not to be offered";
    assert_eq!(services(&server, 1).await, Err(Trouble::Nothing(words.into())));
}

#[tokio::test]
async fn hundreds_of_addresses_are_found() {
    let all: Vec<_> = (1..=200).map(|number| format!("10.0.0.{number}")).collect();
    let all: Vec<_> = all.iter().map(String::as_str).collect();
    let server = Server::start([("php. A", hosts(&all))]).await;
    let (mut resolver, _folder) = resolver("php", &[&server], "", "");
    for _ in 0..3 {
        assert_eq!(find(&mut resolver).await, Ok(ips(&all)));
    }
}

#[tokio::test]
async fn hundreds_of_targets_are_found() {
    let records = (1..=200).map(|number| target(0, 0, 9000, &format!("p{number}."))).collect();
    let server = Server::start([("_f._tcp.php. SRV", Reply::Records(records))]).await;
    for number in 1..=200 {
        server.says(&format!("p{number}. A"), hosts(&[&format!("10.0.0.{number}")]));
    }
    assert_eq!(services(&server, 1).await.unwrap().found.len(), 200);
}
