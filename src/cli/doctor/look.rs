//! Looks at an application: on one connection at a time, with a few requests at most.

use std::{str::from_utf8, time::Duration};

use fcgimux::{
    mux::{
        channel::Values,
        scoreboard::{PAGE_AT_MOST, QUERY, Scoreboard},
    },
    wire::Pairs,
};
use tokio::time::sleep;

use super::{
    Doctor,
    findings::{Announced, Asked, Findings, RoundTrips, Status},
};
use crate::cli::client::{Connection, Failure, Head, Kind, Output, Request, Target};

/// Between two probes: with a few dozen of them a pause of the other side has a chance to be met.
const BETWEEN: Duration = Duration::from_millis(10);
/// An application that closes behind an answer does it at once, and the end may come a moment after.
const CLOSES_WITHIN: Duration = Duration::from_millis(50);

/// # Errors
/// It cannot be reached, or does not answer GET_VALUES.
pub(super) async fn look(doctor: &Doctor) -> Result<Findings, Failure> {
    let limit = doctor.timeout;
    let addresses = doctor.target.addresses().await?;
    let mut connection = doctor.target.connect(limit).await?;
    let (address, connect) = (connection.address().to_owned(), connection.opened_in());
    let others = addresses.iter().map(ToString::to_string).filter(|other| *other != address).collect();
    let told = connection.ask(limit).await?;
    let times = probe(&mut connection, doctor).await;
    let mut findings = Findings {
        address,
        others,
        connect,
        values: Announced::read(&told.content),
        proof: told.took,
        keeps_behind_values: !times.is_empty(),
        round_trips: RoundTrips::of(times),
        requests: vec![],
        request_failed: None,
        keeps_behind_request: None,
        status: Err("not looked for".to_owned()),
    };
    findings.make_requests(doctor, connection).await;
    if let Some(target) = &doctor.status_address {
        findings.status = status_at(target, doctor).await;
    }
    Ok(findings)
}

/// The page, on a connection of its own.
pub(super) async fn status_at(target: &Target, doctor: &Doctor) -> Result<Status, String> {
    let ask = async {
        let mut connection = target.connect(doctor.timeout).await?;
        let address = connection.address().to_owned();
        let (asked, body) = ask(&mut connection, &doctor.status, QUERY, false, doctor.timeout).await?;
        connection.reset();
        Ok::<_, Failure>((address, asked, body))
    };
    let (address, asked, body) = ask.await.map_err(|failure| failure.to_string())?;
    read_status(address, &asked, &body)
}

/// How long further answers took, one after the other; none where the connection was closed behind the first one.
async fn probe(connection: &mut Connection, doctor: &Doctor) -> Vec<Duration> {
    let mut times = vec![];
    if connection.closes_within(CLOSES_WITHIN).await {
        return times;
    }
    while times.len() < usize::from(doctor.probes) {
        match connection.ask(doctor.timeout).await {
            Ok(told) => times.push(told.took),
            Err(_) => break,
        }
        sleep(BETWEEN).await;
    }
    times
}

impl Findings {
    /// Two of the same on one connection, and the status page if it is not one of them.
    async fn make_requests(&mut self, doctor: &Doctor, mut connection: Connection) {
        let mut scripts = vec![doctor.script.as_ref().unwrap_or(&doctor.status); 2];
        if doctor.script.is_some() && doctor.status_address.is_none() {
            scripts.push(&doctor.status);
        }
        for script in scripts {
            if connection.is_gone() {
                match doctor.target.connect(doctor.timeout).await {
                    Ok(another) => connection = another,
                    Err(failure) => return self.request_failed = Some(failure.to_string()),
                }
            }
            let query = if *script == doctor.status { QUERY } else { "" };
            match ask(&mut connection, script, query, true, doctor.timeout).await {
                Ok((asked, body)) => {
                    if *script == doctor.status {
                        self.status = read_status(connection.address().to_owned(), &asked, &body);
                    }
                    self.requests.push(asked);
                }
                // It went out as the end of the connection came in.
                Err(failure) if failure.kind == Kind::Closed && !self.requests.is_empty() => {}
                Err(failure) => return self.request_failed = Some(failure.to_string()),
            }
            let closes = connection.closes_within(CLOSES_WITHIN).await;
            // Once closed, it does not keep.
            self.keeps_behind_request = Some(!closes && self.keeps_behind_request.unwrap_or(true));
        }
        connection.reset();
    }
}

/// One request, and its body.
async fn ask(
    connection: &mut Connection,
    script: &str,
    query: &str,
    keep: bool,
    limit: Duration,
) -> Result<(Asked, Vec<u8>), Failure> {
    let (script, more) = script.split_once('?').unwrap_or((script, query));
    let request = Request::get(script, more).encode(connection.next_id(), keep);
    let (mut head, mut body) = (Head::default(), vec![]);
    let answer = connection.exchange(&request, limit, |output| {
        if let Output::Out(bytes) = output {
            let bytes = head.take(bytes).unwrap_or_default();
            body.extend_from_slice(&bytes[..bytes.len().min(PAGE_AT_MOST - body.len())]);
        }
        Ok(())
    });
    let took = answer.await?.times.end.unwrap_or_default();
    if !head.is_whole() {
        let what = format!("{}: {script} was answered without a header block", connection.address());
        return Err(Failure::new(Kind::Strange, what));
    }
    let (status, powered_by) = (head.status(), head.field("X-Powered-By"));
    Ok((Asked { script: script.to_owned(), status, took, powered_by }, body))
}

fn read_status(address: String, asked: &Asked, body: &[u8]) -> Result<Status, String> {
    let path = asked.script.clone();
    match asked.status {
        200 => match Scoreboard::parse(body) {
            Ok(board) => Ok(Status { address, path, board }),
            Err(error) => Err(format!("{path} at {address}: {error}")),
        },
        status => Err(format!("{path} at {address} has status {status}")),
    }
}

impl Announced {
    fn read(content: &[u8]) -> Self {
        let text = |bytes| from_utf8(bytes).unwrap_or("?").to_owned();
        let pairs = Pairs::new(content).filter_map(Result::ok).map(|(name, value)| (text(name), text(value)));
        Self { values: Values::decode(content), pairs: pairs.collect() }
    }
}
