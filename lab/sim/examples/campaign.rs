//! A campaign from the command line, as `vpc-lab sim` runs it.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a tool for those who work on the simulator")]

fn main() {
    let mut arguments = std::env::args().skip(1).map(|a| a.parse::<u64>().unwrap());
    let (seed, steps, jobs, acts) = (
        arguments.next().unwrap_or(1),
        arguments.next().unwrap_or(100_000),
        arguments.next().unwrap_or(1),
        arguments.next().unwrap_or(500),
    );
    let campaign = lab_sim::Campaign { seed, steps, jobs: jobs as usize, acts: acts as u32 };
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
    }
}
