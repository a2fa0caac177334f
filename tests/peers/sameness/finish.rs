//! Nobody waits for work that another one's script does behind its answer.

use std::{
    thread,
    time::{Duration, Instant},
};

use super::{
    case::Case,
    client::{Kept, ask, get},
    seen::Seen,
    site::{nginx, nginx_kept},
    stage::{Application, Side},
};

/// So many requests before the one that goes on working.
const QUICK: usize = 1_000;
/// For the next answer, on a machine that does other things as well.
const IN_TIME: Duration = Duration::from_millis(150);

pub(crate) fn waits_for_nobody() -> Vec<Case> {
    let case = |clients: usize| {
        Case::new(format!("a request behind fastcgi_finish_request(), {clients} clients"))
            .before(|theme| Application::php(theme, |php| php, |mux| mux))
            .script("finish.php", "echo \"done\\n\"; fastcgi_finish_request(); sleep(4); note('worked');")
            .does(move |side| waits(side, clients))
            .in_turn()
            .no_later_than(Duration::from_secs(10))
            .unledgered()
    };
    vec![case(1).on(nginx()), case(2).on(nginx()), case(4).on(nginx()), case(1).on(nginx_kept())]
}

fn waits(side: &Side<'_>, clients: usize) -> Seen {
    thread::scope(|scope| {
        for _ in 0..clients {
            scope.spawn(|| {
                let mut kept = Kept::to(side.address());
                for _ in 0..QUICK / clients {
                    assert_eq!(kept.ask(&get("/ok.php")).status(), 200);
                }
            });
        }
    });
    let finished = ask(side.address(), &get("/finish.php"));
    let mut slowest = Duration::ZERO;
    let mut answers = vec![finished];
    for _ in 0..3 {
        let start = Instant::now();
        answers.push(ask(side.address(), &get("/ok.php")));
        slowest = slowest.max(start.elapsed());
    }
    // A web server that keeps connections waits directly: for the worker that it has kept.
    let late = (side.is_through() && slowest > IN_TIME).then(|| format!("{}: waited {slowest:?}", side.name()));
    answers.into_iter().collect::<Seen>().late(late)
}
