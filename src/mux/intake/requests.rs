//! The requests of one connection, by id: those being taken in and those that run.

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
    /// Bytes of STDIN so far.
    pub(super) body: u64,
    pub(super) store: B,
}

impl<B> Open<B> {
    /// Nothing more is to come of it.
    pub(super) fn is_whole(&self) -> bool {
        self.stage == Stage::Whole || (self.announced && self.role == Role::Authorizer)
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
        let open = Open { id, role, keep_conn, stage, announced: false, params, findings: None, body: 0, store };
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
