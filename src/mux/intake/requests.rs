//! The requests of one connection, by id: those being taken in and those that run.

use super::Stream;
use crate::{
    mux::policy::Findings,
    wire::{BeginRequest, Role},
};

/// How much of a request has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    Params,
    Stdin,
    /// The file of a Filter, behind its STDIN.
    Data,
    Whole,
}

/// A request whose exchange has not ended. `B` is what the driver keeps of it.
#[derive(Debug)]
pub(super) struct Open<B> {
    pub(super) id: u16,
    pub(super) role: Role,
    pub(super) keep_conn: bool,
    pub(super) stage: Stage,
    /// The driver has been told of it, and its exchange runs.
    pub(super) announced: bool,
    /// Empty once it has been announced.
    pub(super) params: Vec<u8>,
    /// Set with the empty PARAMS record.
    pub(super) findings: Option<Findings>,
    /// Bytes of STDIN that have been announced by the headers of their records.
    pub(super) body: u64,
    /// Those that have come.
    pub(super) arrived: u64,
    /// The record that ends its last stream has come; one that is whole may still lack it.
    pub(super) ended: bool,
    /// Something of it has come that the driver has not been told of.
    pub(super) touched: bool,
    pub(super) store: B,
}

impl<B> Open<B> {
    /// Nothing more is to come of it.
    pub(super) fn is_whole(&self) -> bool {
        self.stage == Stage::Whole || (self.announced && self.role == Role::Authorizer)
    }

    /// The stream that comes last.
    pub(super) fn last_stream(&self) -> Stream {
        if self.role == Role::Filter { Stream::Data } else { Stream::Stdin }
    }

    /// What CONTENT_LENGTH says.
    pub(super) fn length(&self) -> Option<u64> {
        self.findings.as_ref().and_then(|findings| findings.content_length)
    }

    /// Its params say that no body follows, so that there is no end of STDIN to wait for; php-fpm runs such a request at once.
    pub(super) fn is_known_to_be_bodiless(&self) -> bool {
        self.findings.as_ref().is_some_and(Findings::is_bodiless)
    }
}

/// Sorted by id. A web server has few requests on one connection, most often one.
#[derive(Debug)]
pub(super) struct Requests<B> {
    open: Vec<Open<B>>,
}

impl<B> Default for Requests<B> {
    fn default() -> Self {
        Self { open: vec![] }
    }
}

impl<B: Default> Requests<B> {
    /// The id must be free.
    pub(super) fn begin(&mut self, id: u16, begin: BeginRequest) {
        let BeginRequest { role, keep_conn } = begin;
        let store = B::default();
        let (stage, params) = (Stage::Params, vec![]);
        let open = Open {
            id,
            role,
            keep_conn,
            stage,
            announced: false,
            params,
            findings: None,
            body: 0,
            arrived: 0,
            ended: false,
            touched: true,
            store,
        };
        let at = self.place(id).unwrap_or_else(|free| free);
        // One is all that most connections ever have; room for more would cost each that waits.
        if self.open.is_empty() {
            self.open.reserve_exact(1);
        }
        self.open.insert(at, open);
    }

    pub(super) fn remove(&mut self, id: u16) -> Option<Open<B>> {
        self.place(id).ok().map(|at| self.open.remove(at))
    }

    pub(super) fn get(&self, id: u16) -> Option<&Open<B>> {
        self.place(id).ok().map(|at| &self.open[at])
    }

    pub(super) fn get_mut(&mut self, id: u16) -> Option<&mut Open<B>> {
        self.place(id).ok().map(|at| &mut self.open[at])
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Open<B>> {
        self.open.iter()
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Open<B>> {
        self.open.iter_mut()
    }

    /// The one that there is, if there is but one.
    pub(super) fn only(&self) -> Option<&Open<B>> {
        if let [only] = self.open.as_slice() { Some(only) } else { None }
    }

    pub(super) fn retain(&mut self, keep: impl FnMut(&Open<B>) -> bool) {
        self.open.retain(keep);
    }

    pub(super) fn len(&self) -> usize {
        self.open.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    fn place(&self, id: u16) -> Result<usize, usize> {
        match self.open.as_slice() {
            [only] if only.id == id => Ok(0),
            open => open.binary_search_by_key(&id, |open| open.id),
        }
    }
}
