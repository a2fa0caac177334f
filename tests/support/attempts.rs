//! Judgements of time on a machine that others use as well.

/// Judged again so often before it counts.
const ATTEMPTS: u32 = 3;

/// Runs `attempt` until it is satisfied, three times at most. For timing only: what is right or wrong on any machine is
/// asserted inside, and fails at once. An error says what was measured.
#[track_caller]
pub fn in_three_attempts(mut attempt: impl FnMut() -> Result<(), String>) {
    let mut measured = Vec::new();
    for _ in 0..ATTEMPTS {
        match attempt() {
            Ok(()) => return,
            Err(words) => {
                println!("not in time: {words}");
                measured.push(words);
            }
        }
    }
    panic!("not in time in {ATTEMPTS} attempts: {measured:#?}");
}
