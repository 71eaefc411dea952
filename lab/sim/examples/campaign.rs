//! A campaign from the command line, as `vpc-lab sim` runs it, without the rest of that program.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a tool for those who work on the simulator")]

fn main() {
    let mut arguments = std::env::args().skip(1).map(|a| a.parse::<u64>().unwrap());
    let (seed, steps, jobs, acts) = (
        arguments.next().unwrap_or(1),
        arguments.next().unwrap_or(100_000),
        arguments.next().unwrap_or(1),
        arguments.next().unwrap_or(500),
    );
    let small = std::env::var_os("SMALL").is_some();
    let campaign = lab_sim::Campaign { seed, steps, jobs: jobs as usize, acts: acts as u32 };
    lab_sim::quiet_panics();
    let begin = std::time::Instant::now();
    let finding = campaign.run(10, &|_| ());
    let took = begin.elapsed().as_secs_f64();
    println!(
        "{} histories, {} steps, {} calls, {took:.1} s, {:.0} steps/s",
        finding.histories,
        finding.steps,
        finding.calls,
        finding.steps as f64 / took
    );
    for found in &finding.found {
        println!("{} (seed {}): {}", found.number, found.history.seed, found.why);
        println!("   {:?}", found.history.features);
        if small {
            let begin = std::time::Instant::now();
            let limits = lab_sim::Limits::default();
            let shrunk = lab_sim::shrink(&found.history, &found.why, limits, &mut |_| true);
            println!(
                "   {} of {} acts, {} runs, {} steps, {:.1} s: {}",
                shrunk.history.acts.len(),
                found.history.acts.len(),
                shrunk.runs,
                shrunk.steps,
                begin.elapsed().as_secs_f64(),
                shrunk.why
            );
            println!("{}\n{}", shrunk.history.to_text().unwrap(), lab_sim::replay(&shrunk.history).unwrap().story);
        }
    }
}
